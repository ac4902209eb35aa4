"""Progress on stderr: how far, how fast, how long still."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 10.0  # where stderr is a file, each refresh is one more line in it

_is_silent = False


def silence() -> None:
  """Shows no bar and says nothing from now on: of several processes, one speaks."""
  global _is_silent
  _is_silent = True


def bar(
  desc: str, total: int | None, *, initial: int = 0, unit: str = "it", quiet: bool = False
) -> Any:
  """Returns a tqdm bar on stderr; the caller calls `update()` and `close()`, or uses `with`."""
  interval = 0.2 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES
  return tqdm(
    desc=desc,
    total=total,
    initial=initial,
    unit=unit,
    mininterval=interval,
    dynamic_ncols=True,
    disable=quiet or _is_silent,
  )


def track(iterable: Iterable[T], desc: str, total: int | None = None) -> Iterator[T]:
  """Yields the items of `iterable` and shows progress; `total` defaults to its length, if any."""
  if total is None and hasattr(iterable, "__len__"):
    total = len(iterable)
  with bar(desc, total) as progress:
    for item in iterable:
      yield item
      progress.update()


def say(text: str) -> None:
  """Prints one line on stderr without breaking a bar that is being drawn."""
  if not _is_silent:
    tqdm.write(text, file=sys.stderr)

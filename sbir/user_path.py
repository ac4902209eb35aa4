"""Paths as users write them."""

import os
from collections.abc import Callable
from pathlib import Path

MAX_PATH = 4096  # letters; Linux opens none that is longer


def expand(path: str | os.PathLike[str]) -> str:
  """Returns a path with "~" made the folder of its user; unchanged where there is no such user."""
  try:
    return os.path.expanduser(path)
  except ValueError:  # a zero byte in the user's name
    return os.fspath(path)


def nearest(
  path: str | os.PathLike[str], is_there: Callable[[str | os.PathLike[str]], bool]
) -> Path:
  """Returns the first of a path and the folders it lies in of which `is_there` is true, or "."."""
  start = Path(os.fspath(path)[:MAX_PATH])
  return next((p for p in (start, *start.parents) if is_there(p)), Path())

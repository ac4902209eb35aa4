"""Ways of doing something, timed in turns, so that what slows the machine slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sbir import host_memory


class Timing(NamedTuple):
  """How long one way took, in seconds."""

  median: float
  low: float
  high: float
  seconds: tuple[float, ...]  # turn by turn


def interleaved(
  ways: Mapping[str, Callable[[], Any]], repeats: int, times: int = 1
) -> dict[str, Timing]:
  """Returns how long each way takes: A B A B ..., after a warm-up of each that is not counted.

  A way blocks until what it has started is done; jax's results are waited for here. In a turn each
  is done so many `times`, the last alone waited for, and the time is that of one.
  """
  taken: dict[str, list[float]] = {name: [] for name in ways}
  for way in ways.values():
    host_memory.make_room()
    _finish(way())
  for _ in range(repeats):
    for name, way in ways.items():
      host_memory.make_room()
      begun = time.perf_counter()
      for _ in range(times - 1):
        way()
      _finish(way())
      taken[name].append((time.perf_counter() - begun) / times)
  return {name: timing(seconds) for name, seconds in taken.items()}


def timing(seconds: list[float]) -> Timing:
  """Returns what these turns come to."""
  return Timing(statistics.median(seconds), min(seconds), max(seconds), tuple(seconds))


def rate(timing: Timing, num: int) -> dict[str, float]:
  """Returns what is done in a second, of `num` things that took the time."""
  return {"median": num / timing.median, "low": num / timing.high, "high": num / timing.low}


def times_faster(fast: Timing, slow: Timing) -> dict[str, float]:
  """Returns how many times faster one way is, turn against the turn beside it."""
  ratios = [b / a for a, b in zip(fast.seconds, slow.seconds, strict=True)]
  return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def spread(figure: Mapping[str, float], digits: int | None = None) -> str:
  """Returns a figure with its spread: "12.3 (11.9 to 12.8)"; below 10 with two digits."""
  digits = (1 if figure["median"] >= 10 else 2) if digits is None else digits
  median, low, high = (f"{figure[name]:.{digits}f}" for name in ("median", "low", "high"))
  return f"{median} ({low} to {high})"


def _finish(result: Any) -> None:
  import jax

  jax.block_until_ready(result)

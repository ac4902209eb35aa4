"""Sketches as they were while somebody drew them: only a first share of their strokes.

Of the embedded set the strokes are known. An image of pixels has none: there, `revealed` follows
its ink in an order of its own, which is not that of the hand that drew it.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from sbir.data.fit import fit_square
from sbir.data.resized import ResizedSource
from sbir.data.synthetic import sketch_in_part

PAPER = 255
INK = 0.25  # a pixel is ink from this share of the darkest pixel's darkness
AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
KNOWN = "its first strokes in the order they were drawn"
GUESSED = (
  "its ink in an order that stands in for the unknown one of the hand: connected lines, the "
  "longest first, each followed from its topmost end"
)


def partial_sketches(
  source: ResizedSource, data: Mapping[str, Any], index: int, shares: Sequence[float]
) -> UInt8[np.ndarray, "k s s 3"]:
  """Returns sketch `index` with only the first of each of `shares` (0..1) drawn; `source` was
  opened as `data`, a config's, says."""
  if data["source"] == "synthetic":
    drawn = sketch_in_part(source.records[index].key, shares, seed=data["seed"])
    return np.stack([fit_square(part, source.image_size, source.fit) for part in drawn])
  return np.stack(revealed(source.image(index), shares))


def how_revealed(data: Mapping[str, Any]) -> str:
  """Returns in words what `partial_sketches` shows of a sketch of this data."""
  return KNOWN if data["source"] == "synthetic" else GUESSED


def revealed(
  sketch: UInt8[np.ndarray, "h w 3"], shares: Sequence[float]
) -> list[UInt8[np.ndarray, "h w 3"]]:
  """Returns a sketch with the first of each of `shares` (0..1) of its ink, the rest white; the same
  every time.

  Ink comes in 8-connected components, the largest first; within one, pixels come in the order of
  their distance along the ink from its topmost pixel, the leftmost of these.
  """
  dark = PAPER - sketch.min(axis=2).astype(float)
  order = ink_order((dark >= INK * dark.max()) & (dark > 0))
  return [sketch if share >= 1 else _until(sketch, order, share) for share in shares]


def _until(sketch: np.ndarray, order: np.ndarray, share: float) -> np.ndarray:
  is_shown = order <= np.ceil(share * order.max())  # ranks from 1; paper has 0
  drawn = np.pad(is_shown & (order > 0), 1)
  near = np.zeros_like(is_shown)  # with the pixels around, which are the soft edge of a line
  for dy, dx in [(0, 0), *AROUND]:
    near |= drawn[1 + dy : 1 + dy + near.shape[0], 1 + dx : 1 + dx + near.shape[1]]
  return np.where((near & is_shown)[..., None], sketch, PAPER).astype(np.uint8)


def ink_order(is_ink: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
  """Returns when each pixel of ink comes, from 1; 0 where there is none."""
  left = set(zip(*(axis.tolist() for axis in np.nonzero(is_ink)), strict=True))
  lines = []
  for start in sorted(left):  # by row, then by column
    if start in left:
      lines.append(_followed(start, left))
  lines.sort(key=len, reverse=True)  # stable: of equal ones the topmost first
  order = np.zeros(is_ink.shape)
  for rank, (y, x) in enumerate((pixel for line in lines for pixel in line), start=1):
    order[y, x] = rank
  return order


def _followed(start: tuple[int, int], left: set[tuple[int, int]]) -> list[tuple[int, int]]:
  """Returns a component by distance from `start` along the ink, and takes it out of `left`."""
  line, ahead = [], deque([start])
  left.remove(start)
  while ahead:
    y, x = ahead.popleft()
    line.append((y, x))
    for dy, dx in AROUND:
      pixel = (y + dy, x + dx)
      if pixel in left:
        left.remove(pixel)
        ahead.append(pixel)
  return line

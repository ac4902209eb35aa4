"""The sketch of an object: what a hand leaves on paper after a look at it.

The hand draws the same parts as the photo, back to front, each hiding what is behind it. It bends
the whole drawing a little, shakes along each stroke, presses harder and softer, stops short of
corners or runs past them, lifts the pen now and then, and may forget a minor part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8

from sbir.data.synthetic_parts import Part, Path, tube
from sbir.data.synthetic_raster import drawn

STEP = 0.03  # between points along a stroke
CORNER = np.radians(35)  # a hand starts a new stroke at a sharper turn
PAPER = 255


@dataclass(frozen=True)
class Hand:
  """One sketcher's habits; lengths in units of half the picture, so 0.02 is 1 % of its width."""

  matrix: Float[np.ndarray, "2 2"]  # turns and stretches the drawing ...
  shift: Float[np.ndarray, "2"]  # ... and moves it
  bends: Float[np.ndarray, "waves 4"]  # slow waves over the page: frequency x and y, phase, axis
  bend: float  # how far they bend it
  shake: float  # how far a stroke strays
  width: float  # of the pen
  pressure: float  # how much the width varies along a stroke, 0..1
  lifts: float  # pen lifts per unit of length; each leaves a gap of about 0.1
  grey: int


def render_sketch(
  parts: list[Part], rng: np.random.Generator, size: int
) -> UInt8[np.ndarray, "size size 3"]:
  """Returns a sketch of the object by a hand drawn from `rng`: dark strokes on white."""
  return _on_paper(_shapes(parts, rng), size)


def render_in_part(
  parts: list[Part], rng: np.random.Generator, size: int, shares: Sequence[float]
) -> list[UInt8[np.ndarray, "size size 3"]]:
  """Returns the same sketch with its first strokes alone, for each of `shares` (0..1) of them.

  Every stroke lies where it does in the whole sketch, and nothing shows that a part in front hides
  there.
  """
  shapes = _shapes(parts, rng)
  strokes = [i for i, (_, grey) in enumerate(shapes) if grey != PAPER]
  late = [set(strokes[int(np.ceil(share * len(strokes))) :]) for share in shares]
  return [
    _on_paper([shape for i, shape in enumerate(shapes) if i not in left], size) for left in late
  ]


def _shapes(parts: list[Part], rng: np.random.Generator) -> list[tuple[Path, int]]:
  hand = draw_hand(rng)
  return [shape for part in remembered(parts, rng) for shape in inked(part, hand, rng)]


def _on_paper(shapes: list[tuple[Path, int]], size: int) -> UInt8[np.ndarray, "size size 3"]:
  return np.repeat(drawn(shapes, size, paper=PAPER)[..., None], 3, axis=2)


def draw_hand(rng: np.random.Generator) -> Hand:
  """Returns a random sketcher."""
  turn = np.radians(rng.uniform(-4, 4))
  stretch = rng.uniform(0.95, 1.05) * np.exp(rng.uniform(-0.03, 0.03) * np.array([1, -1]))
  rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
  return Hand(
    matrix=rotation * stretch,
    shift=rng.uniform(-0.05, 0.05, 2),
    bends=rng.uniform((-3, -3, 0, 0), (3, 3, 2 * np.pi, 2 * np.pi), (4, 4)),
    bend=rng.uniform(0.005, 0.02),
    shake=rng.uniform(0.004, 0.012),
    width=rng.uniform(0.03, 0.06),
    pressure=rng.uniform(0.1, 0.5),
    lifts=rng.uniform(0.3, 1.0),
    grey=int(rng.integers(10, 90)),
  )


def remembered(parts: list[Part], rng: np.random.Generator) -> list[Part]:
  """Returns the parts without one of the minor ones, half of the time."""
  minor = [i for i, part in enumerate(parts) if part.is_minor]
  if not minor or rng.random() < 0.5:
    return parts
  forgotten = minor[rng.integers(len(minor))]
  return [part for i, part in enumerate(parts) if i != forgotten]


def inked(part: Part, hand: Hand, rng: np.random.Generator) -> Iterator[tuple[Path, int]]:
  """Yields the shapes that draw the part: blank paper where it hides others, then its strokes."""
  path = bent(evenly_filled(part.path, is_closed=part.is_surface), hand)
  if part.is_surface:
    yield path, PAPER
  for stroke in strokes(path, is_closed=part.is_surface, rng=rng):
    for piece in with_gaps(stroke, hand, rng):
      yield traced(piece, hand, rng), hand.grey


def evenly_filled(path: Path, *, is_closed: bool) -> Path:
  """Returns the path with points put in where they lie further apart than STEP, and no doubles."""
  side = np.roll(path, -1, axis=0) - path if is_closed else np.diff(path, axis=0)
  length = np.hypot(side[:, 0], side[:, 1])
  counts = np.where(length > 1e-3, np.ceil(length / STEP), 0).astype(int)
  where = np.repeat(np.arange(len(side)), counts)
  share = (np.arange(len(where)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[where]
  filled = path[where] + share[:, None] * side[where]
  return filled if is_closed else np.concatenate([filled, path[-1:]])


def bent(path: Path, hand: Hand) -> Path:
  """Returns the path where this hand puts it on the page."""
  moved = path @ hand.matrix + hand.shift
  for fx, fy, phase, direction in hand.bends:
    wave = hand.bend * np.sin(path @ (fx, fy) + phase)
    moved = moved + wave[:, None] * (np.cos(direction), np.sin(direction))
  return moved


def strokes(path: Path, *, is_closed: bool, rng: np.random.Generator) -> list[Path]:
  """Returns the path cut at most of its corners; a closed one without any starts anywhere."""
  if is_closed:
    corners = np.flatnonzero(turns(path, is_closed=True) > CORNER)
    start = corners[0] if len(corners) else rng.integers(len(path))
    path = np.concatenate([path[start:], path[: start + 1]])
  corners = 1 + np.flatnonzero(turns(path, is_closed=False)[1:-1] > CORNER)
  cuts = [0, *corners[rng.random(len(corners)) < 0.7], len(path) - 1]
  return [path[a : b + 1] for a, b in pairwise(cuts)]


def turns(path: Path, *, is_closed: bool) -> Float[np.ndarray, "n"]:
  """Returns by what angle the path changes direction at each point; 0 at an open one's ends."""
  step = np.roll(path, -1, axis=0) - path
  heading = np.arctan2(step[:, 1], step[:, 0])
  turn = np.abs((heading - np.roll(heading, 1) + np.pi) % (2 * np.pi) - np.pi)
  if not is_closed:
    turn[[0, -1]] = 0
  return turn


def with_gaps(stroke: Path, hand: Hand, rng: np.random.Generator) -> Iterator[Path]:
  """Yields the pieces of the stroke between pen lifts."""
  along = lengths(stroke)
  lifts = rng.poisson(hand.lifts * along[-1])
  middles, halves = rng.uniform(0, along[-1], lifts), rng.uniform(0.03, 0.08, lifts)
  is_drawn = (np.abs(along[:, None] - middles) > halves).all(axis=1)
  edges = [0, *(np.flatnonzero(np.diff(is_drawn)) + 1), len(stroke)]
  for start, stop in pairwise(edges):
    if is_drawn[start] and stop - start > 1:
      yield stroke[start:stop]


def traced(piece: Path, hand: Hand, rng: np.random.Generator) -> Path:
  """Returns the outline of the pen's line along the piece: shaken, uneven, thinner at the ends."""
  along = lengths(piece)
  rate, phase = rng.uniform((5, 5, 2), (20, 20, 8)), rng.uniform(0, 2 * np.pi, 3)
  waves = np.sin(along[:, None] * rate + phase)
  press = 1 + hand.pressure * waves[:, 2]
  from_end = np.minimum(along, along[-1] - along)
  width = hand.width * press * np.clip(0.5 + from_end / 0.1, 0.5, 1)
  return tube(piece + rng.normal(0, hand.shake, 2) + 1.5 * hand.shake * waves[:, :2], width)


def lengths(stroke: Path) -> Float[np.ndarray, "n"]:
  """Returns the length walked up to each point."""
  step = np.diff(stroke, axis=0)
  return np.concatenate([[0], np.cumsum(np.hypot(step[:, 0], step[:, 1]))])

"""The strokes of a synthetic object, for a mouse: what the hand of `synthetic_sketch` draws but for
what nearer parts hide, for a mouse cannot put blank paper over a line."""

from itertools import pairwise

import numpy as np

from sbir.data.synthetic import FIRST_SKETCH, SHAPE
from sbir.data.synthetic_objects import make_object
from sbir.data.synthetic_sketch import bent, draw_hand, evenly_filled, strokes

SPARSE = 4  # one point in four is enough for a mouse, and four times as fast
FEWEST = 4  # points of a stroke that is worth the mouse's way


def strokes_of(recipe, seed=0):
  """Returns the strokes of the object of a recipe (`Synthetic.recipes`), points from -1 to 1."""
  parts = make_object(recipe.category, recipe.generator(seed, SHAPE))
  rng = recipe.generator(seed, FIRST_SKETCH)
  hand = draw_hand(rng)
  paths = [bent(evenly_filled(part.path, is_closed=part.is_surface), hand) for part in parts]
  drawn = []
  for number, (part, path) in enumerate(zip(parts, paths, strict=True), 1):
    others = zip(parts[number:], paths[number:], strict=True)
    nearer = [surface for other, surface in others if other.is_surface]
    for stroke in strokes(path, is_closed=part.is_surface, rng=rng):
      drawn += visible(stroke, nearer)
  return [np.concatenate([piece[:-1:SPARSE], piece[-1:]]) for piece in drawn]


def visible(stroke, surfaces):
  """Returns the pieces of a stroke that none of the surfaces hides."""
  is_hidden = np.zeros(len(stroke), bool)
  for surface in surfaces:
    is_hidden |= inside(stroke, surface)
  cuts = [0, *(np.flatnonzero(np.diff(is_hidden)) + 1), len(stroke)]
  pieces = [stroke[start:stop] for start, stop in pairwise(cuts) if not is_hidden[start]]
  return [piece for piece in pieces if len(piece) >= FEWEST]


def inside(points, polygon):
  """Returns which points lie in the polygon: a ray to the right crosses its sides an odd number of
  times."""
  (x, y), (x0, y0) = points.T[:, :, None], polygon.T
  x1, y1 = np.roll(polygon, -1, axis=0).T
  is_crossed = (y0 > y) != (y1 > y)
  with np.errstate(divide="ignore", invalid="ignore"):
    at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
  return (is_crossed & (x < at)).sum(axis=1) % 2 == 1

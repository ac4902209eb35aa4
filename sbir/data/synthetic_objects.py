"""The kinds of object, and how to draw one individual of a kind.

A kind is a function of `u`, where `u(low, high)` draws the next number, evenly. It returns the
parts back to front, in units of its own. To add a kind: describe its parts, give every measure a
range wide enough to see, and list the function here; its name is the category.
"""

from collections.abc import Callable

import numpy as np

from sbir.data import synthetic_grown as grown
from sbir.data import synthetic_made as made
from sbir.data.synthetic_parts import Draw, Part, fitted

KINDS: dict[str, Callable[[Draw], list[Part]]] = {
  kind.__name__: kind
  for kind in (
    made.bottle, grown.butterfly, grown.cactus, made.car, made.chair, grown.fish, made.handbag,
    made.house, made.lamp, grown.leaf, made.mug, grown.mushroom, made.shoe, made.teapot,
    made.umbrella, made.vase,
  )
}  # fmt: skip


def make_object(kind: str, rng: np.random.Generator) -> list[Part]:
  """Returns one individual drawn from `rng`, centred in the picture, in a pose of its own."""
  parts = KINDS[kind](rng.uniform)
  if rng.random() < 0.5:
    parts = [part.reflected() for part in parts]
  return fitted(parts, extent=rng.uniform(0.62, 0.86), tilt=rng.uniform(-10, 10))

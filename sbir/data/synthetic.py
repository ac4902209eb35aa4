"""A data set out of nothing: sixteen kinds of made-up objects, photographed and sketched.

Every individual is drawn from continuous measures, so that no two are alike and the category alone
does not find one. Nothing is stored: each image is rendered when asked for, from a generator of
its own, and is the same bit for bit in any order, in any process, however many images there are.

  python -m sbir.data.synthetic --out sheet.png       shows every category, photos beside sketches
"""

import functools
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from sbir.data.records import PHOTO, SKETCH, SPLITS, Record, stamp_of
from sbir.data.synthetic_objects import KINDS, make_object
from sbir.data.synthetic_photo import render_photo
from sbir.data.synthetic_sketch import render_in_part, render_sketch
from sbir.types import UserError

CATEGORIES = tuple(sorted(KINDS))
SIZE = 64  # pixels, unless another is asked for
SHAPE, LOOK, FIRST_SKETCH = 0, 1, 2  # what a generator is for


@dataclass(frozen=True)
class Recipe:
  """All that makes an image, besides the seed and the size of the set."""

  split: str
  category: str
  number: int  # of the individual, within its split and category
  sketch: int | None = None  # None: the photo

  def record(self) -> Record:
    """Returns what the image is called."""
    instance = f"{self.split}-{self.category}-{self.number:04d}"
    folder = f"{self.split}/{{}}/{self.category}/{self.number:04d}"
    if self.sketch is None:
      return Record(PHOTO, self.category, instance, folder.format(PHOTO) + ".png")
    return Record(SKETCH, self.category, instance, folder.format(SKETCH) + f"-{self.sketch}.png")

  def generator(self, seed: int, what: int) -> np.random.Generator:
    """Returns a generator that nothing else in the set uses.

    The category enters by its letters: a new one changes none of the others.
    """
    return np.random.default_rng(
      [seed, what, SPLITS.index(self.split), self.number, *self.category.encode()]
    )


@dataclass(frozen=True)
class Synthetic:
  """One split of the set: a `Source` that renders on demand."""

  name: str
  records: tuple[Record, ...]
  recipes: tuple[Recipe, ...]  # in the order of the records
  seed: int
  size: int

  def image(self, index: int, at_least: int = 0) -> UInt8[np.ndarray, "size size 3"]:
    """Returns the image of `records[index]`, rendered anew at every call."""
    recipe = self.recipes[index]
    parts = make_object(recipe.category, recipe.generator(self.seed, SHAPE))
    if recipe.sketch is None:
      return render_photo(parts, recipe.generator(self.seed, LOOK), self.size)
    style = recipe.generator(self.seed, FIRST_SKETCH + recipe.sketch)
    return render_sketch(parts, style, self.size)

  def stamp(self) -> str:
    """Returns what changes with the set's words, or with how any category is drawn."""
    return self._stamp

  @functools.cached_property
  def _stamp(self) -> str:
    first = {(r.modality, r.category): i for i, r in reversed([*enumerate(self.records)])}
    drawn = [hashlib.sha256(self.image(i).tobytes()).hexdigest() for i in sorted(first.values())]
    return stamp_of(self.records, self.seed, self.size, *drawn)


def sketch_in_part(
  key: str, shares: Sequence[float], *, seed: int, size: int = SIZE
) -> list[UInt8[np.ndarray, "size size 3"]]:
  """Returns the sketch whose record has this key with its first strokes alone, for each of `shares`
  (0..1) of them."""
  split, _, category, name = key.split("/")
  number, sketch = name.removesuffix(".png").split("-")
  recipe = Recipe(split, category, int(number), int(sketch))
  parts = make_object(category, recipe.generator(seed, SHAPE))
  return render_in_part(parts, recipe.generator(seed, FIRST_SKETCH + int(sketch)), size, shares)


def open_synthetic(
  split: str,
  *,
  seed: int = 0,
  num_train: int = 400,
  num_test: int = 112,
  num_sketches: int = 3,
  size: int = SIZE,
) -> Synthetic:
  """Returns the "train" or "test" split: that many photos, each with `num_sketches` sketches.

  The categories share the photos as evenly as they can. A larger split begins with the smaller one,
  and `size` (pixels) changes no shape. The splits share no individual.

  Raises: UserError for an unknown split or a number out of range.
  """
  if split not in SPLITS:
    raise UserError(f"split={split!r} is not one of {', '.join(SPLITS)}; choose one of them")
  least = {"seed": 0, "num_train": 1, "num_test": 1, "num_sketches": 1, "size": 16}
  given = dict(zip(least, (seed, num_train, num_test, num_sketches, size), strict=True))
  for name, bound in least.items():
    if given[name] < bound:
      raise UserError(f"{name}={given[name]}, expected at least {bound}; raise it to {bound}")
  recipes = []
  for i in range(given[f"num_{split}"]):
    category, number = CATEGORIES[i % len(CATEGORIES)], i // len(CATEGORIES)
    recipes += [Recipe(split, category, number, k) for k in (None, *range(num_sketches))]
  recipes.sort(key=Recipe.record)
  records = tuple(recipe.record() for recipe in recipes)
  return Synthetic("synthetic", records, tuple(recipes), seed, size)


if __name__ == "__main__":
  from sbir.data.synthetic_sheet import main

  sys.exit(main())

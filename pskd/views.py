"""What the network sees of an image: cropped, recoloured and normalised, on the device."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Float, UInt8

from sbir.data import augment
from sbir.data.gradients import oriented_gradients
from sbir.types import Key


class Recipe(NamedTuple):
  """How much training images are changed; the same for photos and sketches."""

  crop: tuple[float, float]
  flip: float
  jitter: float
  gray: float
  blur: float
  solarise: float
  gradients: bool
  mean: tuple[float, float, float]
  std: tuple[float, float, float]


def plain_view(images: UInt8[Array, "b s s 3"], recipe: Recipe) -> Float[Array, "b s s 3"]:
  """Returns images as evaluation sees them: normalised, nothing drawn at random."""
  return _finish(augment.to_unit(images), recipe)


def training_view(
  key: Key, images: UInt8[Array, "b r r 3"], recipe: Recipe, size: int
) -> Float[Array, "b size size 3"]:
  """Returns images of any side as training sees them, `size` pixels high and wide."""
  keys = jax.random.split(key, 6)
  view = augment.to_unit(images)
  boxes = augment.sample_crops(keys[0], len(view), area=recipe.crop)
  view = augment.crop(view, boxes, size=size)
  view = augment.flip(view, augment.sample_flips(keys[1], len(view), recipe.flip))
  return _finish(view, recipe)


def _finish(images: Float[Array, "b s s 3"], recipe: Recipe) -> Float[Array, "b s s 3"]:
  if recipe.gradients:
    images = oriented_gradients(images)
  return augment.normalise(images, recipe.mean, recipe.std)

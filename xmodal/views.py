"""What the networks see of a batch: the images recoloured, moved and normalised, on the device."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
from jaxtyping import Array, Float, UInt8

from sbir.data import augment, colour
from sbir.data.gradients import oriented_gradients
from sbir.types import Key


class Recipe(NamedTuple):
  """How much training images are changed; all zero (the published recipe) only normalises."""

  flip: float = 0.0  # probability; photo and sketches of a pair are mirrored together
  degrees: float = 0.0  # each image is turned, scaled and shifted by itself
  scale: float = 0.0  # 0.2: sizes from 1/1.2 to 1.2
  shift: float = 0.0  # of the side
  gray: float = 0.0  # probability that a photo loses its colour
  jitter: float = 0.0  # brightness, contrast and saturation of photos, 1 +- this
  gradients: bool = False  # photos and sketches become their oriented gradients (evaluation too)
  mean: float = 0.5  # the AugReg ViTs expect .5, .5; the released code does not normalise (0, 1)
  std: float = 0.5


def plain_view(images: UInt8[Array, "b s s 3"], recipe: Recipe) -> Float[Array, "b s s 3"]:
  """Returns photos or sketches as evaluation sees them: normalised, nothing drawn at random."""
  return _finish(augment.to_unit(images), recipe)


def training_views(
  key: Key, images: Mapping[str, UInt8[Array, "b s s 3"]], recipe: Recipe
) -> dict[str, Float[Array, "b s s 3"]]:
  """Returns `images` ("photo", and sketches under any other name) as training sees them.

  One mirror decision for each pair, so that a left shoe's sketch stays that of a left shoe; all
  else is drawn image by image. Only photos are recoloured.
  """
  flip_key, *keys = jax.random.split(key, 1 + len(images))
  views = {}
  for (name, pixels), one_key in zip(sorted(images.items()), keys, strict=True):
    colour_key, move_key = jax.random.split(one_key)
    view = augment.to_unit(pixels)
    if name == "photo":
      view = _recolour(colour_key, view, recipe)
    if recipe.flip:
      view = augment.flip(view, augment.sample_flips(flip_key, len(view), recipe.flip))
    views[name] = _finish(_move(move_key, view, recipe), recipe)
  return views


def _finish(images: Float[Array, "b s s 3"], recipe: Recipe) -> Float[Array, "b s s 3"]:
  if recipe.gradients:
    images = oriented_gradients(images)
  return augment.normalise(images, recipe.mean, recipe.std)


def _move(key: Key, images: Float[Array, "b s s 3"], recipe: Recipe) -> Float[Array, "b s s 3"]:
  if not (recipe.degrees or recipe.scale or recipe.shift):
    return images
  scale = (1 / (1 + recipe.scale), 1 + recipe.scale)
  moves = augment.sample_affines(
    key, len(images), degrees=recipe.degrees, scale=scale, shift=recipe.shift
  )
  return augment.affine(images, moves, fill=None)


def _recolour(key: Key, images: Float[Array, "b s s 3"], recipe: Recipe) -> Float[Array, "b s s 3"]:
  jitter_key, gray_key = jax.random.split(key)
  if recipe.jitter:
    jitters = colour.sample_jitters(
      jitter_key,
      len(images),
      brightness=recipe.jitter,
      contrast=recipe.jitter,
      saturation=recipe.jitter,
      hue=0.0,
      probability=1.0,
    )
    images = colour.jitter(images, jitters)
  if recipe.gray:
    images = colour.grayscale(images, colour.sample_grays(gray_key, len(images), recipe.gray))
  return images

"""What the networks see of a batch: the images recoloured, moved and normalised, on the device."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from sbir.data import augment
from sbir.types import Key


class Recipe(NamedTuple):
  """How much training images are changed; all zero (the published recipe) only normalises."""

  flip: float = 0.0  # probability; photo and sketches of a pair are mirrored together
  degrees: float = 0.0  # each image is turned, scaled and shifted by itself
  scale: float = 0.0  # 0.2: sizes from 1/1.2 to 1.2
  shift: float = 0.0  # of the side
  gray: float = 0.0  # probability that a photo loses its colour
  jitter: float = 0.0  # brightness, contrast and saturation of photos, 1 +- this
  edges: bool = False  # photos become line drawings: their gradient, dark on white (evaluation too)
  mean: float = 0.5  # the AugReg ViTs expect .5, .5; the released code does not normalise (0, 1)
  std: float = 0.5


def plain_view(
  images: UInt8[Array, "b s s 3"], modality: str, recipe: Recipe
) -> Float[Array, "b s s 3"]:
  """Returns photos or sketches as evaluation sees them: normalised, nothing drawn at random."""
  view = augment.to_unit(images)
  if modality == "photo" and recipe.edges:
    view = line_drawing(view)
  return augment.normalise(view, recipe.mean, recipe.std)


def line_drawing(images: Float[Array, "b s s 3"]) -> Float[Array, "b s s 3"]:
  """Returns 1 - the length of the gradient, the steepest channel's, in [0, 1]: dark where colours
  change, white where they do not; scaled so that each image's darkest line is black."""
  framed = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
  down = framed[:, 2:, 1:-1] - framed[:, :-2, 1:-1]
  right = framed[:, 1:-1, 2:] - framed[:, 1:-1, :-2]
  steepness = jnp.sqrt(jnp.max(down**2 + right**2, axis=-1, keepdims=True))
  steepest = jnp.max(steepness, axis=(1, 2), keepdims=True)
  return jnp.broadcast_to(1 - steepness / jnp.maximum(steepest, 1e-3), images.shape)


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
      view = line_drawing(view) if recipe.edges else view
    if recipe.flip:
      view = augment.flip(view, augment.sample_flips(flip_key, len(view), recipe.flip))
    views[name] = augment.normalise(_move(move_key, view, recipe), recipe.mean, recipe.std)
  return views


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
    jitters = augment.sample_jitters(
      jitter_key,
      len(images),
      brightness=recipe.jitter,
      contrast=recipe.jitter,
      saturation=recipe.jitter,
      hue=0.0,
      probability=1.0,
    )
    images = augment.jitter(images, jitters)
  if recipe.gray:
    images = augment.grayscale(images, augment.sample_grays(gray_key, len(images), recipe.gray))
  return images

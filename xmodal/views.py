"""What the networks see of a batch: the images recoloured, moved and normalised, on the device.

Every image of a view is drawn from a key of its own. Of a fresh view that is a row of the step's
key; of a stored view, number v of a sketch and its photo, it is a function of (seed, sketch, v)
alone, so that it can be made again at any time: by a teacher before the training, and by the
student in it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
from jaxtyping import Array, Float, Int, UInt8

from sbir.data import augment, colour
from sbir.data.gradients import oriented_gradients
from sbir.types import Key

IMAGES = ("photo", "sketch", "sketch_positive")
STORED = 0x5EED  # keeps the keys of stored views apart from all others that a seed gives


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

  def plain(self) -> "Recipe":
    """Returns the recipe of evaluation: the same, but nothing is drawn at random."""
    return Recipe(gradients=self.gradients, mean=self.mean, std=self.std)

  def is_random(self) -> bool:
    """Returns whether two views of one image can differ."""
    return self != self.plain()


def plain_view(images: UInt8[Array, "b s s 3"], recipe: Recipe) -> Float[Array, "b s s 3"]:
  """Returns photos or sketches as evaluation sees them: normalised, nothing drawn at random."""
  return _finish(augment.to_unit(images), recipe)


def fresh_keys(key: Key, b: int) -> dict[str, Key]:
  """Returns {"photo", "sketch", "sketch_positive": b keys}, for views that were never seen."""
  parts = jax.random.split(key, len(IMAGES))
  return {name: jax.random.split(part, b) for name, part in zip(IMAGES, parts, strict=True)}


def stored_keys(seed: int, sketch_index: Int[Array, "b"], view: Int[Array, "b"]) -> dict[str, Key]:
  """Returns {"photo", "sketch": b keys} of the stored views `view` of sketches, by their index into
  the source's records, and of their photos: a photo has other views beside each of its sketches."""
  base = jax.random.fold_in(jax.random.key(seed), STORED)
  of_one = lambda i, v: jax.random.split(jax.random.fold_in(jax.random.fold_in(base, i), v))
  keys = jax.vmap(of_one)(sketch_index, view)
  return {"photo": keys[:, 0], "sketch": keys[:, 1]}


def training_views(
  keys: Mapping[str, Key], images: Mapping[str, UInt8[Array, "b s s 3"]], recipe: Recipe
) -> dict[str, Float[Array, "b s s 3"]]:
  """Returns `images` (any of "photo", "sketch", "sketch_positive") as training sees them.

  The photo's key, needed even where the photo is not, decides whether the pair is mirrored, so that
  a left shoe's sketch stays that of a left shoe; all else is drawn image by image. Only photos are
  recoloured.
  """
  views = {}
  for name, pixels in images.items():
    colour_keys, move_keys, _ = _split_each(keys[name])
    view = augment.to_unit(pixels)
    if name == "photo":
      view = _recolour(colour_keys, view, recipe)
    if recipe.flip:
      mirror_keys = _split_each(keys["photo"])[2]
      sample = lambda key: augment.sample_flips(key, 1, recipe.flip)
      view = augment.flip(view, augment.draw_each(mirror_keys, sample))
    views[name] = _finish(_move(move_keys, view, recipe), recipe)
  return views


def _split_each(keys: Key) -> tuple[Key, Key, Key]:
  """Returns an image's keys for its colours, its moves and, of a photo, the mirror of its pair."""
  parts = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
  return parts[:, 0], parts[:, 1], parts[:, 2]


def _finish(images: Float[Array, "b s s 3"], recipe: Recipe) -> Float[Array, "b s s 3"]:
  if recipe.gradients:
    images = oriented_gradients(images)
  return augment.normalise(images, recipe.mean, recipe.std)


def _move(keys: Key, images: Float[Array, "b s s 3"], recipe: Recipe) -> Float[Array, "b s s 3"]:
  if not (recipe.degrees or recipe.scale or recipe.shift):
    return images
  scale = (1 / (1 + recipe.scale), 1 + recipe.scale)
  sample = lambda key: augment.sample_affines(
    key, 1, degrees=recipe.degrees, scale=scale, shift=recipe.shift
  )
  return augment.affine(images, augment.draw_each(keys, sample), fill=None)


def _recolour(
  keys: Key, images: Float[Array, "b s s 3"], recipe: Recipe
) -> Float[Array, "b s s 3"]:
  split = jax.vmap(jax.random.split)(keys)
  jitter_keys, gray_keys = split[:, 0], split[:, 1]
  if recipe.jitter:
    sample = lambda key: colour.sample_jitters(
      key,
      1,
      brightness=recipe.jitter,
      contrast=recipe.jitter,
      saturation=recipe.jitter,
      hue=0.0,
      probability=1.0,
    )
    images = colour.jitter(images, augment.draw_each(jitter_keys, sample))
  if recipe.gray:
    sample = lambda key: colour.sample_grays(key, 1, recipe.gray)
    images = colour.grayscale(images, augment.draw_each(gray_keys, sample))
  return images

"""What the network sees of an image: cropped, recoloured and normalised, on the device."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Float, UInt8

from sbir.data import augment, colour
from sbir.data.gradients import oriented_gradients
from sbir.types import Key

Views = Float[Array, "b s s 3"]


class Recipe(NamedTuple):
  """How much training images are changed; the same for photos and sketches.

  Source: DINO's first global crop, as PSKD@a505f9f main_firststage.py has it. There the crop is cut
  from the image as it was; here from the square that the host has made of it.
  """

  crop: tuple[float, float]  # share of the area; (1, 1): no crop
  flip: float  # probabilities, drawn image by image
  jitter: float
  gray: float
  blur: float
  solarise: float
  gradients: bool  # images become their oriented gradients, in evaluation too
  mean: tuple[float, float, float]
  std: tuple[float, float, float]


def plain_view(images: UInt8[Array, "b s s 3"], recipe: Recipe) -> Views:
  """Returns images as evaluation sees them: normalised, nothing drawn at random."""
  return _finish(augment.to_unit(images), recipe)


def training_view(key: Key, images: UInt8[Array, "b r r 3"], recipe: Recipe, size: int) -> Views:
  """Returns images of any side as training sees them, `size` pixels high and wide.

  Crop (ratio 3/4 to 4/3, bicubic), mirror, colour jitter in random order, gray, blur, solarise;
  what has probability 0 is not computed.
  """
  crop_key, flip_key, colour_key = jax.random.split(key, 3)
  view, b = augment.to_unit(images), len(images)
  if recipe.crop != (1.0, 1.0) or images.shape[1] != size:
    boxes = augment.sample_crops(crop_key, b, area=recipe.crop)
    view = augment.crop(view, boxes, size=size, method="cubic")
  if recipe.flip:
    view = augment.flip(view, augment.sample_flips(flip_key, b, recipe.flip))
  return _finish(_recolour(colour_key, view, recipe), recipe)


def _recolour(key: Key, view: Views, recipe: Recipe) -> Views:
  b = len(view)
  jitter_key, order_key, gray_key, blur_key, solarise_key = jax.random.split(key, 5)
  if recipe.jitter:
    jitters = colour.sample_jitters(jitter_key, b, probability=recipe.jitter)
    view = colour.jitter_in_order(view, jitters, colour.sample_orders(order_key, b))
  if recipe.gray:
    view = colour.grayscale(view, colour.sample_grays(gray_key, b, recipe.gray))
  if recipe.blur:
    view = colour.blur(view, colour.sample_blurs(blur_key, b, probability=recipe.blur))
  if recipe.solarise:
    view = colour.solarise(view, colour.sample_solarised(solarise_key, b, recipe.solarise))
  return view


def _finish(view: Views, recipe: Recipe) -> Views:
  if recipe.gradients:
    view = oriented_gradients(view)
  return augment.normalise(view, recipe.mean, recipe.std)

"""What the network sees of an image: cropped, recoloured and normalised, on the device.

Every image of a view is drawn from a key of its own. Of a fresh view that is one of the step's key;
of a stored view, number v of image i, it is a function of (seed, i, v) alone, so that it can be
made again at any time: by a teacher before the training, and by the student in it.
"""

from typing import NamedTuple

import jax
from jaxtyping import Array, Float, Int, UInt8

from sbir.data import augment, colour
from sbir.data.gradients import oriented_gradients
from sbir.types import Key

Views = Float[Array, "b s s 3"]
STORED = 0x5EED  # keeps the keys of stored views apart from all others that a seed gives


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

  def is_random(self) -> bool:
    """Returns whether two views of one image can differ."""
    chances = (self.flip, self.jitter, self.gray, self.blur, self.solarise)
    return any(chances) or tuple(self.crop) != (1.0, 1.0)


def plain_view(images: UInt8[Array, "b s s 3"], recipe: Recipe) -> Views:
  """Returns images as evaluation sees them: normalised, nothing drawn at random."""
  return _finish(augment.to_unit(images), recipe)


def stored_keys(seed: int, index: Int[Array, "b"], view: Int[Array, "b"]) -> Key:
  """Returns the keys of stored views, by each image's index into the source's records and the
  number of its view."""
  base = jax.random.fold_in(jax.random.key(seed), STORED)
  of_one = lambda i, v: jax.random.fold_in(jax.random.fold_in(base, i), v)
  return jax.vmap(of_one)(index, view)


def training_view(keys: Key, images: UInt8[Array, "b r r 3"], recipe: Recipe, size: int) -> Views:
  """Returns images of any side as training sees them, `size` pixels high and wide.

  Crop (ratio 3/4 to 4/3, bicubic), mirror, colour jitter in random order, gray, blur, solarise;
  what has probability 0 is not computed. Image i is drawn from keys[i] alone.
  """
  crop_keys, flip_keys, colour_keys = _split_each(keys, 3)
  view = augment.to_unit(images)
  if recipe.crop != (1.0, 1.0) or images.shape[1] != size:
    sample = lambda key: augment.sample_crops(key, 1, area=recipe.crop)
    boxes = augment.draw_each(crop_keys, sample)
    view = augment.crop(view, boxes, size=size, method="cubic")
  if recipe.flip:
    sample = lambda key: augment.sample_flips(key, 1, recipe.flip)
    view = augment.flip(view, augment.draw_each(flip_keys, sample))
  return _finish(_recolour(colour_keys, view, recipe), recipe)


def _split_each(keys: Key, num: int) -> list[Key]:
  """Returns `num` keys of each image, image by image in each."""
  parts = jax.vmap(lambda key: jax.random.split(key, num))(keys)
  return [parts[:, k] for k in range(num)]


def _recolour(keys: Key, view: Views, recipe: Recipe) -> Views:
  jitter_keys, order_keys, gray_keys, blur_keys, solarise_keys = _split_each(keys, 5)
  each = augment.draw_each
  if recipe.jitter:
    sample = lambda key: colour.sample_jitters(key, 1, probability=recipe.jitter)
    orders = each(order_keys, lambda key: colour.sample_orders(key, 1))
    view = colour.jitter_in_order(view, each(jitter_keys, sample), orders)
  if recipe.gray:
    grays = each(gray_keys, lambda key: colour.sample_grays(key, 1, recipe.gray))
    view = colour.grayscale(view, grays)
  if recipe.blur:
    radii = each(blur_keys, lambda key: colour.sample_blurs(key, 1, probability=recipe.blur))
    view = colour.blur(view, radii)
  if recipe.solarise:
    turned = each(solarise_keys, lambda key: colour.sample_solarised(key, 1, recipe.solarise))
    view = colour.solarise(view, turned)
  return view


def _finish(view: Views, recipe: Recipe) -> Views:
  if recipe.gradients:
    view = oriented_gradients(view)
  return augment.normalise(view, recipe.mean, recipe.std)

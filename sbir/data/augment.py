"""What moves images on the device, after the host has read and resized them; colour.py recolours.

Each op comes as two functions: `sample_*` draws its parameters from a key, one for each image, and
a pure function applies given parameters. Whoever wants a photo and its sketch flipped alike draws
once and applies twice. Images are float32 in [0, 1] until `normalise`, and stay within it. All
jit-able; times are for 48 images of 64 px on two CPU cores.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from sbir.types import Key

Images = Float[Array, "b height width 3"]
Range = tuple[float, float]
T = TypeVar("T")

WHITE = 1.0


def to_unit(images: Shaped[Array, "b height width 3"]) -> Images:
  """Returns uint8 images as float32 in [0, 1]; float images are taken to be there already."""
  is_bytes = images.dtype == jnp.uint8
  return images.astype(jnp.float32) / 255 if is_bytes else images.astype(jnp.float32)


def normalise(
  images: Shaped[Array, "b height width 3"],
  mean: float | Sequence[float] = 0.5,
  std: float | Sequence[float] = 0.5,
) -> Images:
  """Returns (x - mean) / std of images brought to [0, 1], with one number or one for each channel.

  The AugReg ViTs expect .5 and .5; ImageNet's are (.485, .456, .406) and (.229, .224, .225).
  """
  return (to_unit(images) - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)


def between(unit: Shaped[Array, "*n"], low_high: Range) -> Shaped[Array, "*n"]:
  """Returns numbers of [0, 1) stretched to a range.

  One draw for all of an op's parameters compiles several times faster than a key and draw for each.
  """
  low, high = low_high
  return low + unit * (high - low)


def draw_each(keys: Key, sample: Callable[[Key], T]) -> T:
  """Returns what sample(key), which draws for one image, draws for each of b keys, as one op's
  parameters for b images: those of an image depend on its own key alone, whatever else is in the
  batch."""
  return jax.tree.map(lambda leaf: leaf[:, 0], jax.vmap(sample)(keys))


def sample_flips(key: Key, b: int, probability: float = 0.5) -> Bool[Array, "b"]:
  """Draws which images to mirror."""
  return jax.random.bernoulli(key, probability, (b,))


def flip(images: Images, flips: Bool[Array, "b"]) -> Images:
  """Returns the images with the chosen ones mirrored left to right."""
  return jnp.where(flips[:, None, None, None], images[:, :, ::-1], images)


def sample_crops(
  key: Key, b: int, *, area: Range = (0.08, 1.0), ratio: Range = (3 / 4, 4 / 3), tries: int = 10
) -> Float[Array, "b 4"]:
  """Draws boxes (top, left, height, width) in units of the image's side, all inside it.

  Area is uniform and width / height log-uniform; the first of `tries` draws that fits is placed
  uniformly, and where none fits the box is the whole image. Source: torchvision
  RandomResizedCrop.get_params for a square image; it rounds boxes to pixels, we do not.
  """
  unit = jax.random.uniform(key, (b, 2 * tries + 2))
  areas = between(unit[:, :tries], area)
  ratios = jnp.exp(between(unit[:, tries:-2], (math.log(ratio[0]), math.log(ratio[1]))))
  sizes = jnp.sqrt(jnp.stack([areas / ratios, areas * ratios], -1))  # height, width
  fits = (sizes <= 1).all(-1)
  first = jnp.take_along_axis(sizes, fits.argmax(1)[:, None, None], 1)[:, 0]
  size = jnp.where(fits.any(1)[:, None], first, 1.0)
  return jnp.concatenate([unit[:, -2:] * (1 - size), size], axis=1)


def crop(
  images: Images,
  boxes: Float[Array, "b 4"],
  *,
  size: int | None = None,
  method: str = "linear",
  fill: float = WHITE,
) -> Images:
  """Returns each image's box stretched to a square of `size` pixels (default: as high as it was).

  Smoothed first where it shrinks. A box may reach over the edge: there it is `fill`. 4 ms.
  "cubic" is PIL's BICUBIC: within 1.2 of 255 of Image.resize(box=...), which rounds after each
  axis. torchvision cuts, then resizes; here a pixel at the box's edge sees one pixel beyond it, of
  "cubic" two.
  """
  height, width = images.shape[1:3]
  size = size or height
  sides = jnp.array([height, width], jnp.float32)
  scale = size / (boxes[:, 2:] * sides)
  shift = -boxes[:, :2] * sides * scale

  def along(axis: int, image: Array, scale: Array, shift: Array) -> Array:
    shape = (image.shape[0], size, 3) if axis == 1 else (size, size, 3)
    where = (axis,), scale[axis : axis + 1], shift[axis : axis + 1]
    # Outside, jax puts 0.
    moved = jax.image.scale_and_translate(image - fill, shape, *where, method) + fill
    # Cubic overshoots. Cut after each axis, as PIL's bytes are: cut once at the end, black and
    # white noise is up to 31 of 255 from PIL's result.
    return jnp.clip(moved, 0.0, 1.0)

  def one(image: Array, scale: Array, shift: Array) -> Array:
    return along(0, along(1, image, scale, shift), scale, shift)

  return jax.vmap(one)(images, scale, shift)


class Affine(NamedTuple):
  """How to move each image about its centre; the identity is (0, 1, 0, 0)."""

  angle: Float[Array, "b"]  # radians, counter-clockwise as seen
  scale: Float[Array, "b"]  # above 1 enlarges
  down: Float[Array, "b"]  # in units of the image's height
  right: Float[Array, "b"]  # in units of its width


def sample_affines(
  key: Key, b: int, *, degrees: float = 10.0, scale: Range = (0.9, 1.1), shift: float = 0.05
) -> Affine:
  """Draws angles in +-degrees, scales in their range, shifts in +-shift of the side; uniformly."""
  angle, size, down, right = jax.random.uniform(key, (4, b))
  return Affine(
    angle=jnp.deg2rad(between(angle, (-degrees, degrees))),
    scale=between(size, scale),
    down=between(down, (-shift, shift)),
    right=between(right, (-shift, shift)),
  )


def affine(images: Images, moves: Affine, *, fill: float | None = WHITE) -> Images:
  """Returns the images turned, scaled and shifted, bilinear; outside lies `fill`, or the edge's own
  colour if that is None.

  Not smoothed when shrinking: meant for scales near 1. 3 ms (map_coordinates: 17).
  """
  height, width = images.shape[1:3]
  mode = {"mode": "edge"} if fill is None else {"constant_values": fill}
  framed = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), **mode)
  y, x = _source_points(moves, height, width)
  y, x = jnp.clip(y + 1, 0, height + 1), jnp.clip(x + 1, 0, width + 1)
  # The upper left of the four neighbours stays one short of the last, so that all four exist.
  top = jnp.minimum(jnp.floor(y), height).astype(jnp.int32)
  left = jnp.minimum(jnp.floor(x), width).astype(jnp.int32)
  below, beside = (y - top)[..., None], (x - left)[..., None]
  pixels = framed.reshape(len(images), -1, 3)

  def neighbour(dy: int, dx: int) -> Images:
    place = ((top + dy) * (width + 2) + left + dx).reshape(len(images), -1, 1)
    found = jnp.take_along_axis(pixels, place, axis=1, mode="promise_in_bounds")
    return found.reshape(images.shape)

  upper = neighbour(0, 0) * (1 - beside) + neighbour(0, 1) * beside
  lower = neighbour(1, 0) * (1 - beside) + neighbour(1, 1) * beside
  return upper * (1 - below) + lower * below


def _source_points(moves: Affine, height: int, width: int) -> tuple[Array, Array]:
  """Returns from which row and column each output pixel comes, f32[b, h, w] each."""
  angle, scale, down, right = (part[:, None, None] for part in moves)
  middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
  y = (jnp.arange(height)[:, None] - middle_y - down * height) / scale
  x = (jnp.arange(width)[None, :] - middle_x - right * width) / scale
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  return x * sin + y * cos + middle_y, x * cos - y * sin + middle_x

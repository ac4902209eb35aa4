"""What moves and recolours images on the device, after the host has read and resized them.

Each op comes as two functions: `sample_*` draws its parameters from a key, one for each image, and
a pure function applies given parameters. Whoever wants a photo and its sketch flipped alike draws
once and applies twice. Images are float32 in [0, 1] until `normalise`, and stay within it. All
jit-able; times are for 48 images of 64 px on two CPU cores.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from sbir.types import Key

Images = Float[Array, "b height width 3"]
Range = tuple[float, float]

WHITE = 1.0
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL and torchvision


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


def _between(unit: Array, low_high: Range) -> Array:
  """Returns numbers of [0, 1) stretched to a range.

  One draw for all of an op's parameters compiles several times faster than a key and draw for each.
  """
  low, high = low_high
  return low + unit * (high - low)


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
  areas = _between(unit[:, :tries], area)
  ratios = jnp.exp(_between(unit[:, tries:-2], (math.log(ratio[0]), math.log(ratio[1]))))
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

  Smoothed first where it shrinks. A box may reach over the edge: there it is `fill`. 3 ms.
  torchvision cuts, then resizes; here a pixel at the box's edge may see half a pixel beyond it.
  """
  height, width = images.shape[1:3]
  size = size or height
  sides = jnp.array([height, width], jnp.float32)
  scale = size / (boxes[:, 2:] * sides)
  shift = -boxes[:, :2] * sides * scale

  def one(image, scale, shift):
    return jax.image.scale_and_translate(image, (size, size, 3), (0, 1), scale, shift, method)

  out = jax.vmap(one)(images - fill, scale, shift) + fill  # outside, jax puts 0
  return jnp.clip(out, 0.0, 1.0)  # cubic overshoots


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
    angle=jnp.deg2rad(_between(angle, (-degrees, degrees))),
    scale=_between(size, scale),
    down=_between(down, (-shift, shift)),
    right=_between(right, (-shift, shift)),
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


class Jitter(NamedTuple):
  """How to recolour each image; the identity is (1, 1, 1, 0)."""

  brightness: Float[Array, "b"]  # factors
  contrast: Float[Array, "b"]
  saturation: Float[Array, "b"]
  hue: Float[Array, "b"]  # turns round the colour circle, -0.5 .. 0.5


def sample_jitters(
  key: Key,
  b: int,
  *,
  brightness: float = 0.4,
  contrast: float = 0.4,
  saturation: float = 0.2,
  hue: float = 0.1,
  probability: float = 0.8,
) -> Jitter:
  """Draws factors in 1 +- those given and a hue in +- that given, or, unlucky, the identity."""
  *factors, turns, luck = jax.random.uniform(key, (5, b))
  is_on = luck < probability
  ranges = [(max(0.0, 1 - width), 1 + width) for width in (brightness, contrast, saturation)]
  drawn = [_between(unit, low_high) for unit, low_high in zip(factors, ranges, strict=True)]
  return Jitter(
    *(jnp.where(is_on, factor, 1.0) for factor in drawn),
    hue=jnp.where(is_on, _between(turns, (-hue, hue)), 0.0),
  )


def jitter(images: Images, jitters: Jitter) -> Images:
  """Returns the images with brightness, contrast, saturation and hue changed, in this order. 6 ms.

  Source: torchvision ColorJitter (its order is random), whose contrast turns about the mean gray.
  """
  brightness, contrast, saturation, hue = (part[:, None, None, None] for part in jitters)
  images = jnp.clip(images * brightness, 0, 1)
  mean = _luma(images.mean(axis=(1, 2), keepdims=True))
  images = jnp.clip(mean + (images - mean) * contrast, 0, 1)
  gray = _luma(images)
  images = jnp.clip(gray + (images - gray) * saturation, 0, 1)
  return _turn_hue(images, hue)


def sample_grays(key: Key, b: int, probability: float = 0.2) -> Bool[Array, "b"]:
  """Draws which images lose their colour."""
  return jax.random.bernoulli(key, probability, (b,))


def grayscale(images: Images, grays: Bool[Array, "b"]) -> Images:
  """Returns the images with the chosen ones gray, still of three channels."""
  return jnp.where(grays[:, None, None, None], _luma(images), images)


def _luma(images: Images) -> Float[Array, "b height width 1"]:
  # A sum over an axis of three takes XLA on CPU thirty times as long as three terms.
  return sum(weight * images[..., c : c + 1] for c, weight in enumerate(LUMA))


def _turn_hue(images: Images, turns: Float[Array, "b 1 1 1"]) -> Images:
  """Returns the images with HSV's hue turned; value and saturation stay.

  Source: the closed form f(n) = V - V S max(0, min(k, 4 - k, 1)), k = (n + 6 H) mod 6, n = 5, 3, 1.
  """
  red, green, blue = (images[..., c : c + 1] for c in range(3))
  value = jnp.maximum(jnp.maximum(red, green), blue)
  chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
  by = jnp.where(chroma > 0, chroma, 1.0)  # gray has no hue: any finite number will do
  sixth = jnp.where(value == green, (blue - red) / by + 2, (red - green) / by + 4)
  sixth = jnp.where(value == red, (green - blue) / by, sixth)

  def channel(n: float) -> Float[Array, "b height width 1"]:
    k = n + sixth + 6 * turns
    k = k - 6 * jnp.floor(k / 6)  # jnp.mod, three times faster
    return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0.0, 1.0)

  return jnp.concatenate([channel(n) for n in (5.0, 3.0, 1.0)], axis=-1)

"""What recolours and blurs images on the device; augment.py moves them.

As there, each op is a `sample_*` that draws parameters, one for each image, and a pure function of
float32 images in [0, 1] that applies them and stays within the range. Nothing is rounded to bytes
between the ops; "of 255" is how far we are from PIL, which rounds. All jit-able; times are for 48
images of 64 px on two CPU cores.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from sbir.data.augment import Images, Range, between
from sbir.types import Key

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL and torchvision


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
  drawn = [between(unit, low_high) for unit, low_high in zip(factors, ranges, strict=True)]
  return Jitter(
    *(jnp.where(is_on, factor, 1.0) for factor in drawn),
    hue=jnp.where(is_on, between(turns, (-hue, hue)), 0.0),
  )


def jitter(images: Images, jitters: Jitter) -> Images:
  """Returns the images with brightness, contrast, saturation and hue changed, in this order. 3 ms.

  Source: torchvision ColorJitter (its order is random: `jitter_in_order`), whose contrast turns
  about the mean gray. Within 1.2 of 255 of PIL's ImageEnhance, which cuts fractions off; the hue
  within 16 (0.8 on average), for PIL has but 255 of them and cuts to these too.
  """
  brightness, contrast, saturation, hue = (_wide(part) for part in jitters)
  images = jnp.clip(images * brightness, 0, 1)
  mean = _luma(images.mean(axis=(1, 2), keepdims=True))
  images = jnp.clip(mean + (images - mean) * contrast, 0, 1)
  gray = _luma(images)
  images = jnp.clip(gray + (images - gray) * saturation, 0, 1)
  return _turn_hue(images, hue)


def sample_orders(key: Key, b: int) -> Int[Array, "b 4"]:
  """Draws a permutation for each image: the four ops of Jitter, by place there, first to last."""
  return jnp.argsort(jax.random.uniform(key, (b, len(Jitter._fields))), axis=1)


def jitter_in_order(images: Images, jitters: Jitter, orders: Int[Array, "b 4"]) -> Images:
  """Returns the images with their four ops applied, each image's in its own order. 3 ms.

  Source: torchvision ColorJitter, which draws an order for every image. 1.5 of 255 from PIL's
  four on average (22 at most, through the hue), and 1 brighter, as PIL cuts fractions off.
  """
  for step in range(len(Jitter._fields)):
    images = _jitter_once(images, jitters, orders[:, step])
  return images


def _jitter_once(images: Images, jitters: Jitter, ops: Int[Array, "b"]) -> Images:
  """Returns each image with one op applied: ops[i] is its place in Jitter.

  A branch per image would run one image at a time. All but the hue are one formula, a stretch away
  from black, from the mean gray or from each pixel's own, so only two are computed and one kept.
  """
  factor = jnp.take_along_axis(jnp.stack(jitters, axis=1), ops[:, None], axis=1)[:, 0]
  gray, op = _luma(images), _wide(ops)
  mean = gray.mean(axis=(1, 2), keepdims=True)
  pivot = jnp.where(op == 0, 0.0, jnp.where(op == 1, mean, gray))
  stretched = jnp.clip(pivot + (images - pivot) * _wide(factor), 0, 1)
  return jnp.where(op == 3, _turn_hue(images, _wide(jitters.hue)), stretched)


def sample_grays(key: Key, b: int, probability: float = 0.2) -> Bool[Array, "b"]:
  """Draws which images lose their colour."""
  return jax.random.bernoulli(key, probability, (b,))


def grayscale(images: Images, grays: Bool[Array, "b"]) -> Images:
  """Returns the images with the chosen ones gray, still of three channels."""
  return jnp.where(_wide(grays), _luma(images), images)


def sample_solarised(key: Key, b: int, probability: float = 0.2) -> Bool[Array, "b"]:
  """Draws which images to solarise."""
  return jax.random.bernoulli(key, probability, (b,))


def solarise(images: Images, solarised: Bool[Array, "b"]) -> Images:
  """Returns the images with the bright half of the range inverted in the chosen ones.

  Bytes exactly as PIL's ImageOps.solarize(threshold=128). At one half both branches meet, so it
  does not matter on which side a float between the bytes 127 and 128 falls.
  """
  return jnp.where(_wide(solarised), jnp.minimum(images, 1 - images), images)


def sample_blurs(
  key: Key, b: int, *, radius: Range = (0.1, 2.0), probability: float = 0.1
) -> Float[Array, "b"]:
  """Draws radii in pixels, uniform in their range, or, unlucky, 0: not blurred."""
  size, luck = jax.random.uniform(key, (2, b))
  return jnp.where(luck < probability, between(size, radius), 0.0)


def blur(images: Images, radii: Float[Array, "b"]) -> Images:
  """Returns each image as PIL's GaussianBlur(radius) has it; 0 changes nothing. 4 ms.

  PIL comes near a Gaussian by three boxes along each axis, their ends partly in, the edge repeated
  before each. Here the three are one matrix for each image and axis, any radius alike. Within 3 of
  255 of PIL (0.5 on average), which rounds after each of the six.
  """
  down, right = (_blur_matrix(radii, side) for side in images.shape[1:3])
  images = jnp.einsum("bij,bjwc->biwc", down, images, precision="highest")
  images = jnp.einsum("bkw,biwc->bikc", right, images, precision="highest")
  return jnp.clip(images, 0.0, 1.0)  # rows add up to 1 but for rounding


def _blur_matrix(radii: Float[Array, "b"], side: int) -> Float[Array, "b side side"]:
  """Returns the share of pixel j in blurred pixel i of one axis."""
  reach = _box_reach(radii)[:, None, None]
  # How far each border between pixels is from pixel i; the outermost pixels go on for ever, which
  # is the edge repeated.
  borders = np.concatenate([[-np.inf], np.arange(1, side) - 0.5, [np.inf]])
  gaps = jnp.asarray(borders - np.arange(side)[:, None], jnp.float32)
  box = jnp.diff(jnp.clip(gaps + reach, 0, 2 * reach), axis=2) / (2 * reach)
  multiply = lambda left, right: jnp.matmul(left, right, precision="highest")
  return multiply(box, multiply(box, box))


def _box_reach(radii: Float[Array, "b"]) -> Float[Array, "b"]:
  """Returns how far, from a pixel's middle, the box reaches of which three blur by this radius.

  Source: Gwosdek et al., SSVM 2011, eq. 7, 11 and 14, as Pillow's BoxBlur.c reads them: `whole`
  pixels on either side belong to the box, and a `part` of the next.
  """
  variance = radii**2 / 3
  whole = jnp.floor((jnp.sqrt(12 * variance + 1) - 1) / 2)
  part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
  part = part / (6 * (variance - (whole + 1) ** 2))
  return whole + part + 0.5


def _wide(parts: Shaped[Array, "b"]) -> Shaped[Array, "b 1 1 1"]:
  return parts[:, None, None, None]


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

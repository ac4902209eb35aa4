"""Images as maps of their oriented gradients: what a photo and a drawing of it have in common."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Images = Float[Array, "b height width 3"]

BLUR = 1.0  # pixels: strokes are not drawn exactly where the photo's edges are
REACH = 3  # the blur's kernel ends here
SAME = 0.25 / 255**2  # squared lengths of bytes' gradients differ by 1 / 255^2 or not at all


def oriented_gradients(images: Images) -> Images:
  """Returns how steep images in [0, 1] are in three orientations; white where they are even.

  One channel for each of the orientations 0, 60 and 120 degrees: a gradient adds its length times
  cos^4 of its angle to that orientation, so that dark on light and light on dark are alike. The
  steepest colour channel counts. Blurred, divided by the image's largest value, the root taken, so
  that faint lines show, and drawn dark on white: 1 is no gradient, 0 the steepest. 4 ms for 48
  images of 64 px on two CPU cores. Nothing is learnt.

  Source: ours, after HOG (Dalal and Triggs, CVPR 2005), which has finer bins and local contrast.
  """
  down, right = _steepest(*_differences(images))
  length_squared = down**2 + right**2
  # Twice the angle, so that opposite directions are one orientation.
  above_zero = jnp.maximum(length_squared, 1e-12)
  cosine = (right**2 - down**2) / above_zero
  sine = 2 * down * right / above_zero
  turns = 2 * np.pi * np.arange(3) / 3
  agreement = (1 + cosine * np.cos(turns) + sine * np.sin(turns)) / 2
  strength = _blur(jnp.sqrt(length_squared) * agreement**2)
  largest = jnp.max(strength, axis=(1, 2, 3), keepdims=True)
  return 1 - jnp.sqrt(jnp.maximum(strength, 0) / jnp.maximum(largest, 1e-3))


def _differences(images: Images) -> tuple[Images, Images]:
  """Returns the central differences downwards and to the right; the edge is repeated outside."""
  # Not jnp.pad: its empty pieces for the other axes do not survive in ONNX, where 0 is "as it was".
  join = jnp.concatenate
  below, above = join([images[:, 1:], images[:, -1:]], 1), join([images[:, :1], images[:, :-1]], 1)
  right = join([images[:, :, 1:], images[:, :, -1:]], 2)
  left = join([images[:, :, :1], images[:, :, :-1]], 2)
  return below - above, right - left


def _steepest(down: Images, right: Images) -> tuple[Array, Array]:
  """Returns both differences of each pixel's steepest colour channel, [b, height, width, 1].

  Of channels as steep as each other the first counts: of bytes every hundredth pixel has such, some
  with different angles, and without a margin rounding would choose, each compiler its own way.
  """
  channels = lambda x: jnp.split(x, 3, axis=-1)
  red, green, blue = channels(down**2 + right**2)
  enough = jnp.maximum(jnp.maximum(red, green), blue) - SAME
  pick = lambda r, g, b: jnp.where(red >= enough, r, jnp.where(green >= enough, g, b))
  return pick(*channels(down)), pick(*channels(right))


def _blur(maps: Images) -> Images:
  """Returns the maps smoothed by a Gaussian; outside there is nothing."""
  kernel = np.exp(-0.5 * (np.arange(-REACH, REACH + 1) / BLUR) ** 2)
  kernel = (kernel / kernel.sum()).astype(np.float32)
  height, width = maps.shape[1:3]
  framed = jnp.pad(maps, ((0, 0), (REACH, REACH), (0, 0), (0, 0)))
  maps = sum(weight * framed[:, i : i + height] for i, weight in enumerate(kernel))
  framed = jnp.pad(maps, ((0, 0), (0, 0), (REACH, REACH), (0, 0)))
  return sum(weight * framed[:, :, i : i + width] for i, weight in enumerate(kernel))

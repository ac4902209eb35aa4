"""From paths to pixels: the only place where the synthetic set meets PIL.

Pictures here are square; paths run from -1 to 1, x right, y down, over the whole picture.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from sbir.data.synthetic_parts import Path

OVERSAMPLING = 3  # PIL draws hard edges: each pixel is the mean of 3 x 3


def drawn(
  shapes: Iterable[tuple[Path, int]], size: int, *, paper: int
) -> UInt8[np.ndarray, "size size"]:
  """Returns the filled shapes, each in its own grey, painted in order on even paper."""
  fine = OVERSAMPLING * size
  image = Image.new("L", (fine, fine), paper)
  pen = ImageDraw.Draw(image)
  for path, grey in shapes:
    pen.polygon(((path + 1) * (fine / 2)).ravel().tolist(), fill=grey)
  return np.asarray(image.reduce(OVERSAMPLING))


def coverage(paths: Iterable[Path], size: int) -> Float[np.ndarray, "size size"]:
  """Returns how much of each pixel the union of the paths covers, 0..1."""
  inked = drawn(((path, 255) for path in paths), size, paper=0)
  return inked.astype(np.float32) / 255


def enlarged(grid: Float[np.ndarray, "h w"], size: int) -> Float[np.ndarray, "size size"]:
  """Returns the grid of values spread smoothly (bicubic) over the picture."""
  return np.asarray(Image.fromarray(grid.astype(np.float32)).resize((size, size), Image.BICUBIC))


def blurred(
  picture: Float[np.ndarray, "size size"], radius: float
) -> Float[np.ndarray, "size size"]:
  """Returns the picture under a Gaussian blur; `radius` (standard deviation) in units of the paths.

  As one matrix from each side: PIL blurs 8-bit pictures only, whose steps show under a low light.
  By einsum, because `@` gives other last bits with another number of threads (seen at 224 pixels).
  """
  place = np.arange(len(picture), dtype=np.float32) * (2 / len(picture) / radius)
  weight = np.exp(-0.5 * (place[:, None] - place) ** 2)
  weight /= weight.sum(axis=1, keepdims=True)
  across = np.einsum("ij,kj->ik", picture, weight)
  return np.einsum("ki,ij->kj", weight, across)

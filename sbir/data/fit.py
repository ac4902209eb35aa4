"""How an image of any shape comes into the square that a network takes."""

import numpy as np
from jaxtyping import UInt8

from sbir.data.images import MAX_PIXELS, resize, stretch
from sbir.types import UserError

FITS = ("stretch", "trim")
PAPER = 235  # ink is where the darkest channel is below this; JPEG's rings on white are above
MARGIN = 0.04  # of the longer side, left white around what was trimmed
LONGEST = int(MAX_PIXELS**0.5 / (1 + 2 * MARGIN))  # of what is padded: 65500 x 1 would take 15 GB

# How many times the wanted size a JPEG is decoded at, at least. The squares then differ from those
# of a full decode by 0.1 to 0.6 of 255 on average and 9 at most in photographs and sketches, by up
# to 1.5 and 15 in noise and dense lines (qualities 75 and 90, halves to eighths, odd sizes too).
SPARE = 3

RGB = UInt8[np.ndarray, "height width 3"]


def least_side(size: int, fit: str) -> int:
  """Returns the `at_least` of `images.decode` for an image that `fit_square` will make a square.

  Trimming wants every pixel: what is cut out may be a small part of the image.
  """
  return SPARE * size if fit == "stretch" else 0


def fit_square(image: RGB, size: int, fit: str) -> UInt8[np.ndarray, "size size 3"]:
  """Returns the image as a square of `size` pixels.

  "stretch": the whole image, its shape given up, as published. "trim": white margins are cut off,
  then white is added to make a square, so that a small drawing in a corner and a large one come out
  alike, shape kept. An image without a white margin is only padded.
  """
  if fit not in FITS:
    raise UserError(f"data.fit={fit!r} must be one of: {', '.join(FITS)}")
  return resize(image if fit == "stretch" else pad_square(shorten(trim(image))), size)


def trim(image: RGB) -> RGB:
  """Returns the smallest part of the image that holds all its ink; a blank image as it is."""
  ink = image.min(axis=2) < PAPER
  rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
  if not len(rows):
    return image
  return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def shorten(image: RGB) -> RGB:
  """Returns the image with no side above LONGEST, its shape kept."""
  longer = max(image.shape[:2])
  if longer <= LONGEST:
    return image
  height, width = (max(1, round(side * LONGEST / longer)) for side in image.shape[:2])
  return stretch(image, height, width)


def pad_square(image: RGB) -> RGB:
  """Returns the image in the middle of a white square, with MARGIN around its longer side."""
  height, width = image.shape[:2]
  side = max(height, width) + 2 * round(MARGIN * max(height, width))
  top, left = (side - height) // 2, (side - width) // 2
  square = np.full((side, side, 3), 255, np.uint8)
  square[top : top + height, left : left + width] = image
  return square

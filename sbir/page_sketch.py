"""A sketch as a browser or a program sends it, checked before anything is computed from it."""

import base64
import binascii
import re

import numpy as np
from jaxtyping import UInt8

from sbir.data.images import decode
from sbir.types import UserError

MAX_BYTES = 8_000_000  # of an upload; a photographed sheet of paper has 2 to 5 MB
MAX_PIXELS = 24_000_000  # 72 MB decoded
TOO_LARGE = f"This is too large: expected at most {MAX_BYTES // 1_000_000} MB; save it smaller."
CONTRAST = 24  # of 255, between ink and paper; less is a sheet with nothing on it

RGB = UInt8[np.ndarray, "height width 3"]


class PageError(UserError):
  """What the page's user can mend: one line, in which no path of the server is."""


def read_sketch(data: bytes) -> RGB:
  """Returns an uploaded image. Raises: PageError if it is none, too large, or empty paper."""
  if not data:
    raise PageError("Nothing was sent, expected an image of a sketch; draw or upload one.")
  if len(data) > MAX_BYTES:
    raise PageError(TOO_LARGE)
  try:
    image = decode(data, "This file", max_pixels=MAX_PIXELS)
  except UserError as error:
    raise PageError(f"{error}.") from None
  if int(image.max()) - int(image.min()) < CONTRAST:
    raise PageError("There is nothing on this sheet yet; draw the thing you look for.")
  return image


def from_data_url(text: str) -> bytes:
  """Returns the bytes of a "data:" URL in base64, as a canvas gives it. Raises: PageError."""
  found = re.match(r"data:[\w.+/-]*;base64,", text[:100])
  if not found:
    raise PageError("This is no drawing, expected a data: URL; load the page again.")
  try:
    return base64.b64decode(text[found.end() :], validate=True)
  except (binascii.Error, ValueError):
    raise PageError("The drawing came damaged; load the page again.") from None


def to_data_url(jpeg: bytes) -> str:
  """Returns a JPEG as the address of an <img>."""
  return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")

"""The only reader of image files: whatever was saved comes out as upright RGB bytes."""

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from sbir.places import is_remote, place
from sbir.types import UserError

RGB = UInt8[np.ndarray, "height width 3"]

# What decides, beside a file, which pixels come out: the number is raised when our rules change.
READING = (2, f"Pillow {PIL.__version__}")

# A closed list: Pillow's others include EPS, which starts Ghostscript on the file's program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
EXTENSIONS = frozenset(
  (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
)
MAX_PIXELS = 64_000_000  # 192 MB decoded; a file of a few kB can claim far more (compression bomb)
MAX_SIDE = 65_500  # a JPEG's; Pillow needs 16 bytes for each pixel of a row that it shrinks
MAX_BYTES = 10 * MAX_PIXELS  # of a file: uncompressed pixels have 8 bytes at most
# Of a progressive JPEG, which usually has 10. Each takes as long as a whole image: a file of a few
# hundred kB can have thousands.
MAX_SCANS = 100
JPEG = b"\xff\xd8"
FULL_16_BIT = 65535
GRAY_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # "I" is what 16-bit PGM opens as

# Our own, lower limit below is an error with a next move; Pillow's is a warning beside it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def is_image_name(name: str) -> bool:
  """Returns whether a file name is one of an image we read; hidden files (".x", "._x") are not."""
  return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def decode(
  image: bytes | str | os.PathLike,
  name: str = "",
  *,
  at_least: int = 0,
  max_pixels: int = MAX_PIXELS,
) -> RGB:
  """Returns an encoded image, or the image at a path, as RGB in 0..255.

  Turned upright as its EXIF orientation says. 16-bit gray is scaled (65535 -> 255), not clipped or
  cut; transparency is laid on white, as paper; palettes, gray, 1-bit and CMYK become RGB; of an
  animation the first frame. The array is read-only. In messages about bytes, `name` stands for
  their path. With `at_least` a JPEG may come out at a half, a quarter or an eighth of its size, so
  long as both sides have that many pixels: libjpeg then never makes those that would be averaged
  away (4000 x 4000 to 224: 23 ms instead of 220).
  Raises: UserError if the file is missing, not an image, truncated, empty, or above `max_pixels`,
  MAX_SIDE, MAX_BYTES or MAX_SCANS.
  """
  data, name = _read(image, name)
  _refuse_scans(data, name)
  try:
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
      _refuse_size(opened.size, name, max_pixels)
      return _to_rgb(ImageOps.exif_transpose(_loaded(opened, at_least)), name)
  except UserError:
    raise
  except Image.DecompressionBombError as error:
    raise UserError(
      f"{name}: {error}; expected at most {MAX_PIXELS} pixels; scale it down"
    ) from None
  except UnidentifiedImageError:
    raise _unreadable(name, data, "no image format begins like this") from None
  except Exception as error:  # Pillow lets anything out: OSError, SyntaxError, struct.error
    reason = " ".join(str(error).split()) or type(error).__name__
    raise _unreadable(name, data, reason) from None


def read_file(path: Path) -> bytes:
  """Returns a file's bytes. Raises: OSError if it cannot be read; UserError above MAX_BYTES."""
  if is_remote(path):
    _refuse_bytes(path, path.stat().st_size)
    return path.read_bytes()
  with open(path, "rb") as file:
    size = os.fstat(file.fileno()).st_size
    _refuse_bytes(path, size)
    # No more is asked for than there is: Python takes that memory first. A pipe does not say.
    data = file.read((size or MAX_BYTES) + 1)
  _refuse_bytes(path, len(data))
  return data


def _refuse_bytes(path: Path, size: int) -> None:
  if size > MAX_BYTES:
    raise UserError(f"{path}: {size} bytes, expected at most {MAX_BYTES}; scale it down")


def as_rgb(image: Any, name: str = "image", *, at_least: int = 0) -> RGB:
  """Returns an image given as a path, as encoded bytes, as a PIL image, or as an array u8[h, w, 3]
  or u8[h, w], as `decode` would. `name` stands for it in messages, unless it is a path. `at_least`
  is that of `decode`, for what is still encoded.

  Raises: UserError if it is none of these, or cannot be read.
  """
  if isinstance(image, str | os.PathLike):
    return decode(image, at_least=at_least)
  if isinstance(image, bytes):
    return decode(image, name, at_least=at_least)
  if isinstance(image, Image.Image):
    _refuse_size(image.size, name)
    return _to_rgb(ImageOps.exif_transpose(image), name)
  if not (hasattr(image, "shape") and hasattr(image, "dtype")):
    raise UserError(
      f"{name}: a {type(image).__name__}, expected a path, a PIL image or a uint8 array"
    )
  pixels = np.asarray(image)
  is_gray, is_color = pixels.ndim == 2, pixels.ndim == 3 and pixels.shape[2] == 3
  if pixels.dtype != np.uint8 or not (is_gray or is_color) or not pixels.size:
    raise UserError(
      f"{name}: an array {pixels.dtype}{list(pixels.shape)}, expected uint8[height, width, 3] in "
      "0..255, or uint8[height, width]"
    )
  _refuse_size(pixels.shape[1::-1], name)
  return np.broadcast_to(pixels[:, :, None], (*pixels.shape, 3)) if is_gray else pixels


def resize(image: RGB, size: int) -> UInt8[np.ndarray, "size size 3"]:
  """Returns the image stretched to a square; bilinear, smoothed first where it shrinks."""
  return stretch(image, size, size)


def stretch(image: RGB, height: int, width: int) -> RGB:
  """Returns the image with these sides; bilinear, smoothed first where it shrinks."""
  if image.shape[:2] == (height, width):
    return image
  return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def as_jpeg(image: RGB, quality: int = 80) -> bytes:
  """Returns the image as a JPEG file."""
  file = io.BytesIO()
  Image.fromarray(image).save(file, "JPEG", quality=quality)
  return file.getvalue()


def _read(image: bytes | str | os.PathLike, name: str) -> tuple[bytes, str]:
  if isinstance(image, bytes):
    return image, name or "image"
  name = name or os.fspath(image)
  try:
    return read_file(place(image)), name
  except UserError:
    raise
  except (OSError, ValueError) as error:  # ValueError: of a path that no system can have
    reason = getattr(error, "strerror", "") or error
    raise UserError(
      f"{name}: cannot be read ({reason}), expected an image file; "
      "check the path and its permissions"
    ) from None


def _unreadable(name: str, data: bytes, reason: str) -> UserError:
  return UserError(
    f"{name}: not a readable image ({reason}; {len(data)} bytes), expected a whole PNG, JPEG, "
    "WebP, BMP, GIF, TIFF or PPM; copy it again or remove it"
  )


def _refuse_size(size: tuple[int, int], name: str, max_pixels: int = MAX_PIXELS) -> None:
  width, height = size
  if not min(size):
    raise UserError(f"{name}: {width} x {height} pixels, expected at least one; remove it")
  if width * height > max_pixels or max(size) > MAX_SIDE:
    raise UserError(
      f"{name}: {width} x {height} pixels, expected at most {max_pixels} in all and {MAX_SIDE} a "
      "side; scale it down"
    )


def _refuse_scans(data: bytes, name: str) -> None:
  """Raises UserError for a JPEG of very many scans."""
  if not data.startswith(JPEG) or data.count(b"\xff\xda") <= MAX_SCANS:
    return
  if (scans := _num_scans(data)) > MAX_SCANS:  # a video behind the photo has these bytes by chance
    raise UserError(f"{name}: {scans} scans, expected at most {MAX_SCANS}; save it again as JPEG")


def _num_scans(data: bytes) -> int:
  """Returns how many scans a JPEG has up to its end."""
  place, scans = len(JPEG), 0
  while (place := data.find(b"\xff", place)) >= 0 and (mark := data[place + 1 : place + 2]):
    if mark == b"\xd9":  # the end
      break
    if mark == b"\xff":
      place += 1
    elif mark in b"\x00\x01" or b"\xd0" <= mark <= b"\xd8":  # no length follows
      place += 2
    else:
      scans += mark == b"\xda"
      place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
  return scans


def _loaded(image: Image.Image, at_least: int) -> Image.Image:
  """Returns the image decoded, a JPEG at the smallest scale whose sides are `at_least` long."""
  scale = next((s for s in (8, 4, 2) if at_least and min(image.size) >= s * at_least), 1)
  drafted = image.draft(None, (image.width // scale, image.height // scale)) if scale > 1 else None
  image.load()
  if drafted is None or drafted[1][2:] == image.size:
    return image
  # The last pixels of a row stand for less than the others, or the picture would be stretched.
  return image.resize(image.size, Image.Resampling.BICUBIC, box=drafted[1])


def _to_rgb(image: Image.Image, name: str) -> RGB:
  if image.mode in GRAY_16_BIT:
    return _gray16_to_rgb(image, name)
  if image.mode == "F":
    raise UserError(
      f"{name}: floating-point pixels, expected 8 or 16 bits; save it as an 8-bit PNG"
    )
  if image.has_transparency_data:
    image = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(paper, image)
  return np.asarray(image.convert("RGB"))


def _gray16_to_rgb(image: Image.Image, name: str) -> RGB:
  gray = np.asarray(image).astype(np.int64)
  if gray.min() < 0 or gray.max() > FULL_16_BIT:
    raise UserError(
      f"{name}: 32-bit pixels from {gray.min()} to {gray.max()}, expected 0 to {FULL_16_BIT}; "
      "save it as an 8-bit PNG"
    )
  transparent = image.info.get("transparency")  # PNG may name one gray value that is not there
  if isinstance(transparent, int):
    gray = np.where(gray == transparent, FULL_16_BIT, gray)
  eight = ((gray * 255 + FULL_16_BIT // 2) // FULL_16_BIT).astype(np.uint8)
  return np.broadcast_to(eight[:, :, None], (*eight.shape, 3))

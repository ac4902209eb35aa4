"""A folder of photos as a user has it: which files it holds, and what an index keeps of each."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from sbir.data.fit import fit_square, least_side
from sbir.data.images import as_jpeg, decode, is_image_name, read_file, stretch
from sbir.photo_schema import File
from sbir.preprocessing import Preprocessing
from sbir.types import UserError

THUMBNAIL = 192  # pixels of the longer side


class Seen(NamedTuple):
  """A file that was read."""

  file: File
  sha256: bytes
  thumbnail: bytes  # JPEG; empty if the photo is known
  square: UInt8[np.ndarray, "s s 3"] | None  # as the network takes it; None if the photo is known


def list_photos(folder: Path) -> Iterator[File]:
  """Yields the image files in a folder and the folders in it; hidden ones are not looked at, and
  links to folders are not followed.

  Raises: UserError if a folder cannot be read: photos that are not seen would leave the index.
  """
  try:
    yield from _in_folder(folder, "")
  except OSError as error:
    raise UserError(
      f"--photos {error.filename or folder} cannot be read ({error.strerror}), expected a folder "
      "of photos; check the path and its permissions"
    ) from None


def read_photo(
  folder: Path, file: File, how: Preprocessing, is_known: Callable[[bytes], bool]
) -> Seen:
  """Returns what a file shows, as `encode_photos` would see it; of a known hash only the hash.

  Raises: UserError if it cannot be read.
  """
  path = folder / file.name
  try:
    data = read_file(path)
  except OSError as error:
    raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
  sha256 = hashlib.sha256(data).digest()
  if is_known(sha256):
    return Seen(file, sha256, b"", None)
  pixels = decode(data, str(path), at_least=least_side(how.image_size, how.fit))
  return Seen(file, sha256, thumbnail_of(pixels), fit_square(pixels, how.image_size, how.fit))


def thumbnail_of(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
  """Returns a picture as a JPEG of at most THUMBNAIL pixels a side, its shape kept."""
  scale = min(1.0, THUMBNAIL / max(pixels.shape[:2]))
  height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
  return as_jpeg(stretch(pixels, height, width))


def hash_of(path: Path) -> bytes | None:
  """Returns the SHA-256 of a file, None if it cannot be read."""
  try:
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").digest()
  except OSError:
    return None


def _in_folder(folder: Path, above: str) -> Iterator[File]:
  with os.scandir(folder) as entries:
    for entry in entries:
      name = f"{above}{entry.name}"
      if entry.is_dir(follow_symlinks=False):
        if not entry.name.startswith("."):
          yield from _in_folder(Path(entry.path), f"{name}/")
      elif is_image_name(entry.name) and entry.is_file():
        found = entry.stat()
        yield File(name, found.st_size, found.st_mtime_ns)

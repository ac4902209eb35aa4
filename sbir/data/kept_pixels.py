"""Where resized images are kept after their first use: in memory, or in a file that all share."""

import json
import math
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from sbir import progress
from sbir.places import local, users_cache
from sbir.types import UserError

Square = UInt8[np.ndarray, "s s 3"]
IS_THERE = 1 << 32  # beside a CRC-32: 0 then says that there is no image yet


class MemoryPixels:
  """Images of one process. Memory is taken page by page as they come in."""

  def __init__(self, num_images: int, image_size: int):
    """Raises: UserError if the machine has less memory than all images need."""
    shape = (num_images, image_size, image_size, 3)
    _check_room(math.prod(shape), _memory(), "data.cache=memory", "this machine's")
    self._pixels = np.empty(shape, np.uint8)
    self._is_there = np.zeros(num_images, bool)

  def get(self, index: int) -> Square | None:
    """Returns image `index`, not to be written to, or None where it was not put."""
    return self._pixels[index] if self._is_there[index] else None

  def put(self, index: int, image: Square) -> None:
    """Keeps an image. Two threads may put the same at once."""
    self._pixels[index] = image
    self._is_there[index] = True  # after the pixels, so no thread sees a half-written image


class DiskPixels:
  """Images in a file of fixed places, mapped into the memory of every process that uses it.

  A checksum stands beside each image, written after it and compared at the first use in every
  process: an image that was not written to its end, or was changed, is not there, and is put again.
  So any number of processes may read and write at once, and be killed at any time.
  """

  def __init__(self, root: str | os.PathLike, about: Mapping[str, Any], key: str):
    """Opens the folder `key` in `root` ("": the user's cache), or makes it. `key` names the images
    as they are now; `about` ("num_images", "image_size" and what else there is to say) is written
    beside them, for people.

    Raises: UserError if there is no room, or the folder cannot be written.
    """
    self.folder = (local(root, "data.cache_dir") if root else users_cache("images")) / key[:16]
    num_images, side = about["num_images"], about["image_size"]
    shape = (num_images, side, side, 3)
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      self._file = _sized(self.folder / "pixels.u8", math.prod(shape))
      self._checks_file = _sized(self.folder / "checks.u64", 8 * num_images)
      _write_new(self.folder / "about.json", json.dumps(dict(about), indent=2) + "\n")
    except OSError as error:
      raise self._unwritable(error) from None
    self._pixels = np.memmap(self._file, np.uint8, "r", shape=shape).view(np.ndarray)
    self._checks = np.memmap(self._checks_file, np.uint64, "r", shape=(num_images,))
    self._is_sound = np.zeros(num_images, bool)
    found = np.count_nonzero(self._checks)
    progress.say(f"data.cache=disk: {found} of {num_images} images are in {self.folder}")

  def get(self, index: int) -> Square | None:
    """Returns image `index`, read-only, or None where it was not put or is damaged."""
    image = self._pixels[index]
    if not self._is_sound[index]:
      if int(self._checks[index]) != _check_of(image):
        return None
      self._is_sound[index] = True
    return image

  def put(self, index: int, image: Square) -> None:
    """Keeps an image for all processes. Raises: UserError if the disk is full."""
    image = np.ascontiguousarray(image)
    try:  # not through the map: on a full disk that would kill the process
      _write_at(self._file.fileno(), image.tobytes(), index * image.nbytes)
      _write_at(self._checks_file.fileno(), np.uint64(_check_of(image)).tobytes(), 8 * index)
    except OSError as error:
      raise self._unwritable(error) from None

  def _unwritable(self, error: OSError) -> UserError:
    return UserError(
      f"data.cache_dir: {self.folder} cannot be written ({error.strerror}); name another folder "
      "with --config.data.cache_dir=DIR, or set data.cache=none"
    )


def _check_of(image: Square) -> int:
  return zlib.crc32(image) | IS_THERE


def _sized(path: Path, size: int) -> Any:
  """Returns a file of that size, open to be read and written; a new one is empty and takes no room.

  One of another size cannot be used and is replaced; who has it open keeps it as it is.
  """
  if not path.is_file() or path.stat().st_size != size:
    _check_room(size, shutil.disk_usage(path.parent).free, "data.cache=disk", f"{path.parent}'s")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
      file.truncate(size)
    os.replace(temporary, path)
  return path.open("r+b", buffering=0)


def _write_new(path: Path, text: str) -> None:
  if not path.exists():
    path.write_text(text)


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
  """Writes all of `data`, or raises OSError: near the end of a disk a call may write a part."""
  done = 0
  while done < len(data):
    done += os.pwrite(descriptor, data[done:], offset + done)


def _memory() -> int:
  return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _check_room(need: int, have: int, what: str, whose: str) -> None:
  """Raises UserError where there is too little: the system would promise it and kill the run."""
  if need > have:
    raise UserError(
      f"{what} needs {need / 2**30:.1f} GiB, expected at most {whose} {have / 2**30:.1f}; "
      "set data.cache=none"
    )

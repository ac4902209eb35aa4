"""A source whose images are square already, and read only once if remembered."""

import math
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from sbir.data.fit import fit_square, least_side
from sbir.data.images import READING
from sbir.data.records import Source, stamp_of
from sbir.types import UserError


class ResizedSource:
  """A source whose images are square, u8[size, size, 3], and read only once if remembered."""

  def __init__(
    self, source: Source, image_size: int, *, cache: str = "memory", fit: str = "stretch"
  ):
    """Wraps `source`; `fit` is how images become square, one of `fit.FITS`.

    Cache "memory" keeps each image after its first use, "none" reads anew.
    Memory is taken page by page as images come in, at most len(records) * size * size * 3 bytes.
    Reading is thread-safe: two threads that miss together write the same bytes twice.

    Raises: UserError if `cache` is another word, or the memory cannot be had.
    """
    if cache not in ("memory", "none"):
      raise UserError(f"data.cache={cache!r} must be 'memory' or 'none'")
    self.name, self.records, self.image_size = source.name, source.records, image_size
    self.fit = fit
    self._source, self._pixels = source, None
    if cache == "memory":
      self._pixels = _allocate((len(source.records), image_size, image_size, 3))
      self._is_ready = np.zeros(len(source.records), bool)

  def image(self, index: int, at_least: int = 0) -> UInt8[np.ndarray, "s s 3"]:
    """Returns image `index`, not to be written to."""
    if self._pixels is None:
      return self._read(index)
    if not self._is_ready[index]:
      self._pixels[index] = self._read(index)
      self._is_ready[index] = True  # after the pixels, so no thread sees a half-written image
    return self._pixels[index]

  def images(self, indices: Sequence[int]) -> UInt8[np.ndarray, "b s s 3"]:
    """Returns several images as one new array, which the caller owns."""
    out = np.empty((len(indices), self.image_size, self.image_size, 3), np.uint8)
    for row, index in enumerate(indices):
      out[row] = self.image(int(index))
    return out

  def stamp(self) -> str:
    """Returns what changes with the source, the size, or the way images are decoded and fitted."""
    return stamp_of(self.records, self._source.stamp(), self.image_size, self.fit, READING)

  def _read(self, index: int) -> np.ndarray:
    image = self._source.image(index, least_side(self.image_size, self.fit))
    if self.fit == "stretch" and image.shape == (self.image_size, self.image_size, 3):
      return image
    return fit_square(image, self.image_size, self.fit)


def resized(
  source: Source, image_size: int, *, cache: str = "memory", fit: str = "stretch"
) -> ResizedSource:
  """Returns `source` with square images, or `source` itself if it is one already (cache and all).

  Wrap once and give the result to every function here to let them share the cache, for instance all
  evaluations of a run.
  """
  if isinstance(source, ResizedSource) and source.image_size == image_size:
    return source
  return ResizedSource(source, image_size, cache=cache, fit=fit)


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
  """Returns an unfilled array; the system would promise more than it has and kill the run later."""
  need, have = math.prod(shape), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  if need > have:
    raise UserError(
      f"data.cache=memory needs {need / 2**30:.1f} GiB, expected at most this machine's "
      f"{have / 2**30:.1f}; set data.cache=none"
    )
  return np.empty(shape, np.uint8)

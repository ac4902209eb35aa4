"""A source whose images are square already, and read only once if remembered."""

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8

from sbir.data.bad_images import BadImages, Unreadable
from sbir.data.fit import fit_square, least_side
from sbir.data.images import READING
from sbir.data.kept_pixels import DiskPixels, MemoryPixels
from sbir.data.records import Source, fingerprint, stamp_of
from sbir.types import UserError


class ResizedSource:
  """A source whose images are square, u8[size, size, 3], and read only once if remembered."""

  def __init__(
    self,
    source: Source,
    image_size: int,
    *,
    cache: str = "memory",
    cache_dir: str | os.PathLike = "",
    fit: str = "stretch",
    on_error: str | None = None,
  ):
    """Wraps `source`; `fit` is how images become square, one of `fit.FITS`.

    Cache "memory" keeps each image after its first use, "disk" keeps it in `cache_dir` for every
    process ("": in the user's cache folder), in a folder named after the stamp, so that images that
    have changed are read anew; "none" reads anew every time. A cache needs at most len(records) *
    size * size * 3 bytes. Reading is thread-safe: two threads that miss together write the same
    bytes twice.

    `on_error` says what training does about an image that cannot be read: "stop", or "skip" it, for
    which `bad` keeps note of it. `image` and `images` raise all the same: nothing is measured on
    less than all.

    Raises: UserError if `cache` or `on_error` is another word, or there is no room.
    """
    if cache not in ("memory", "disk", "none"):
      raise UserError(f"data.cache={cache!r} must be 'memory', 'disk' or 'none'")
    self.name, self.records, self.image_size = source.name, source.records, image_size
    self.fit = fit
    self._source, self._kept = source, None
    self.bad = BadImages(source.name, len(source.records), on_error)
    self._is_read = np.zeros(len(source.records), bool)
    if cache == "memory":
      self._kept = MemoryPixels(len(source.records), image_size)
    elif cache == "disk":
      self._kept = DiskPixels(cache_dir, self._about(), self.stamp())

  def image(self, index: int, at_least: int = 0) -> UInt8[np.ndarray, "s s 3"]:
    """Returns image `index`, not to be written to. Raises: Unreadable if its file is bad."""
    image = None if self._kept is None else self._kept.get(index)
    if image is None:
      image = self._read(index)
      if self._kept is not None:
        self._kept.put(index, image)
    self._is_read[index] = True
    return image

  def images(self, indices: Sequence[int]) -> UInt8[np.ndarray, "b s s 3"]:
    """Returns several images as one new array, which the caller owns."""
    out = np.empty((len(indices), self.image_size, self.image_size, 3), np.uint8)
    for row, index in enumerate(indices):
      out[row] = self.image(int(index))
    return out

  def images_or_blank(self, indices: Sequence[int]) -> UInt8[np.ndarray, "b s s 3"]:
    """Returns what `images` does, white where training skips the image: `bad` has noted those."""
    out = np.full((len(indices), self.image_size, self.image_size, 3), 255, np.uint8)
    for row, index in enumerate(indices):
      if not self.bad.among(np.array([[index]])).any():
        try:
          out[row] = self.image(int(index))
        except Unreadable as error:
          self.bad.note(error)
    return out

  def check(self, indices: Int[np.ndarray, "..."]) -> None:
    """Reads those of the images that never were, where training skips bad ones: what hangs on an
    image is skipped with it, also by who does not look at it. Raises: Unreadable."""
    if self.bad.is_skipping:
      for index in np.unique(indices):
        if not self._is_read[index]:
          self.image(int(index))

  def stamp(self) -> str:
    """Returns what changes with the source, the size, or the way images are decoded and fitted."""
    return stamp_of(self.records, self._source.stamp(), self.image_size, self.fit, READING)

  def _about(self) -> dict[str, str | int]:
    return {
      "name": self.name,
      "records": fingerprint(self.records),
      "num_images": len(self.records),
      "image_size": self.image_size,
      "fit": self.fit,
    }

  def _read(self, index: int) -> np.ndarray:
    try:
      image = self._source.image(index, least_side(self.image_size, self.fit))
    except UserError as error:
      raise Unreadable(str(error), index) from None
    if self.fit == "stretch" and image.shape == (self.image_size, self.image_size, 3):
      return image
    return fit_square(image, self.image_size, self.fit)


def resized(
  source: Source,
  image_size: int,
  *,
  cache: str = "memory",
  cache_dir: str | os.PathLike = "",
  fit: str = "stretch",
  on_error: str | None = None,
) -> ResizedSource:
  """Returns `source` with square images, or `source` itself if it is one already (cache and all).

  Wrap once and give the result to every function here to let them share the cache, for instance all
  evaluations of a run.
  """
  if isinstance(source, ResizedSource) and source.image_size == image_size:
    return source
  words = {"cache": cache, "cache_dir": cache_dir, "fit": fit, "on_error": on_error}
  return ResizedSource(source, image_size, **words)

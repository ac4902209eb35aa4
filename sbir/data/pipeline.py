"""From a source's records to batches of uint8 images, for training and for evaluation.

Training batch k is a function of (source, seed, batch_size, k) alone, and k is the whole state of
the iterator: resuming needs no replay, and threads and processes change nothing in what is drawn.
"""

import functools
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np
from jaxtyping import Int32, UInt8

from sbir.data.padding import HostBatch, padded
from sbir.data.pairs import epoch_length, epoch_rows, find_pairs, rows_in_order
from sbir.data.records import Source, stamp_of
from sbir.types import UserError

BatchIterator = grain.DatasetIterator  # endless; get_state() and set_state() are {"next_index": k}


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

  def image(self, index: int) -> UInt8[np.ndarray, "s s 3"]:
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
    from sbir.data.images import READING

    return stamp_of(self.records, self._source.stamp(), self.image_size, self.fit, READING)

  def _read(self, index: int) -> np.ndarray:
    image = self._source.image(index)
    if self.fit == "stretch" and image.shape == (self.image_size, self.image_size, 3):
      return image
    from sbir.data.fit import fit_square  # PIL: where nothing is resized, it is not needed

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


def train_batches(
  source: Source,
  *,
  image_size: int,
  batch_size: int,
  seed: int,
  sample_by: str = "sketch",
  cache: str = "memory",
  num_threads: int = 2,
  process_index: int = 0,
  process_count: int = 1,
) -> BatchIterator:
  """Returns an endless, seeded, resumable iterator over training batches.

  A batch is {"photo", "sketch", "sketch_positive": u8[b, s, s, 3], "id": i32[b]}; `id` is the
  place of the photo among the source's photos. The positive is another sketch of the same photo, or
  the same sketch where there is only one. `sample_by="sketch"`: every sketch is the anchor once per
  epoch. "photo": every photo that has a sketch comes once per epoch with a random anchor and
  positive, as in the released XModalViT. Each epoch has its own order; epochs run on into each
  other, so every batch is full and nothing is left over.

  `batch_size` counts the pairs of all processes; each yields its own b = batch_size / process_count
  consecutive rows, so the global batch is the same for any number of processes.

  Grain's own shuffle is not used: on a set of 8 it takes 5 ms an element (it walks 2^16 places).

  Raises: UserError if there are too few pairs, or an argument is out of range.
  """
  pairs = find_pairs(source)
  num_rows = epoch_length(pairs, sample_by)
  _check_train_arguments(num_rows, batch_size, seed, num_threads, process_count)
  images = resized(source, image_size, cache=cache)
  per_process = batch_size // process_count

  @functools.lru_cache(maxsize=4)  # threads work a few batches ahead, at times into the next epoch
  def rows_of_epoch(epoch: int) -> np.ndarray:
    return epoch_rows(pairs, sample_by=sample_by, seed=seed, epoch=epoch)

  def load(step: int) -> HostBatch:
    start = step * batch_size + process_index * per_process
    epochs_and_rows = (divmod(start + i, num_rows) for i in range(per_process))
    return _pair_batch(images, np.stack([rows_of_epoch(e)[row] for e, row in epochs_and_rows]))

  return iterate(load, num_threads)


def iterate(load: Callable[[int], HostBatch], num_threads: int) -> BatchIterator:
  """Returns an endless iterator over load(0), load(1), ..., loaded ahead by the threads.

  Its state (`get_state`, `set_state`) is {"next_index": batches taken}.
  """
  # Each thread works on one whole batch; one more waits ready while the device computes.
  num_ready = num_threads + 1 if num_threads else 0
  options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=num_ready)
  return iter(grain.MapDataset.range(sys.maxsize).map(load).to_iter_dataset(options))


def eval_batches(
  source: Source, indices: Sequence[int], *, image_size: int, batch_size: int
) -> Iterator[HostBatch]:
  """Yields {"image": u8[b, s, s, 3], "mask": bool[b], "index": i32[b]}, each index once, in order.

  The last batch repeats its last index up to `batch_size`; the mask is False there.
  """
  images = resized(source, image_size, cache="none")
  rows = np.asarray(indices, np.int32)
  return padded(rows, batch_size, lambda part: {"image": images.images(part), "index": part})


def pair_batches(source: Source, *, image_size: int, batch_size: int) -> Iterator[HostBatch]:
  """Yields training-shaped batches and a "mask" in one pass over all pairs, photo by photo.

  Every sketch that has a photo is the anchor once; its positive is the next sketch of that photo,
  the last being followed by the first. Padding as in `eval_batches`.
  """
  images = resized(source, image_size, cache="none")
  rows = rows_in_order(find_pairs(source))
  return padded(rows, batch_size, functools.partial(_pair_batch, images))


def _pair_batch(images: ResizedSource, rows: Int32[np.ndarray, "b 4"]) -> HostBatch:
  names = ("photo", "sketch", "sketch_positive")
  batch = {name: images.images(rows[:, 1 + k]) for k, name in enumerate(names)}
  return batch | {"id": rows[:, 0].copy()}


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
  """Returns an unfilled array; the system would promise more than it has and kill the run later."""
  need, have = math.prod(shape), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  if need > have:
    raise UserError(
      f"data.cache=memory needs {need / 2**30:.1f} GiB, expected at most this machine's "
      f"{have / 2**30:.1f}; set data.cache=none"
    )
  return np.empty(shape, np.uint8)


def _check_train_arguments(
  num_rows: int, batch_size: int, seed: int, num_threads: int, process_count: int
) -> None:
  if batch_size < 1:
    raise UserError(f"batch_size={batch_size} must be at least 1")
  if batch_size > num_rows:
    raise UserError(
      f"batch_size={batch_size} is more than the {num_rows} training pairs of an epoch; "
      f"nearest: {num_rows - num_rows % process_count}"
    )
  check_shared("batch_size", batch_size, process_count)
  check_drawing(seed, num_threads)


def check_shared(name: str, number: int, process_count: int) -> None:
  """Raises UserError unless every process gets as many of the `number` rows of a batch."""
  if number % process_count:
    below = number - number % process_count
    raise UserError(
      f"{name}={number} must divide by {process_count} processes; "
      f"nearest: {below or process_count} or {below + process_count}"
    )


def check_drawing(seed: int, num_threads: int) -> None:
  """Raises UserError for a seed or a number of threads that is below 0."""
  if seed < 0:
    raise UserError(f"seed={seed} must be 0 or more; take for instance {-seed}")
  if num_threads < 0:
    raise UserError(f"data.num_threads={num_threads} must be 0 (none) or more")

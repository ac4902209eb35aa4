"""From a source's records to batches of uint8 images, for training and for evaluation.

Training batch k is a function of (source, seed, batch_size, k) alone, and k is the whole state of
the iterator: resuming needs no replay, and threads and processes change nothing in what is drawn.
Which images of the source can be read counts too, where training skips those that cannot.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np
from jaxtyping import Int32

from sbir.data.padding import HostBatch, padded
from sbir.data.pairs import epoch_length, epoch_rows, find_pairs, rows_in_order
from sbir.data.records import Source
from sbir.data.resized import ResizedSource, resized
from sbir.processes import WHOLE, Share
from sbir.types import UserError

BatchIterator = grain.DatasetIterator  # endless; get_state() and set_state() are {"next_index": k}
PAIR_IMAGES = ("photo", "sketch", "sketch_positive")  # in the order of a row's last three columns
# Maps rows (photo's id, photo, anchor, positive) and the number of each one's view to what is to
# stand in the batch beside the images.
Join = Callable[[Int32[np.ndarray, "b 4"], Int32[np.ndarray, "b"]], HostBatch]


def train_batches(
  source: Source,
  *,
  image_size: int,
  batch_size: int,
  seed: int,
  sample_by: str = "sketch",
  images: Sequence[str] = PAIR_IMAGES,
  num_views: int = 0,
  join: Join | None = None,
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

  `images` names those to read. With `num_views` stored views, a row of epoch e is of view
  e % num_views, and the batch says so: {"view", "sketch_index", "sketch_positive_index": i32[b]},
  indices into the source's records. What `join` returns is in the batch too.

  `batch_size` counts the pairs of all processes; each yields its own b = batch_size / process_count
  consecutive rows, so the global batch is the same for any number of processes.

  A row with an image that cannot be read stops the iterator; or, if the source is resized with
  `on_error="skip"`, another of its epoch stands in its place (`BadImages.shown_at`), whether this
  batch would read the image or not.

  Grain's own shuffle is not used: on a set of 8 it takes 5 ms an element (it walks 2^16 places).

  Raises: UserError if there are too few pairs, or an argument is out of range; the iterator, for an
  image that cannot be read, or too many of those.
  """
  pairs = find_pairs(source)
  num_rows = epoch_length(pairs, sample_by)
  _check_train_arguments(num_rows, batch_size, seed, num_threads, process_count)
  pixels = resized(source, image_size, cache=cache)
  per_process = batch_size // process_count

  @functools.lru_cache(maxsize=4)  # threads work a few batches ahead, at times into the next epoch
  def rows_of_epoch(epoch: int) -> np.ndarray:
    return epoch_rows(pairs, sample_by=sample_by, seed=seed, epoch=epoch)

  def row_at(number: int) -> np.ndarray:
    epoch, place = divmod(number, num_rows)
    rows = rows_of_epoch(epoch)
    return rows[pixels.bad.shown_at(place, rows[:, 1:])]

  def load(step: int) -> HostBatch:
    start = step * batch_size + process_index * per_process
    numbers = range(start, start + per_process)
    rows = np.stack([row_at(number) for number in numbers])
    views = (np.array(numbers) // num_rows % max(num_views, 1)).astype(np.int32)
    batch = _pair_batch(pixels, rows, images)
    pixels.check(rows[:, 1:])
    if num_views:
      sketches = {"sketch_index": rows[:, 2], "sketch_positive_index": rows[:, 3]}
      batch |= {"view": views} | {name: column.copy() for name, column in sketches.items()}
    return batch | (join(rows, views) if join else {})

  return iterate(lambda step: pixels.bad.noting(lambda: load(step)), num_threads)


def iterate(load: Callable[[int], HostBatch], num_threads: int) -> BatchIterator:
  """Returns an endless iterator over load(0), load(1), ..., loaded ahead by the threads.

  Its state (`get_state`, `set_state`) is {"next_index": batches taken}.
  """
  # Each thread works on one whole batch; one more waits ready while the device computes.
  num_ready = num_threads + 1 if num_threads else 0
  options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=num_ready)
  return iter(grain.MapDataset.range(sys.maxsize).map(load).to_iter_dataset(options))


def eval_batches(
  source: Source,
  indices: Sequence[int],
  *,
  image_size: int,
  batch_size: int,
  share: Share = WHOLE,
) -> Iterator[HostBatch]:
  """Yields {"image": u8[b, s, s, 3], "mask": bool[b], "index": i32[b]}, each index once, in order.

  The last batch repeats its last index up to `batch_size`; the mask is False there. Threads load
  ahead, as in `padding.in_order`. With a `share` b is that of one process, as in `padding.padded`.
  """
  images = resized(source, image_size, cache="none")
  rows = np.asarray(indices, np.int32)
  load = lambda part: {"image": images.images(part), "index": part}
  return padded(rows, batch_size, load, share=share)


def pair_batches(
  source: Source,
  *,
  image_size: int,
  batch_size: int,
  images: Sequence[str] = PAIR_IMAGES,
  join: Join | None = None,
  share: Share = WHOLE,
) -> Iterator[HostBatch]:
  """Yields training-shaped batches and a "mask" in one pass over all pairs, photo by photo.

  Every sketch that has a photo is the anchor once; its positive is the next sketch of that photo,
  the last being followed by the first. Padding and `share` as in `eval_batches`; `images` and
  `join` as in `train_batches`, every row of view 0.
  """
  pixels = resized(source, image_size, cache="none")

  def load(rows: np.ndarray) -> HostBatch:
    views = np.zeros(len(rows), np.int32)
    return _pair_batch(pixels, rows, images) | (join(rows, views) if join else {})

  return padded(rows_in_order(find_pairs(source)), batch_size, load, share=share)


def _pair_batch(
  pixels: ResizedSource, rows: Int32[np.ndarray, "b 4"], names: Sequence[str]
) -> HostBatch:
  batch = {name: pixels.images(rows[:, 1 + PAIR_IMAGES.index(name)]) for name in names}
  return batch | {"id": rows[:, 0].copy()}


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

"""Photos and sketches in two streams that know nothing of each other: labels, but no pairs.

Batch k is a function of (source, seed, batch sizes, k) alone, as in `pipeline`. An image that
cannot be read stops the iterator, or is skipped, as there.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from sbir.data.pipeline import BatchIterator, HostBatch, check_drawing, check_shared, iterate
from sbir.data.records import Source, photo_indices, sketch_indices
from sbir.data.resized import resized
from sbir.types import UserError

# Maps indices into the source's records and the number of each one's view to what is to stand in
# the batch beside the images, each name behind that of the stream.
Join = Callable[[Int32[np.ndarray, "b"], Int32[np.ndarray, "b"]], HostBatch]


class _Stream(NamedTuple):
  name: str  # of the images in a batch
  setting: str  # what the user calls `per_batch`
  indices: Int32[np.ndarray, "images"]  # into the source's records
  per_batch: int


def epoch_steps(source: Source, *, num_photos: int, num_sketches: int) -> int:
  """Returns the batches of one epoch: as many as the stream fills that is at its end first.

  `num_photos` and `num_sketches` are those of a batch. Raises: UserError if they are below 1, or
  more than the source has.
  """
  return _steps(source, _streams(source, num_photos, num_sketches))


def class_batches(
  source: Source,
  classes: Sequence[str],
  *,
  image_size: int,
  num_photos: int,
  num_sketches: int,
  seed: int,
  num_views: int = 0,
  join: Join | None = None,
  cache: str = "memory",
  num_threads: int = 2,
  process_index: int = 0,
  process_count: int = 1,
) -> BatchIterator:
  """Returns an endless, seeded, resumable iterator over batches of photos and of sketches.

  A batch is {"photo": u8[b, s, s, 3], "photo_label": i32[b], "sketch": u8[c, s, s, 3],
  "sketch_label": i32[c]}; a label is the place of the image's category in `classes`. In each epoch
  of `epoch_steps` batches both streams are shuffled anew, each for itself; classes are not
  balanced, and what fills no batch, or has no partner in the other stream, is left out until the
  next epoch.

  With `num_views` stored views, an image of epoch e is shown in view e % num_views, and the batch
  says so: {"photo_index", "photo_view", "sketch_index", "sketch_view": i32[...]}, indices into the
  source's records. What `join` returns is in the batch too, as "photo_..." and "sketch_...".

  `num_photos` and `num_sketches` count those of all processes; each yields its own b = num_photos /
  process_count and c = num_sketches / process_count consecutive rows, so the global batch is the
  same for any number of processes.

  Source: the two loaders of PSKD's main_firststage.py, each with a shuffle of its own, drop_last,
  zipped.

  Raises: UserError if the source is too small, a category is not among the classes, or an argument
  is out of range; the iterator, for an image that cannot be read, or too many of those.
  """
  streams = _streams(source, num_photos, num_sketches)
  num_steps = _steps(source, streams)
  for stream in streams:
    check_shared(stream.setting, stream.per_batch, process_count)
  check_drawing(seed, num_threads)
  labels = _labels(source, classes)
  images = resized(source, image_size, cache=cache)

  @functools.lru_cache(maxsize=8)  # threads work a few batches ahead, at times into the next epoch
  def shuffled(place: int, epoch: int) -> Int32[np.ndarray, "images"]:
    return np.random.default_rng([seed, epoch, place]).permutation(streams[place].indices)

  def load(step: int) -> HostBatch:
    epoch, step = divmod(step, num_steps)
    batch: HostBatch = {}
    for place, stream in enumerate(streams):
      per_process = stream.per_batch // process_count
      start = step * stream.per_batch + process_index * per_process
      order = shuffled(place, epoch)
      numbers = range(start, start + per_process)
      rows = order[[images.bad.shown_at(number, order[:, None]) for number in numbers]]
      batch |= {stream.name: images.images(rows), f"{stream.name}_label": labels[rows]}
      if num_views:
        beside = _beside(rows, epoch % num_views, join)
        batch |= {f"{stream.name}_{name}": values for name, values in beside.items()}
    return batch

  return iterate(lambda step: images.bad.noting(lambda: load(step)), num_threads)


def _beside(rows: Int32[np.ndarray, "b"], view: int, join: Join | None) -> HostBatch:
  """Returns which stored views these rows are of, and what `join` has of them."""
  views = np.full(len(rows), view, np.int32)
  return {"index": rows.copy(), "view": views} | ({} if join is None else join(rows, views))


def _streams(source: Source, num_photos: int, num_sketches: int) -> tuple[_Stream, _Stream]:
  photos = np.array(photo_indices(source), np.int32)
  sketches = np.array(sketch_indices(source), np.int32)
  return (
    _Stream("photo", "num_photos", photos, num_photos),
    _Stream("sketch", "num_sketches", sketches, num_sketches),
  )


def _steps(source: Source, streams: Sequence[_Stream]) -> int:
  for _, setting, indices, per_batch in streams:
    if per_batch < 1:
      raise UserError(f"{setting}={per_batch} must be at least 1")
    if per_batch > len(indices):
      raise UserError(
        f"{setting}={per_batch} of a batch is more than the {len(indices)} of an epoch of "
        f"{source.name}; nearest: {len(indices)} (set --config.batch_size)"
      )
  return min(len(stream.indices) // stream.per_batch for stream in streams)


def _labels(source: Source, classes: Sequence[str]) -> Int32[np.ndarray, "records"]:
  """Returns the label of every record."""
  label_of = {name: label for label, name in enumerate(classes)}
  if strange := sorted({record.category for record in source.records} - label_of.keys()):
    raise UserError(
      f"{source.name}: {len(strange)} categories are none of the {len(label_of)} classes to train "
      f"on (first: {strange[0]!r}); take source and classes from the same split"
    )
  return np.array([label_of[record.category] for record in source.records], np.int32)

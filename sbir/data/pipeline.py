"""From a source's records to batches of uint8 images, for training and for evaluation.

The order of training pairs is drawn over indices, which are cheap; images are read last. Batch
number k is therefore a function of (source, seed, batch_size, k) alone, and the whole state of the
iterator is k: resuming needs no replay, and threads or processes change nothing in what is drawn.
"""

from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np

from sbir.data.records import Source, photo_indices, sketches_of
from sbir.types import UserError

PAIR = ("photo", "sketch", "sketch_positive")


class ResizedSource:
  """A source whose images are square, u8[size, size, 3], and read only once if remembered."""

  def __init__(self, source: Source, image_size: int, *, cache: str = "memory"):
    """Wraps `source`; cache "memory" keeps each image after its first use, "none" reads anew.

    Memory is taken page by page as images are filled, at most len(records) * size * size * 3 bytes.
    Reading is thread-safe: two threads that miss together write the same bytes twice.
    """
    if cache not in ("memory", "none"):
      raise UserError(f"data.cache={cache!r} must be 'memory' or 'none'")
    self.name, self.records = source.name, source.records
    self._source, self._size = source, image_size
    self._pixels, self._is_ready = None, None
    if cache == "memory":
      self._pixels = _allocate((len(source.records), image_size, image_size, 3))
      self._is_ready = np.zeros(len(source.records), bool)

  def image(self, index: int) -> np.ndarray:
    """Returns image `index` as u8[size, size, 3]; do not write to it."""
    if self._pixels is None:
      return self._read(index)
    if not self._is_ready[index]:
      self._pixels[index] = self._read(index)
      self._is_ready[index] = True  # after the pixels, so no thread sees a half-written image
    return self._pixels[index]

  def images(self, indices: Sequence[int]) -> np.ndarray:
    """Returns u8[len(indices), size, size, 3], a copy the caller owns."""
    out = np.empty((len(indices), self._size, self._size, 3), np.uint8)
    for row, index in enumerate(indices):
      out[row] = self.image(int(index))
    return out

  def _read(self, index: int) -> np.ndarray:
    image = self._source.image(int(index))
    if image.shape == (self._size, self._size, 3):
      return image
    from sbir.data.images import resize  # PIL: where nothing is resized, it is not needed

    return resize(image, self._size)


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
  try:
    return np.empty(shape, np.uint8)
  except MemoryError:
    need = np.prod(shape, dtype=float) / 2**30
    raise UserError(f"data.cache=memory needs {need:.1f} GiB; set data.cache=none") from None


def resized(source: Source, image_size: int, *, cache: str = "memory") -> ResizedSource:
  """Returns `source` with square images; one that is already so is returned as it is.

  Wrap once and hand the result to every function here to share one cache between them, for instance
  between the evaluations of a run.
  """
  if isinstance(source, ResizedSource) and source._size == image_size:
    return source
  return ResizedSource(source, image_size, cache=cache)


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
) -> grain.DatasetIterator:
  """Returns an endless, seeded, resumable iterator over training batches.

  A batch is {"photo", "sketch", "sketch_positive": u8[b, s, s, 3], "id": i32[b]}; `id` is the
  place of the photo among the source's photos. The positive is another sketch of the same photo, or
  the same sketch where there is only one. `sample_by="sketch"`: every sketch is the anchor once per
  epoch. "photo": every photo that has a sketch comes once per epoch with a random anchor and
  positive, as in the released XModalViT. Each epoch has its own order; epochs run on into each
  other, so every batch is full and nothing is left over.

  `batch_size` counts the pairs of all processes; each process yields its own b = batch_size /
  process_count consecutive rows, so the global batch is the same for any number of processes.
  The state (`get_state`, `set_state`) is a small JSON-able dict.

  Raises: UserError if there are too few pairs, or an argument is out of range.
  """
  pairs = _training_pairs(source, sample_by)
  _check_train_arguments(len(pairs), batch_size, seed, num_threads, process_count)
  images = resized(source, image_size, cache=cache)
  per_process = batch_size // process_count
  mine = slice(process_index * per_process, (process_index + 1) * per_process)
  dataset = (
    grain.MapDataset.source(pairs)
    .seed(seed)
    .shuffle()
    .repeat()
    .random_map(_draw_pair)
    .batch(batch_size, drop_remainder=True, batch_fn=np.stack)
    .map(lambda rows: _pair_batch(images, rows[mine]))
  )
  # A thread works on one whole batch; one more waits ready while the device computes.
  options = grain.ReadOptions(
    num_threads=num_threads, prefetch_buffer_size=num_threads + 1 if num_threads else 0
  )
  return iter(dataset.to_iter_dataset(options))


def eval_batches(
  source: Source, indices: Sequence[int], *, image_size: int, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
  """Yields {"image": u8[b, s, s, 3], "mask": bool[b], "index": i32[b]}, each index once, in order.

  The last batch repeats its last index up to `batch_size`; the mask is False there.
  """
  images = resized(source, image_size, cache="none")
  rows = np.asarray(indices, np.int32)
  yield from _padded(
    rows, batch_size, lambda part: {"image": images.images(part), "index": part.copy()}
  )


def pair_batches(
  source: Source, *, image_size: int, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
  """Yields training-shaped batches and a "mask" in one pass over all pairs, in the sketches' order.

  Every sketch that has a photo is the anchor once; its positive is the next sketch of that photo,
  the last being followed by the first. Padding as in `eval_batches`.
  """
  images = resized(source, image_size, cache="none")
  rows = [
    (photo_id, photo, sketch, sketches[(k + 1) % len(sketches)])
    for photo_id, photo, sketches in _paired_photos(source)
    for k, sketch in enumerate(sketches)
  ]
  rows = np.array(sorted(rows, key=lambda row: row[2]), np.int32).reshape(-1, 4)
  yield from _padded(rows, batch_size, lambda part: _pair_batch(images, part))


Pair = tuple[int, int, tuple[int, ...], int | None]  # photo's id, photo, its sketches, anchor


def _paired_photos(source: Source) -> list[tuple[int, int, tuple[int, ...]]]:
  """Returns (id, photo index, sketch indices) of every photo that has a sketch."""
  sketches = sketches_of(source)
  photos = enumerate(photo_indices(source))
  rows = [(i, p, tuple(sketches.get(source.records[p].instance, ()))) for i, p in photos]
  return [row for row in rows if row[2]]


def _training_pairs(source: Source, sample_by: str) -> list[Pair]:
  """Returns what one epoch goes through: one entry per sketch, or one per photo (anchor None)."""
  photos = _paired_photos(source)
  if sample_by == "photo":
    return [(*row, None) for row in photos]
  if sample_by == "sketch":
    return [(*row, anchor) for row in photos for anchor in row[2]]
  raise UserError(f"data.sample_by={sample_by!r} must be 'sketch' or 'photo'")


def _draw_pair(pair: Pair, rng: np.random.Generator) -> np.ndarray:
  """Returns i32[4] (id, photo, anchor, positive); the generator is seeded by the position."""
  photo_id, photo, sketches, anchor = pair
  if anchor is None:
    anchor = sketches[rng.integers(len(sketches))]
  others = [sketch for sketch in sketches if sketch != anchor] or [anchor]
  positive = others[rng.integers(len(others))]
  return np.array([photo_id, photo, anchor, positive], np.int32)


def _pair_batch(images: ResizedSource, rows: np.ndarray) -> dict[str, np.ndarray]:
  batch = {name: images.images(rows[:, k + 1]) for k, name in enumerate(PAIR)}
  return batch | {"id": rows[:, 0].copy()}


def _padded(
  rows: np.ndarray, batch_size: int, load: Callable[[np.ndarray], dict[str, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
  """Yields load(batch_size rows at a time) with a mask that is False where a row is padding."""
  if batch_size < 1:
    raise UserError(f"batch_size={batch_size} must be at least 1")
  for start in range(0, len(rows), batch_size):
    taken = np.arange(start, start + batch_size)
    mask = taken < len(rows)
    yield load(rows[np.minimum(taken, len(rows) - 1)]) | {"mask": mask}


def _check_train_arguments(
  num_pairs: int, batch_size: int, seed: int, num_threads: int, process_count: int
) -> None:
  if num_pairs == 0:
    raise UserError("0 training pairs: no sketch belongs to a photo; check the ids in the names")
  if batch_size < 1:
    raise UserError(f"batch_size={batch_size} must be at least 1")
  if batch_size > num_pairs:
    raise UserError(
      f"batch_size={batch_size} is more than the {num_pairs} training pairs; "
      f"nearest: {num_pairs - num_pairs % process_count}"
    )
  if batch_size % process_count:
    below = batch_size - batch_size % process_count
    raise UserError(
      f"batch_size={batch_size} must divide by {process_count} processes; "
      f"nearest: {below or process_count} or {below + process_count}"
    )
  if not 0 <= seed < 2**32:
    raise UserError(f"seed={seed} must be in [0, 2**32); take for instance {seed % 2**32}")
  if num_threads < 0:
    raise UserError(f"data.num_threads={num_threads} must be 0 (none) or more")

"""Which photo and sketches stand in which row of which training batch: indices only, no image.

Row r of epoch e is a function of (records, sample_by, seed, e, r), so nothing has to be replayed.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from sbir.data.records import Source, photo_indices, sketches_of
from sbir.types import UserError


class Pairs(NamedTuple):
  """The photos that have a sketch, in the source's order, and their sketches end to end."""

  photo_id: Int32[np.ndarray, "photos"]  # place among all the source's photos
  photo: Int32[np.ndarray, "photos"]  # index into the source's records
  first: Int32[np.ndarray, "photos"]  # where the photo's sketches begin in `sketch`
  count: Int32[np.ndarray, "photos"]  # how many it has, at least 1
  sketch: Int32[np.ndarray, "sketches"]  # indices into the source's records


def find_pairs(source: Source) -> Pairs:
  """Returns the pairs of a source; photos and sketches that lack the other are left out.

  Raises: UserError if there is not a single pair.
  """
  sketches = sketches_of(source)
  ids = [record.instance for record in source.records]
  photos = enumerate(photo_indices(source))
  rows = [(i, p, sketches[ids[p]]) for i, p in photos if ids[p] in sketches]
  if not rows:
    raise UserError(
      f"{source.name}: 0 training pairs, expected at least 1; "
      "check that the sketches' names begin with their photo's id"
    )
  count = np.array([len(found) for _, _, found in rows], np.int32)
  return Pairs(
    photo_id=np.array([i for i, _, _ in rows], np.int32),
    photo=np.array([p for _, p, _ in rows], np.int32),
    first=np.cumsum(count, dtype=np.int32) - count,
    count=count,
    sketch=np.concatenate([found for _, _, found in rows]).astype(np.int32),
  )


def epoch_length(pairs: Pairs, sample_by: str) -> int:
  """Returns the rows of one epoch: the number of paired sketches, or of photos.

  Raises: UserError if `sample_by` is neither "sketch" nor "photo".
  """
  if sample_by not in ("sketch", "photo"):
    raise UserError(f"data.sample_by={sample_by!r} must be 'sketch' or 'photo'")
  return len(pairs.sketch if sample_by == "sketch" else pairs.photo)


def epoch_rows(
  pairs: Pairs, *, sample_by: str, seed: int, epoch: int
) -> Int32[np.ndarray, "rows 4"]:
  """Returns one shuffled epoch as rows (photo's id, photo, anchor sketch, positive sketch).

  By "sketch" every sketch is the anchor once; by "photo" every photo comes once and its anchor is
  drawn. The positive is drawn among the other sketches of the photo; an only sketch is its own.
  """
  rng = np.random.default_rng([seed, epoch])
  order = rng.permutation(epoch_length(pairs, sample_by))
  if sample_by == "photo":
    owner, place = order, rng.integers(pairs.count[order])
  else:
    owner, place = (part[order] for part in _sketch_places(pairs))
  return _rows(pairs, owner, place, rng.integers(1, np.maximum(pairs.count[owner], 2)))


def rows_in_order(pairs: Pairs) -> Int32[np.ndarray, "sketches 4"]:
  """Returns such rows for every sketch once, unshuffled, each with the next sketch of its photo."""
  owner, place = _sketch_places(pairs)
  return _rows(pairs, owner, place, np.ones_like(place))


def _sketch_places(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
  """Returns, for every sketch, which of the photos it belongs to and its place among that one's."""
  owner = np.repeat(np.arange(len(pairs.photo)), pairs.count)
  return owner, np.arange(len(owner)) - pairs.first[owner]


def _rows(pairs: Pairs, owner: np.ndarray, place: np.ndarray, step: np.ndarray) -> np.ndarray:
  """Returns rows whose positive stands `step` places after the anchor, round the photo's own."""
  positive = (place + step) % pairs.count[owner]
  first = pairs.first[owner]
  columns = pairs.photo_id[owner], pairs.photo[owner], pairs.sketch[first + place]
  return np.stack([*columns, pairs.sketch[first + positive]], axis=1).astype(np.int32)

"""What a data set is to everybody else: a sorted list of records and a way to get one image."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from sbir.types import UserError

PHOTO = "photo"
SKETCH = "sketch"
SPLITS = ("train", "test")
ALL = "undivided"  # the one split of a set that is divided by class (TFDS keeps "all" to itself)


@dataclass(frozen=True, order=True)
class Record:
  """Names one image. A sketch belongs to the photo with the same `instance`."""

  modality: str  # PHOTO or SKETCH
  category: str  # "" where the set has none
  instance: str  # the photo's id, unique within the split
  key: str  # unique name of the image: its path relative to the data folder, "/" between the parts


class Source(Protocol):
  """One split of a data set. `records` is in the order of `ordered`, so that every kind of storage
  (folder, manifest, TFDS) of the same images gives the same indices."""

  name: str
  records: tuple[Record, ...]

  def image(self, index: int, at_least: int = 0) -> UInt8[np.ndarray, "height width 3"]:
    """Returns `records[index]` decoded: upright RGB, white where it was transparent.

    A large image may come scaled down if `at_least` is not 0, its sides still that many pixels.
    """
    ...

  def stamp(self) -> str:
    """Returns a SHA-256 that changes when any record or stored image may have changed, so that what
    was computed from them can be known to be of them still. Decodes as good as nothing.
    """
    ...


def ordered(records: Iterable[Record]) -> tuple[Record, ...]:
  """Returns photos, then sketches, each sorted by category, instance and key."""
  return tuple(sorted(records))  # "photo" < "sketch", and the fields stand in this order


def fingerprint(records: Iterable[Record]) -> str:
  """Returns the SHA-256 of which images a split has and what is said of each; of no pixels.

  The same for every kind of storage, so that two results can be known to be of the same split.
  """
  fields = ("\t".join((r.modality, r.category, r.instance, r.key)) for r in ordered(records))
  return hashlib.sha256("".join(f"{line}\n" for line in fields).encode()).hexdigest()


def stamp_of(records: Iterable[Record], *more: object) -> str:
  """Returns the SHA-256 of the records in their order and of the reprs of what else counts."""
  digest = hashlib.sha256()
  for part in (*records, *more):
    digest.update(f"{part!r}\n".encode())
  return digest.hexdigest()


def photo_indices(source: Source) -> list[int]:
  """Returns the indices of the photos, ascending: they are 0 .. num_photos - 1."""
  return [i for i, record in enumerate(source.records) if record.modality == PHOTO]


def sketch_indices(source: Source) -> list[int]:
  """Returns the indices of the sketches, ascending."""
  return [i for i, record in enumerate(source.records) if record.modality == SKETCH]


def photo_of(source: Source) -> dict[str, int]:
  """Returns the index of the photo of each instance."""
  return {source.records[i].instance: i for i in photo_indices(source)}


def sketches_of(source: Source) -> dict[str, list[int]]:
  """Returns the indices of the sketches of each instance that has any, ascending."""
  sketches: dict[str, list[int]] = {}
  for i in sketch_indices(source):
    sketches.setdefault(source.records[i].instance, []).append(i)
  return sketches


def sketches_without_photo(records: Sequence[Record]) -> list[Record]:
  """Returns the sketches whose instance no photo has: queries without an answer."""
  photos = {record.instance for record in records if record.modality == PHOTO}
  return [r for r in records if r.modality == SKETCH and r.instance not in photos]


def photos_without_sketch(records: Sequence[Record]) -> list[Record]:
  """Returns the photos nobody drew: no training pair, but part of the test gallery."""
  drawn = {record.instance for record in records if record.modality == SKETCH}
  return [r for r in records if r.modality == PHOTO and r.instance not in drawn]


def repeated_photo_ids(records: Sequence[Record]) -> list[str]:
  """Returns the instances that more than one photo claims, sorted."""
  counts = Counter(record.instance for record in records if record.modality == PHOTO)
  return sorted(instance for instance, count in counts.items() if count > 1)


def check(source: Source, where: str = "") -> None:
  """Raises UserError if no retrieval can be learnt or measured on these records. Decodes nothing.

  `where` says in the message which split of which folder; by default the source's name does.

  Refused: no photos, no sketches, a photo id used twice, a sketch whose photo is not there (and
  with it the set in which no photo has a sketch). Photos without a sketch are allowed.
  """
  records, name = source.records, where or source.name
  counts = Counter(record.modality for record in records)
  for modality, plural in ((PHOTO, "photos"), (SKETCH, "sketches")):
    if not counts[modality]:
      raise UserError(
        f"{name}: 0 {plural} found, expected at least 1; check the data folder and the split"
      )
  if repeated := repeated_photo_ids(records):
    raise UserError(
      f"{name}: {len(repeated)} photo ids are used by several photos (first: {repeated[0]!r}), "
      "expected one photo an id; remove or rename the extra photos"
    )
  if orphans := sketches_without_photo(records):
    raise UserError(
      f"{name}: {len(orphans)} of {counts[SKETCH]} sketches have no photo (first: "
      f"{orphans[0].key}, photo id {orphans[0].instance!r}); add the photos or remove the sketches"
    )

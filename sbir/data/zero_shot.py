"""The one door to data sets that are divided by class: `open_zero_shot`.

A sketch asks for its class here, not for its photo, so nothing is demanded of pairs.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from sbir.data.class_folders import list_class_folders, list_photo_folder
from sbir.data.class_splits import ClassSplit, normalise, outlier_sketches, read_split
from sbir.data.files import FileSource, Listing, files_of
from sbir.data.manifest import is_manifest, list_categories
from sbir.data.records import PHOTO, SKETCH, Record, Source, stamp_of
from sbir.data.sources import KINDS, one_of
from sbir.places import expanded
from sbir.types import UserError

PARTS = ("train", "validation", "test", "seen")

# The embedded set: enough to learn from, and drawn in seconds.
DEMO_TRAIN_PHOTOS = 40  # of each class
DEMO_TEST_PHOTOS = 30
DEMO_SKETCHES = 2  # of each photo


@dataclass(frozen=True)
class PartSource:
  """Some images of other sources, under records of its own."""

  name: str
  part: str
  records: tuple[Record, ...]
  _places: tuple[tuple[Source, int], ...]  # where each record's image is

  def image(self, index: int, at_least: int = 0) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the image of `records[index]` as its own source gives it."""
    source, place = self._places[index]
    return source.image(place, at_least)

  def stamp(self) -> str:
    """Returns what changes with the sources, or with which of their images are taken."""
    sources = list({id(source): source for source, _ in self._places}.values())
    number = {id(source): k for k, source in enumerate(sources)}
    places = ((number[id(source)], place) for source, place in self._places)
    return stamp_of(self.records, *places, *(source.stamp() for source in sources))


class Entry(NamedTuple):
  """A record, and the source and index that its image comes from."""

  record: Record
  place: tuple[Source, int]


def open_zero_shot(
  kind: str,
  name: str,
  dir: str | os.PathLike,
  part: str,
  *,
  split: str,
  seen: str = "",
  validation_classes: int = 0,
  held_out_photos: int = 0,
  base_photos: str = "",
  seed: int = 0,
) -> tuple[PartSource, ClassSplit]:
  """Returns one part of a data set that is divided by class, and the division.

  "train" has the classes that are trained on, less `held_out_photos` photos of each; "validation"
  those taken out of the seen ones; "test" the unseen; "seen" the held-out photos of the classes
  that are trained on (all their photos if none are held out) and no sketches: the distractors of
  generalised zero-shot retrieval.

  kind "synthetic" draws the embedded set that `seed` names; "folder" reads what
  `class_folders.list_class_folders` describes; "manifest" reads `dir`/manifest.csv; "tfds" reads
  what `sbir.data.prepare --zero_shot` wrote. `split`, `seen` and `validation_classes` are those of
  `read_split`. `base_photos` is a folder <class>/... whose photos are added: SAKE and ZSE-SBIR add
  Sketchy's own 12,500 to the extended set, which has them already.

  Categories are normalised. A photo's instance is its id, or its key where several have that id.
  The sketches of data set "sketchy" that TVT and PSKD leave out are left out.

  Raises: UserError for an unknown word, for what the readers and `read_split` refuse, and for a
  class of the part without photos or without sketches.
  """
  _check_arguments(kind, part, held_out_photos, base_photos)
  whole = _whole(kind, name, dir, part, seed)
  entries = _entries(name, whole)
  if base_photos:
    entries += _entries(name, _base(name, base_photos, whole))
  division = read_split(
    split,
    {entry.record.category for entry in entries},
    validation_classes=validation_classes,
    seen=seen,
  )
  entries = _of_part(entries, part, division, held_out_photos)
  records = [entry.record for entry in entries]
  _check_classes(f"{name}, split {division.name}, part {part}", records, part, division)
  return PartSource(name, part, tuple(records), tuple(e.place for e in entries)), division


def list_all(kind: str, name: str, dir: str | os.PathLike) -> Listing:
  """Returns all that is in a data folder, unchecked; kind "folder", "manifest" or "auto".

  "auto" is a manifest if there is one. Raises: UserError if the folder is missing or no data set.
  """
  if kind == "manifest" or (kind == "auto" and is_manifest(dir)):
    return list_categories(name, dir)
  return list_class_folders(name, dir)


def is_outlier(name: str, record: Record) -> bool:
  """Returns whether a record of data set `name` is a sketch that TVT and PSKD leave out."""
  if name != "sketchy" or record.modality != SKETCH:
    return False
  file = record.key.rsplit("/", 1)[-1]
  return f"{normalise(record.category)}/{file}" in outlier_sketches()


def _spellings(name: str, records: Iterable[Record]) -> dict[str, str]:
  """Returns the normalised name of every category."""
  spelling: dict[str, str] = {}
  first: dict[tuple[str, str], str] = {}
  for modality, category in sorted({(record.modality, record.category) for record in records}):
    spelling[category] = normalise(category)
    other = first.setdefault((modality, spelling[category]), category)
    if other != category:
      raise UserError(
        f"{name}: {other!r} and {category!r} are both the {modality} class {spelling[category]!r}, "
        "expected one name for each class; put them together or rename one"
      )
  return spelling


def _check_arguments(kind: str, part: str, held_out_photos: int, base_photos: str) -> None:
  if kind not in KINDS:
    raise UserError(f"data.source={kind!r}, expected {one_of(kind, KINDS)}")
  if part not in PARTS:
    raise UserError(f"part {part!r}, expected {one_of(part, PARTS)}")
  if held_out_photos < 0:
    raise UserError(f"data.held_out_photos={held_out_photos} must be 0 (none) or more")
  if held_out_photos and base_photos:
    raise UserError(
      f"data.held_out_photos={held_out_photos} beside data.base_photos={base_photos}: the set has "
      "nearly all of those already, so held-out photos would be trained on; leave one of them out"
    )


def _whole(kind: str, name: str, dir: str | os.PathLike, part: str, seed: int) -> Source:
  """Returns the source of all classes, of which a part takes its own."""
  if kind == "synthetic":
    from sbir.data.synthetic import CATEGORIES, open_synthetic

    return open_synthetic(
      "test" if part == "test" else "train",
      seed=seed,
      num_train=DEMO_TRAIN_PHOTOS * len(CATEGORIES),
      num_test=DEMO_TEST_PHOTOS * len(CATEGORIES),
      num_sketches=DEMO_SKETCHES,
    )
  if kind == "tfds":
    from sbir.data.tfds_source import open_unpaired

    return open_unpaired(name, dir)
  return files_of(list_all(kind, name, dir))


def _base(name: str, folder: str, whole: Source) -> FileSource:
  """Returns the source of the photos to be added to those of `whole`."""
  source = files_of(list_photo_folder(name, folder))
  if isinstance(whole, FileSource) and whole.records:
    photo = (whole.root / whole.records[0].key).resolve()
    if expanded(folder).resolve() in photo.parents:
      raise UserError(
        f"data.base_photos={folder} is where the photos of the set are already, expected others to "
        "add; leave it empty"
      )
  return source


def _entries(name: str, source: Source) -> list[Entry]:
  """Returns what is used of a source: categories normalised, every photo an instance, no outlier.

  Raises: UserError if two names of classes are one when normalised.
  """
  spelling = _spellings(name, source.records)
  claims = Counter(record.instance for record in source.records if record.modality == PHOTO)
  entries = []
  for index, record in enumerate(source.records):
    is_repeated = record.modality == PHOTO and claims[record.instance] > 1
    instance = record.key if is_repeated else record.instance
    clean = replace(record, category=spelling[record.category], instance=instance)
    if not is_outlier(name, clean):
      entries.append(Entry(clean, (source, index)))
  return entries


def _of_part(
  entries: Iterable[Entry], part: str, division: ClassSplit, held_out_photos: int
) -> list[Entry]:
  """Returns the entries of a part in the order of records."""
  classes = _classes(part, division)
  mine = [entry for entry in entries if entry.record.category in classes]
  if part == "seen":
    mine = [entry for entry in mine if entry.record.modality == PHOTO]
  if part in ("train", "seen") and held_out_photos:
    held_out = _held_out((entry.record for entry in mine), held_out_photos)
    mine = [entry for entry in mine if (entry.record.key in held_out) == (part == "seen")]
  return sorted(mine, key=lambda entry: entry.record)


def _classes(part: str, division: ClassSplit) -> tuple[str, ...]:
  if part == "validation" and not division.validation:
    raise UserError(
      "the validation part has 0 classes, expected at least 1; set data.validation_classes"
    )
  by_part = {"validation": division.validation, "test": division.unseen}
  return by_part.get(part, division.seen)


def _held_out(records: Iterable[Record], number: int) -> set[str]:
  """Returns the keys of the photos of each class whose SHA-256 of "category/key" is lowest."""
  by_class: dict[str, list[str]] = {}
  for record in records:
    if record.modality == PHOTO:
      by_class.setdefault(record.category, []).append(record.key)
  chosen: set[str] = set()
  for category, keys in by_class.items():
    if number >= len(keys):
      raise UserError(
        f"data.held_out_photos={number}, but class {category!r} has {len(keys)} photos, expected "
        f"at least one left to train on; nearest: {len(keys) - 1}"
      )
    by_hash = sorted(keys, key=lambda k, c=category: hashlib.sha256(f"{c}/{k}".encode()).digest())
    chosen.update(by_hash[:number])
  return chosen


def _check_classes(where: str, records: Sequence[Record], part: str, division: ClassSplit) -> None:
  """Raises UserError naming the classes of the part that lack photos or sketches."""
  has = {(record.modality, record.category) for record in records}
  needed = ((PHOTO, "photos"),) if part == "seen" else ((PHOTO, "photos"), (SKETCH, "sketches"))
  for modality, plural in needed:
    lacking = [name for name in _classes(part, division) if (modality, name) not in has]
    if lacking:
      raise UserError(
        f"{where}: {len(lacking)} of {len(_classes(part, division))} classes have no {plural} "
        f"({', '.join(lacking[:5])}), expected at least 1 each; add them or take the classes out "
        "of the data"
      )

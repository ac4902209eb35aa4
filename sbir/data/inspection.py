"""What can be wrong with the images of a data set: each is opened once, then compared by hash."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sbir.data.diagnosis import ERROR, WARNING, Finding, many
from sbir.data.files import FileSource
from sbir.data.images import decode
from sbir.data.records import PHOTO, SKETCH, SPLITS, Record
from sbir.types import UserError


@dataclass(frozen=True)
class Inspected:
  """What remains of an image after it was opened."""

  split: str
  record: Record
  file_hash: bytes = b""
  pixel_hash: bytes = b""
  is_flat: bool = False  # one colour all over
  problem: str = ""  # why it is unreadable, else ""


def inspect(source: FileSource, index: int) -> Inspected:
  """Returns one image's hashes, or what is wrong with it."""
  record = source.records[index]
  try:
    data = source.read(index)
    image = decode(data, str(source.root / record.key))
  except UserError as error:
    return Inspected(source.split, record, problem=str(error))
  pixels = image.tobytes()
  pixel_hash = hashlib.sha256(repr(image.shape).encode() + pixels).digest()
  is_flat = pixels == pixels[:3] * (len(pixels) // 3)
  return Inspected(source.split, record, hashlib.sha256(data).digest(), pixel_hash, is_flat)


def image_findings(
  images: Iterable[Inspected], splits: tuple[str, str] = SPLITS, *, by_class: bool = False
) -> list[Finding]:
  """Returns the findings about what is in the image files of two splits.

  What the same image twice means depends on what is asked for: one item, or a class.
  """
  images = list(images)
  readable = [image for image in images if not image.problem and not image.is_flat]
  found = _unreadable(images) + _in_both_splits(readable, splits) + _flat(images)
  for split in splits:
    found += _identical([image for image in readable if image.split == split], split, by_class)
  return found


def _unreadable(images: Sequence[Inspected]) -> list[Finding]:
  bad = tuple(image.problem for image in images if image.problem)
  if not bad:
    return []
  return [Finding(ERROR, "unreadable", f"{many(len(bad), 'image')}; copy again or remove", bad)]


def _in_both_splits(images: Sequence[Inspected], splits: tuple[str, str]) -> list[Finding]:
  groups = _groups(images, lambda image: image.pixel_hash)
  leaks = [g for g in groups if {image.split for image in g} == set(splits)]
  if not leaks:
    return []
  message = (
    f"{many(len(leaks), 'image')} in {splits[0]} and in {splits[1]}: results would be too good; "
    "remove one"
  )
  return [Finding(ERROR, f"{splits[0]} and {splits[1]} share", message, _equations(leaks))]


def _flat(images: Sequence[Inspected]) -> list[Finding]:
  flat = tuple(image.record.key for image in images if image.is_flat)
  if not flat:
    return []
  return [
    Finding(WARNING, "empty images", f"{many(len(flat), 'image')} of one colour all over", flat)
  ]


def _identical(images: Sequence[Inspected], split: str, by_class: bool) -> list[Finding]:
  """Returns what is there twice within a split: as the same bytes, or saved in another way."""
  found = []
  for modality in (PHOTO, SKETCH):
    mine = [image for image in images if image.record.modality == modality]
    same_bytes = _groups(mine, lambda image: image.file_hash)
    known = {image.pixel_hash for group in same_bytes for image in group}
    rest = [image for image in mine if image.pixel_hash not in known]
    same_pixels = _groups(rest, lambda image: image.pixel_hash)
    found += _duplicates(same_bytes, modality, "byte for byte", split, by_class)
    found += _duplicates(same_pixels, modality, "in every pixel", split, by_class)
  return found


def _duplicates(
  groups: Sequence[Sequence[Inspected]], modality: str, how: str, split: str, by_class: bool
) -> list[Finding]:
  """Returns a finding for the groups inside one item or class and one for those across."""

  def owners(group: Sequence[Inspected]) -> set[str]:
    records = [image.record for image in group]
    return {record.category if by_class else record.instance for record in records}

  one, several = ("class", "classes") if by_class else ("item", "photo ids")
  within = [g for g in groups if len(owners(g)) == 1]
  across = [g for g in groups if len(owners(g)) > 1]
  found = []
  if within:
    items = many(len(set().union(*map(owners, within))), one)
    message = f"{items} of {split} with {modality} files identical {how}: they count twice"
    found.append(Finding(WARNING, f"same {modality} twice", message, _equations(within)))
  if across:
    message = (
      f"{many(len(across), 'group')} of {split}, identical {how} under different {several}: "
      "no method can tell them apart"
    )
    found.append(Finding(WARNING, f"identical {modality} files", message, _equations(across)))
  return found


def _groups(
  images: Iterable[Inspected], key: Callable[[Inspected], bytes]
) -> list[list[Inspected]]:
  """Returns the images that share a key, two or more a group, in the order they came."""
  groups: dict[bytes, list[Inspected]] = {}
  for image in images:
    groups.setdefault(key(image), []).append(image)
  return [group for group in groups.values() if len(group) > 1]


def _equations(groups: Iterable[Sequence[Inspected]]) -> tuple[str, ...]:
  return tuple(" = ".join(image.record.key for image in group) for group in groups)

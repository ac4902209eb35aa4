"""What can be wrong with a data set, from its records alone: pure functions to findings."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sbir.data.files import Listing
from sbir.data.published import CLASSES, PUBLISHED, Counts
from sbir.data.records import (
  PHOTO,
  SKETCH,
  SPLITS,
  Record,
  photos_without_sketch,
  repeated_photo_ids,
  sketches_without_photo,
)

ERROR = "error"  # training or measuring on this would be wrong
WARNING = "warning"  # worth knowing before believing a number

# difflib's ratio. Above .88 no two of the 485 class names of Sketchy, TU-Berlin and QuickDraw are
# alike (nearest: bowl and owl, bus and bush, ear and pear at .86), while one slip in 7 letters is.
ALIKE = 0.88
ALIKE_IF_LONELY = 0.7  # for a class that one modality lacks altogether, the other may spell it so


@dataclass(frozen=True)
class Finding:
  """One thing found, with every record key or name that it is about."""

  level: str  # ERROR or WARNING
  check: str  # short name of what was looked for
  message: str  # a line: how many, what it means, the next move
  examples: tuple[str, ...] = ()


def count(records: Iterable[Record]) -> Counts:
  """Returns how many photos and sketches there are."""
  counts = Counter(record.modality for record in records)
  return Counts(counts[PHOTO], counts[SKETCH])


def many(number: int, noun: str) -> str:
  """Returns a number with its noun, in the plural where that is due."""
  ending = "" if number == 1 else "es" if noun.endswith(("sh", "ch", "ss")) else "s"
  return f"{number} {noun}{ending}"


def diagnose(name: str, listings: Mapping[str, Listing]) -> list[Finding]:
  """Returns the findings that need no image to be opened, for listings by split."""
  found = []
  for split in SPLITS:
    found += file_findings(listings[split]) + _pairs(split, listings[split].records)
  records = [record for split in SPLITS for record in listings[split].records]
  found += _ids_in_both({split: listings[split].records for split in SPLITS})
  found += _categories(records) + class_names(name, records)
  counted = {split: count(listings[split].records) for split in SPLITS}
  return found + count_findings(name, counted, PUBLISHED.get(name, {}))


def file_findings(listing: Listing) -> list[Finding]:
  """Returns the reader's problems with a split as one finding."""
  if not listing.problems:
    return []
  message = f"{len(listing.problems)} in {listing.split}: {listing.problems[0]}"
  return [Finding(ERROR, "files and names", message, listing.problems)]


def _pairs(split: str, records: Sequence[Record]) -> list[Finding]:
  photos, sketches = count(records)
  if not photos or not sketches:
    message = f"{split} has {photos} photos and {sketches} sketches, expected at least 1 of each"
    return [Finding(ERROR, "empty split", f"{message}; check the folder")]
  found = []
  if ids := repeated_photo_ids(records):
    message = (
      f"{many(len(ids), 'id')} of {split} used by several photos; rename or remove the others"
    )
    found.append(Finding(ERROR, "photo ids", message, tuple(ids)))
  if orphans := sketches_without_photo(records):
    message = (
      f"{len(orphans)} of {sketches} sketches of {split} have no photo; add it or remove them"
    )
    found.append(Finding(ERROR, "sketches without photo", message, _keys(orphans)))
  if undrawn := photos_without_sketch(records):
    message = f"{len(undrawn)} of {photos} photos of {split} have no sketch: " + (
      "not trained on" if split == "train" else "in the gallery, never the answer"
    )
    found.append(Finding(WARNING, "photos without sketch", message, _keys(undrawn)))
  return found


def _ids_in_both(records: Mapping[str, Sequence[Record]]) -> list[Finding]:
  ids = [{r.instance for r in records[split] if r.modality == PHOTO} for split in SPLITS]
  shared = tuple(sorted(set.intersection(*ids)))
  if not shared:
    return []
  message = f"{many(len(shared), 'photo id')} in train and in test; harmless if the photos differ"
  return [Finding(WARNING, "ids in train and test", message, shared)]


def _categories(records: Sequence[Record]) -> list[Finding]:
  photo = {r.instance: r.category for r in records if r.modality == PHOTO}
  wrong = [
    r for r in records if r.modality == SKETCH and photo.get(r.instance, r.category) != r.category
  ]
  if not wrong:
    return []
  message = (
    f"{len(wrong)} sketches are of another category than their photo; correct one of the two"
  )
  return [Finding(WARNING, "category of the pair", message, _keys(wrong))]


def class_names(name: str, records: Sequence[Record]) -> list[Finding]:
  """Returns the class names that look like slips of others, or that the data set does not have."""
  of = {m: {r.category for r in records if r.modality == m} - {""} for m in (PHOTO, SKETCH)}
  known = CLASSES.get(name, ())
  both = of[PHOTO] | of[SKETCH]
  slips: dict[str, str] = {}
  for category in sorted(both.difference(known) if known else ()):
    slips[category] = f"{category!r} is no class of {name}{perhaps(category, known, 0.6)}"
  for here, there in ((PHOTO, SKETCH), (SKETCH, PHOTO)):
    for category in sorted(of[here] - of[there] - slips.keys()):
      near = perhaps(category, of[there] - of[here], ALIKE_IF_LONELY)
      slips[category] = f"{category!r} has {_plural(here)} but no {_plural(there)}{near}"
  for category in sorted(both - slips.keys()):
    if near := [other for other in sorted(both) if other > category and alike(category, other)]:
      slips[category] = f"{category!r} is nearly {near[0]!r}"
  if not slips:
    return []
  message = f"{len(slips)} of {len(both)} class names look wrong; rename the folders or rows"
  return [Finding(WARNING, "class names", message, tuple(slips.values()))]


def perhaps(category: str, choices: Iterable[str], cutoff: float) -> str:
  """Returns "; did you mean 'x'?" with the nearest of the choices, or nothing."""
  plain = {_plain(choice): choice for choice in choices}
  near = difflib.get_close_matches(_plain(category), plain, n=1, cutoff=cutoff)
  return f"; did you mean {plain[near[0]]!r}?" if near else ""


def _plain(category: str) -> str:
  """Returns a name without case, separators and brackets."""
  return re.sub(r"[^a-z0-9]", "", category.casefold())


def alike(a: str, b: str) -> bool:
  """Returns whether two names of classes are one but for a slip."""
  a, b = _plain(a), _plain(b)
  return a == b or difflib.SequenceMatcher(None, a, b).ratio() > ALIKE


def count_findings(
  name: str,
  counted: Mapping[str, Sequence[int]],
  published: Mapping[str, Mapping[str, Sequence[int | None]]],
) -> list[Finding]:
  """Returns a warning if the counts are those of no published source, wholly."""
  if not published or any(_agrees(counted, splits) for splits in published.values()):
    return []
  return [
    Finding(
      WARNING,
      "published counts",
      f"the counts are those of no published version of {name}; compare only with numbers "
      "measured on the same images",
    )
  ]


def _agrees(
  counted: Mapping[str, Sequence[int]], published: Mapping[str, Sequence[int | None]]
) -> bool:
  mine = {**counted, "all": [sum(column) for column in zip(*counted.values(), strict=True)]}
  return all(
    said is None or said == seen
    for split, counts in published.items()
    for said, seen in zip(counts, mine[split], strict=True)
  )


def _plural(modality: str) -> str:
  return {PHOTO: "photos", SKETCH: "sketches"}[modality]


def _keys(records: Iterable[Record]) -> tuple[str, ...]:
  return tuple(record.key for record in records)

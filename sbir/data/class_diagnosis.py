"""What can be wrong with a data set that is divided by class, from its records alone."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sbir.data.class_splits import ALL_CLASSES, classes_in, normalise
from sbir.data.diagnosis import (
  ALIKE_IF_LONELY,
  ERROR,
  WARNING,
  Finding,
  alike,
  count,
  count_findings,
  file_findings,
  many,
  perhaps,
)
from sbir.data.files import Listing
from sbir.data.published import PUBLISHED_BY_CLASS, ClassCounts
from sbir.data.records import PHOTO, SKETCH, Record

SIDES = ("seen", "unseen")
PLURAL = {PHOTO: "photos", SKETCH: "sketches"}


def sides(listing: Listing, unseen: Iterable[str], seen: Iterable[str] = ()) -> dict[str, Listing]:
  """Returns the listings of the seen and the unseen classes, their categories normalised.

  Without a list of seen classes those are all that are not unseen.
  """
  records = [replace(r, category=normalise(r.category)) for r in listing.records]
  found = {record.category for record in records}
  classes = {"seen": set(seen) or found.difference(unseen), "unseen": set(unseen)}
  return {
    side: replace(
      listing, split=side, records=tuple(r for r in records if r.category in classes[side])
    )
    for side in SIDES
  }


def class_count(records: Sequence[Record]) -> ClassCounts:
  """Returns how many classes, photos and sketches there are."""
  return ClassCounts(len({record.category for record in records}), *count(records))


def diagnose_classes(
  name: str, split: str, listing: Listing, unseen: Sequence[str], seen: Sequence[str] = ()
) -> list[Finding]:
  """Returns the findings that need no image to be opened, for a listing of all classes.

  `unseen` and `seen` are the names in the lists, normalised; no list of seen classes is empty.
  """
  divided = sides(listing, unseen, seen)
  records = [record for side in SIDES for record in divided[side].records]
  found = file_findings(listing) + _two_names(listing.records) + _in_both_lists(unseen, seen)
  found += _missing("unseen", unseen, records, ERROR)
  if seen or name in ALL_CLASSES:
    expected = seen or sorted(set(classes_in(ALL_CLASSES[name])).difference(unseen))
    found += _missing("seen", expected, records, ERROR if seen else WARNING)
  found += _one_sided(records) + _class_names(name, records)
  counted = {side: class_count(divided[side].records) for side in SIDES}
  found += [
    Finding(ERROR, "empty side", f"the {side} classes have no image; check the folder and the list")
    for side in SIDES
    if not divided[side].records
  ]
  published = PUBLISHED_BY_CLASS.get(split, {})
  return found + count_findings(f"{name} for {split}", counted, published)


def _two_names(records: Iterable[Record]) -> list[Finding]:
  names: dict[tuple[str, str], set[str]] = {}
  for record in records:
    names.setdefault((record.modality, normalise(record.category)), set()).add(record.category)
  double = tuple(
    f"{' and '.join(map(repr, sorted(spelt)))} are both the {modality} class {category!r}"
    for (modality, category), spelt in sorted(names.items())
    if len(spelt) > 1
  )
  if not double:
    return []
  message = f"{many(len(double), 'class')} under two names; put them together or rename one"
  return [Finding(ERROR, "two names of a class", message, double)]


def _in_both_lists(unseen: Sequence[str], seen: Sequence[str]) -> list[Finding]:
  both = tuple(sorted(set(seen).intersection(unseen)))
  if not both:
    return []
  message = f"{many(len(both), 'class')} both seen and unseen; remove them from one of the lists"
  return [Finding(ERROR, "seen and unseen", message, both)]


def _missing(
  side: str, expected: Sequence[str], records: Sequence[Record], level: str
) -> list[Finding]:
  found = {record.category for record in records}
  missing = sorted(set(expected) - found)
  if not missing:
    return []
  rest = found.difference(expected)
  examples = [f"{name!r} is not there{perhaps(name, rest, ALIKE_IF_LONELY)}" for name in missing]
  message = f"{len(missing)} of {len(expected)} {side} classes have no image; check their names"
  return [Finding(level, f"{side} classes", message, tuple(examples))]


def _one_sided(records: Sequence[Record]) -> list[Finding]:
  """Returns the classes that one modality lacks, with what it may call them."""
  of = {m: {r.category for r in records if r.modality == m} for m in (PHOTO, SKETCH)}
  lonely = tuple(
    f"{category!r} has {PLURAL[here]} but no {PLURAL[there]}"
    + perhaps(category, of[there] - of[here], ALIKE_IF_LONELY)
    for here, there in ((PHOTO, SKETCH), (SKETCH, PHOTO))
    for category in sorted(of[here] - of[there])
  )
  if not lonely:
    return []
  message = f"{many(len(lonely), 'class')} without photos or without sketches; add or rename them"
  return [Finding(ERROR, "one-sided classes", message, lonely)]


def _class_names(name: str, records: Sequence[Record]) -> list[Finding]:
  """Returns the names that are no class of the data set, or nearly those of others."""
  found = sorted({record.category for record in records})
  known = classes_in(ALL_CLASSES[name]) if name in ALL_CLASSES else ()
  slips = [
    f"{category!r} is no class of {name}{perhaps(category, known, 0.6)}"
    for category in found
    if known and category not in known
  ]
  for place, category in enumerate(found if not known else ()):
    if near := [other for other in found[place + 1 :] if alike(category, other)]:
      slips.append(f"{category!r} is nearly {near[0]!r}")
  if not slips:
    return []
  message = f"{len(slips)} of {len(found)} class names look wrong; rename the folders or rows"
  return [Finding(WARNING, "class names", message, tuple(slips))]

"""Readers of the published folder layouts: ShoeV2 and ChairV2, and the Sketchy Database."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from sbir.data.files import (
  Listing,
  existing_folder,
  folder_names,
  image_names,
  listing,
  sketch_photo_id,
  wrong_folder,
)
from sbir.data.records import PHOTO, SKETCH, Record
from sbir.data.splits import held_out

SKETCHY_RENDERING = "tx_000000000000"  # the plain one; the others shift and scale the sketches
# Where the archives of the Sketchy Database put their test list, seen from the images' folder.
SKETCHY_TEST_LISTS = (
  "testset.txt",
  "info/testset.txt",
  "info-06-04/info/testset.txt",
  "../info/testset.txt",
  "../info-06-04/info/testset.txt",
)


def list_qmul(name: str, folder: str | os.PathLike, split: str) -> Listing:
  """Returns a split of ShoeV2 or ChairV2: `<split>B/<id>.png` photos, `<split>A/<id>_<k>.png`.

  Ids are any text, underscores included; k is digits. Instances are the ids, there is no category.
  Raises: UserError if the folder is missing or is no such data set at all.
  """
  root = existing_folder(folder)
  folders = [f"{s}{side}" for s in ("train", "test") for side in "AB"]
  if not any((root / f).is_dir() for f in folders):
    raise wrong_folder(name, root, "folders trainA, trainB, testA and testB")
  records, problems = [], []
  for modality, side in ((SKETCH, f"{split}A"), (PHOTO, f"{split}B")):
    if not (root / side).is_dir():
      problems.append(
        f"{root / side} does not exist, expected the {split} split's {modality} files"
      )
      continue
    found, strange = _records(root, side, modality, "", "_", lambda photo_id: photo_id)
    records += found
    problems += strange
  return listing(name, split, root, records, problems)


def list_sketchy(name: str, folder: str | os.PathLike, split: str) -> Listing:
  """Returns a split of Sketchy: `photo/tx_000000000000/<class>/<id>.jpg`, sketches `<id>-<k>.png`.

  `folder` holds `photo` and `sketch`, or the release's `256x256` that does. Instances are
  "<class>/<id>". The folders know no split: the release's testset.txt decides where it is found
  (SKETCHY_TEST_LISTS), else `splits.held_out`. Raises: UserError if this is no such folder.
  """
  root = _sketchy_root(name, existing_folder(folder))
  records, problems = [], []
  for modality in (PHOTO, SKETCH):
    base = f"{modality}/{SKETCHY_RENDERING}"
    for category in folder_names(root / base):
      found, strange = _records(
        root, f"{base}/{category}", modality, category, "-", lambda i, c=category: f"{c}/{i}"
      )
      records += found
      problems += strange
  test = _sketchy_test(root, records)
  return listing(
    name, split, root, (r for r in records if (r.instance in test) == (split == "test")), problems
  )


def sketchy_split_rule(folder: str | os.PathLike) -> str:
  """Returns in words where the split of a Sketchy folder comes from."""
  path = _sketchy_test_list(_sketchy_root("sketchy", existing_folder(folder)))
  return f"the list {path}" if path else "no testset.txt found: 10 photos of each class, by hash"


def _records(
  root: Path,
  folder: str,
  modality: str,
  category: str,
  separator: str,
  instance: Callable[[str], str],
) -> tuple[list[Record], list[str]]:
  """Returns the records of one folder of one modality, and the names that fit no pattern."""
  records, strange = [], []
  for file_name in image_names(root / folder):
    photo_id: str | None = os.path.splitext(file_name)[0]
    if modality == SKETCH:
      photo_id = sketch_photo_id(file_name, separator)
    if photo_id is None:
      strange.append(
        f"{root / folder / file_name}: not a sketch's name, expected "
        f"<photo id>{separator}<number>; rename or remove it"
      )
    else:
      records.append(Record(modality, category, instance(photo_id), f"{folder}/{file_name}"))
  return records, strange


def _sketchy_root(name: str, folder: Path) -> Path:
  for root in (folder, folder / "256x256"):
    if all((root / modality / SKETCHY_RENDERING).is_dir() for modality in (PHOTO, SKETCH)):
      return root
  raise wrong_folder(
    name, folder, f"photo/{SKETCHY_RENDERING}/<class> and sketch/{SKETCHY_RENDERING}/<class>"
  )


def _sketchy_test_list(root: Path) -> Path | None:
  return next((root / p for p in SKETCHY_TEST_LISTS if (root / p).is_file()), None)


def _sketchy_test(root: Path, records: Iterable[Record]) -> frozenset[str]:
  """Returns the test instances. The release's list has a line "<class>/<id>.jpg" for each."""
  path = _sketchy_test_list(root)
  if path is None:
    return held_out((r.category, r.instance) for r in records if r.modality == PHOTO)
  lines = path.read_text(encoding="utf-8").splitlines()
  return frozenset(os.path.splitext(line.strip())[0] for line in lines if line.strip())

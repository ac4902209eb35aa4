"""Reader of manifest.csv: any data set as a table of paths."""

import csv
import functools
import io
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from sbir.data.files import Listing, existing_folder, listing
from sbir.data.records import ALL, PHOTO, SKETCH, SPLITS, Record
from sbir.data.splits import held_out
from sbir.places import expanded, is_file, is_remote
from sbir.types import UserError

FILE_NAME = "manifest.csv"
COLUMNS = ("path", "modality", "instance", "category", "split")

Row = dict[str, str]


def list_manifest(name: str, folder: str | os.PathLike, split: str) -> Listing:
  """Returns the rows of one split of `folder`/manifest.csv whose files exist.

  Columns: path (relative to the folder, "/" between the parts), modality (photo or sketch),
  instance (the photo's id) and/or category, split (train or test). Without a split column
  `splits.held_out` chooses. Without an instance column every image is its own instance: fit for
  retrieval of categories only. Links inside the folder are followed wherever they lead.
  Raises: UserError if there is no manifest, or its columns or values are none of these.
  """
  root = existing_folder(folder)
  rows = _read(root / FILE_NAME)
  test = None
  if "split" not in rows[0]:
    test = held_out((r.get("category", ""), r["instance"]) for r in rows if r["modality"] == PHOTO)

  def is_test(row: Row) -> bool:
    return row["split"] == "test" if test is None else row["instance"] in test

  return _listed(name, split, root, [row for row in rows if is_test(row) == (split == "test")])


def list_categories(name: str, folder: str | os.PathLike) -> Listing:
  """Returns all rows of `folder`/manifest.csv whose files exist, as one split.

  For retrieval of categories: every row needs one, the split column is not looked at, and an image
  without an instance is its own. Raises: as `list_manifest`.
  """
  root = existing_folder(folder)
  return _listed(name, ALL, root, _read(root / FILE_NAME, by_category=True))


def _listed(name: str, split: str, root: Path, rows: list[Row]) -> Listing:
  records, missing, is_there = [], [], _finder(root)
  for row in rows:
    (records if is_there(root / row["path"]) else missing).append(
      Record(
        row["modality"], row.get("category", ""), row.get("instance") or row["path"], row["path"]
      )
    )
  problems = [
    f"{root / record.key} does not exist, but {FILE_NAME} lists it; copy the file or drop the row"
    for record in missing
  ]
  return listing(name, split, root, records, problems)


def _finder(root: Path) -> Callable[[Path], bool]:
  """Returns what says whether a file is there; of a store each folder is listed once, for to ask
  for every file takes minutes."""
  if not is_remote(root):
    return os.path.isfile  # false for a name that is too long, too

  @functools.cache
  def names(folder: Path) -> frozenset[str]:
    try:
      return frozenset(folder.list_names()[1])
    except OSError:
      return frozenset()

  return lambda path: path.name in names(path.parent)


def is_manifest(folder: str | os.PathLike) -> bool:
  """Returns whether a folder has a manifest."""
  return is_file(expanded(folder) / FILE_NAME)


def has_split_column(folder: str | os.PathLike) -> bool:
  """Returns whether the manifest says itself what is for testing. Raises: as `list_manifest`."""
  return "split" in _read(existing_folder(folder) / FILE_NAME)[0]


def _read(path: Path, *, by_category: bool = False) -> list[Row]:
  """Returns the rows with the columns that matter only, every value checked."""
  try:
    with io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="") as file:
      reader = csv.DictReader(file)
      columns = [column.strip() for column in reader.fieldnames or ()]
      reader.fieldnames = columns
      _check_columns(path, columns, by_category)
      kept = [c for c in columns if c in COLUMNS and not (by_category and c == "split")]
      rows = [{c: (row[c] or "").strip() for c in kept} for row in reader]
  except OSError as error:
    raise UserError(
      f"{path} cannot be read ({error.strerror}); expected a table with columns "
      f"{', '.join(COLUMNS)}"
    ) from None
  except (UnicodeDecodeError, csv.Error) as error:
    raise UserError(f"{path} is no table in UTF-8 ({error}); save it as CSV in UTF-8") from None
  _check_rows(path, rows, "category" if by_category else "instance")
  return rows


def _check_columns(path: Path, columns: list[str], by_category: bool) -> None:
  if twice := [c for c in COLUMNS if columns.count(c) > 1]:
    raise UserError(f"{path} has the column {twice[0]} twice, expected it once; remove one")
  missing = [c for c in ("path", "modality") if c not in columns]
  if by_category:
    missing += [c for c in ("category",) if c not in columns]
  elif "instance" not in columns:
    missing += [] if "category" in columns else ["instance or category"]
    missing += [] if "split" in columns else ["split"]
  if missing:
    raise UserError(
      f"{path} lacks the columns {', '.join(missing)}; found {', '.join(columns) or 'none'}; "
      f"expected {', '.join(COLUMNS)}"
    )


def _check_rows(path: Path, rows: list[Row], needed: str) -> None:
  if not rows:
    raise UserError(f"{path} has no rows; expected one for each image")
  for line, row in enumerate(rows, start=2):
    for column, expected in (("modality", (PHOTO, SKETCH)), ("split", SPLITS)):
      if column in row and row[column] not in expected:
        raise UserError(
          f"{path}, row {line}: {column} {row[column]!r}, expected {' or '.join(expected)}"
        )
    if not row.get(needed, "as the path"):
      expected = {"instance": "the id of the photo", "category": "the name of the class"}[needed]
      raise UserError(f"{path}, row {line}: no {needed}, expected {expected}")
    if not row["path"] or _leaves(row["path"]):
      raise UserError(
        f"{path}, row {line}: path {row['path']!r} leaves the data folder, expected one inside "
        "it, such as photo/1.png"
      )
  counts = Counter(str(PurePosixPath(row["path"])) for row in rows)  # ./a and a//b are a and a/b
  repeated = [key for key, count in counts.items() if count > 1]
  if repeated:
    raise UserError(
      f"{path} lists {len(repeated)} paths more than once (first: {repeated[0]}); keep one row each"
    )


def _leaves(path: str) -> bool:
  """Returns whether a path could point outside the folder it is joined to, on any system."""
  windows = PureWindowsPath(path)
  return (
    PurePosixPath(path).is_absolute()
    or bool(windows.drive or windows.root)
    or ".." in PurePosixPath(path).parts
    or ".." in windows.parts
  )

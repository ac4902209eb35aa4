"""Images in a folder: what was found, what is wrong with it, and the source that reads them."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from sbir.data.images import decode, is_image_name, read_file
from sbir.data.records import Record, check, ordered, stamp_of
from sbir.places import exists, expanded, is_dir, is_remote
from sbir.types import UserError
from sbir.user_path import nearest


@dataclass(frozen=True)
class Listing:
  """What a reader found of one split. With any problem it is not fit for use, but worth telling."""

  name: str
  split: str
  root: Path
  records: tuple[Record, ...]
  problems: tuple[str, ...] = ()  # each one line: value, expectation, next move


@dataclass(frozen=True)
class FileSource:
  """A split whose images are files below `root`, `records[i].key` being the path."""

  name: str
  split: str
  root: Path
  records: tuple[Record, ...]

  def read(self, index: int) -> bytes:
    """Returns the file as it is. Raises: UserError if it cannot be read."""
    path = self.root / self.records[index].key
    try:
      return read_file(path)
    except OSError as error:
      raise _unreadable(path, error) from None

  def image(self, index: int, at_least: int = 0) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the decoded image. Raises: UserError naming the file if it is unreadable."""
    name = str(self.root / self.records[index].key)
    return decode(self.read(index), name, at_least=at_least)

  def stamp(self) -> str:
    """Returns what changes with any file's size or time, or when one goes or comes."""
    return stamp_of(self.records, *_states(self.root, [r.key for r in self.records]))


def _states(root: Path, keys: Sequence[str]) -> list[tuple[int, int]]:
  """Returns the `state_of` the files of these keys below `root`; of a store from one listing, for
  to ask for every file takes minutes."""
  if not is_remote(root):
    return [state_of(root / key) for key in keys]
  found = root.files_below()
  return [_state(found[key]) if key in found else (-1, 0) for key in keys]


def state_of(path: Path) -> tuple[int, int]:
  """Returns (bytes, nanosecond of the last change): a file that was changed has others. One that is
  not there has (-1, 0), for whoever reads it will say so."""
  try:
    return _state(path.stat())
  except OSError:
    return -1, 0


def _state(found: os.stat_result) -> tuple[int, int]:
  return found.st_size, found.st_mtime_ns


def _unreadable(path: Path, error: OSError) -> UserError:
  return UserError(
    f"{path}: cannot be read ({error.strerror}); check that it is there and its permissions"
  )


def open_listing(listing: Listing) -> FileSource:
  """Returns the source of a listing. Raises: UserError for its problems and those of `check`."""
  source = files_of(listing)
  check(source, f"{listing.name} {listing.split} split in {listing.root}")
  return source


def files_of(listing: Listing) -> FileSource:
  """Returns the source of a listing, its pairs unchecked. Raises: UserError for its problems."""
  if listing.problems:
    more = len(listing.problems) - 1
    raise UserError(
      listing.problems[0] + (f" (and {more} more: run sbir.data.doctor)" * bool(more))
    )
  return FileSource(listing.name, listing.split, listing.root, listing.records)


def existing_folder(folder: str | os.PathLike) -> Path:
  """Returns the path of a data folder. Raises: UserError if it was not given or is not there."""
  if not os.fspath(folder):
    raise UserError("data.dir='', expected the folder of the data set; add --config.data.dir=DIR")
  path = expanded(folder)
  try:
    if is_dir(path):
      return path
    what = "is a file, not a folder" if exists(path) else "does not exist"
  except OSError as error:  # of a store: no right to it, or no way
    raise UserError(
      f"data folder {path} cannot be reached ({error.strerror}); check its name and your login"
    ) from None
  if is_remote(path):
    raise UserError(f"data folder {path} {what}, or is empty; expected a folder with the images")
  parent = nearest(path, os.path.isdir)
  raise UserError(f"data folder {path} {what}; expected a folder (nearest there is {parent})")


def wrong_folder(name: str, root: Path, expected: str) -> UserError:
  """Returns what to tell of a folder that has not the layout of a data set."""
  found = ", ".join((folder_names(root) + image_names(root))[:6]) or "neither folders nor images"
  hint = ""
  if (root / "manifest.csv").is_file():
    hint = "; it has a manifest.csv: use --config.data.source=manifest"
  return UserError(f"{root} is no {name} folder: found {found}; expected {expected}{hint}")


def image_names(folder: Path) -> list[str]:
  """Returns the names of the image files right in a folder, sorted, hidden files left out.

  A link that leads nowhere is among them, so that reading names it. Raises: UserError if the folder
  cannot be listed.
  """
  return sorted(name for name in _names(folder)[1] if is_image_name(name))


def folder_names(folder: Path) -> list[str]:
  """Returns the names of the folders right in a folder, sorted, hidden ones left out.

  Raises: UserError if the folder cannot be listed.
  """
  return sorted(name for name in _names(folder)[0] if not name.startswith("."))


def _names(folder: Path) -> tuple[list[str], list[str]]:
  """Returns the names of the folders and of all else right in a folder."""
  try:
    if is_remote(folder):
      return folder.list_names()
    entries = list(os.scandir(folder))
  except OSError as error:
    raise UserError(
      f"{folder} cannot be listed ({error.strerror}); check its permissions"
    ) from None
  return [e.name for e in entries if e.is_dir()], [e.name for e in entries if not e.is_dir()]


_SKETCH_STEM = {"_": re.compile(r"(.+)_(\d+)"), "-": re.compile(r"(.+)-(\d+)")}


def sketch_photo_id(file_name: str, separator: str) -> str | None:
  """Returns the photo id in a sketch's name, `<id><separator><digits>.<extension>`, else None."""
  match = _SKETCH_STEM[separator].fullmatch(os.path.splitext(file_name)[0])
  return match.group(1) if match else None


def listing(
  name: str, split: str, root: Path, records: Iterable[Record], problems: Iterable[str] = ()
) -> Listing:
  """Returns a listing with its records in the order of every source."""
  return Listing(name, split, root, ordered(records), tuple(problems))

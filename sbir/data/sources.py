"""The one door to all data sets: `open_source`."""

import difflib
import os

from sbir.data.files import Listing, existing_folder, open_listing
from sbir.data.folder import list_qmul, list_sketchy
from sbir.data.manifest import FILE_NAME, is_manifest, list_manifest
from sbir.data.records import SPLITS, Source
from sbir.types import UserError

FOLDER_READERS = {"shoe_v2": list_qmul, "chair_v2": list_qmul, "sketchy": list_sketchy}
KINDS = ("synthetic", "folder", "manifest", "tfds")


def open_source(
  kind: str, name: str, dir: str | os.PathLike, split: str, *, seed: int = 0
) -> Source:
  """Returns one split ("train" or "test") of a data set, checked by `records.check`.

  kind "synthetic" draws the set that `seed` names and looks at nothing else; "folder" reads the
  published layout of `name` in `dir`; "manifest" reads `dir`/manifest.csv; "tfds" reads what
  `sbir.data.prepare` wrote to `dir`.
  Raises: UserError for an unknown word, a missing folder, an empty split, sketches without photo.
  """
  if kind not in KINDS:
    raise UserError(f"data.source={kind!r}, expected {one_of(kind, KINDS)}")
  if split not in SPLITS:
    raise UserError(f"split {split!r}, expected {one_of(split, SPLITS)}")
  if kind == "synthetic":
    from sbir.data.synthetic import open_synthetic

    return open_synthetic(split, seed=seed)
  if kind == "tfds":
    from sbir.data.tfds_source import open_tfds

    return open_tfds(name, dir, split)
  return open_listing(list_files(kind, name, dir, split))


def list_files(kind: str, name: str, dir: str | os.PathLike, split: str) -> Listing:
  """Returns what is in a data folder, unchecked; kind "folder", "manifest" or "auto".

  "auto" is a manifest if there is one, else the published layout of `name`.
  Raises: UserError if the folder is missing, or `name` names no layout.
  """
  if kind == "manifest" or (kind == "auto" and is_manifest(dir)):
    return list_manifest(name, dir, split)
  if name not in FOLDER_READERS:
    existing_folder(dir)  # the likelier mistake, so named first
    raise UserError(
      f"no folder layout for data set {name!r}, expected {one_of(name, FOLDER_READERS)}; "
      f"for any other set write a {FILE_NAME} and use --config.data.source=manifest"
    )
  return FOLDER_READERS[name](name, dir, split)


def one_of(value: str, choices) -> str:
  """Returns the choices in words, with the nearest one named where there is one."""
  near = difflib.get_close_matches(value, list(choices), n=1)
  words = "one of " + ", ".join(choices)
  return f"{words}; did you mean {near[0]}?" if near else words

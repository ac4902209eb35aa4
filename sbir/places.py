"""Paths that a user gives: a folder here, or a place in a store, such as gs://bucket/folder.

Nothing heavy is imported here: the mains' command lines need it.
"""

import hashlib
import os
from pathlib import Path

from sbir.user_error import UserError
from sbir.user_path import expand

SCHEMES = ("gs://", "s3://", "az://", "hf://")  # that etils.epath knows
# epath would take tensorflow's file system where that is installed: it costs seconds to import and
# knows no s3://. Set before anybody asks, for epath (and Orbax through it) asks only once.
os.environ["EPATH_USE_TF"] = "0"


def is_remote(path: str | os.PathLike[str]) -> bool:
  """Returns whether a path names a store, well-formed or not; all else is a local path."""
  return "://" in os.fspath(path)


def place(path: str | os.PathLike[str]) -> Path:
  """Returns the path to work with: pathlib's for a local one, epath's for one in a store.

  pathlib's would eat a slash of gs://. The paths of stores have the methods of pathlib that we use.

  Raises: UserError for a store that is not known, or whose driver is not installed.
  """
  if not is_remote(path):
    return Path(path)
  from sbir.remote_path import RemotePath, check_driver

  if not os.fspath(path).startswith(SCHEMES):
    raise UserError(f"{path} is in no known store, expected a local path or {', '.join(SCHEMES)}")
  check_driver(os.fspath(path))
  return RemotePath(os.fspath(path))


def expanded(path: str | os.PathLike[str]) -> Path:
  """Returns the path to work with, as `place` does, "~" expanded. Raises: as `place`."""
  return place(path) if is_remote(path) else Path(expand(path))


def is_file(path: str | os.PathLike[str]) -> bool:
  """Returns whether a file is there; false, where pathlib's raises, for a name that is too long.

  Raises: OSError if its store cannot be asked, and as `place`.
  """
  return place(path).is_file() if is_remote(path) else os.path.isfile(path)


def is_dir(path: str | os.PathLike[str]) -> bool:
  """Returns whether a folder is there, in the way of `is_file`. Raises: as it."""
  return place(path).is_dir() if is_remote(path) else os.path.isdir(path)


def exists(path: str | os.PathLike[str]) -> bool:
  """Returns whether anything is there, in the way of `is_file`. Raises: as it."""
  return place(path).exists() if is_remote(path) else os.path.exists(path)


def local(path: str | os.PathLike[str], name: str) -> Path:
  """Returns a path that must be local, "~" expanded; `name` is what gave it.

  Raises: UserError if it is in a store.
  """
  if is_remote(path):
    raise UserError(f"{name}={path} must be a local folder; choose one on this machine's disk")
  return Path(expand(path))


def users_cache(kind: str) -> Path:
  """Returns the folder of the user's cache for one kind of thing."""
  base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(base) / "sketch-retrieval" / kind


def cache_of(folder: str | os.PathLike[str]) -> Path:
  """Returns where what was computed from a run folder is stored: in it, or, of one in a store, in
  the user's cache, for it is mapped into memory."""
  if not is_remote(folder):
    return Path(folder) / "cache"
  return users_cache("teachers") / named_after(os.fspath(folder))


def named_after(place: str) -> str:
  """Returns the name of a local folder that belongs to a place in a store and to no other."""
  place = place.rstrip("/")
  return f"{place.rpartition('/')[2]}-{hashlib.sha256(place.encode()).hexdigest()[:16]}"

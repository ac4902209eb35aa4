"""Files of a store that are read from a disk (weights, TFDS shards): copied to the user's cache."""

import fnmatch
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from sbir.places import named_after, place, users_cache
from sbir.progress import track
from sbir.types import UserError


def local_copy(where: str | os.PathLike[str], files: Sequence[str] = ("*",)) -> Path:
  """Returns the copy of a file in a store, or of those right in a folder that fit one of `files`.

  What is there already with the size and time of the store's is not copied again, what is no longer
  there goes. Where there is nothing, returns the place itself.

  Raises: UserError if the store or the disk does not let it.
  """
  path = place(where)
  folder = users_cache("copies") / named_after(str(path))
  try:
    if path.is_file():
      return _copied([path], folder)[0]
    names = path.list_names()[1]
    wanted = [name for name in names if any(fnmatch.fnmatch(name, form) for form in files)]
    if not wanted:
      return path
    kept = _copied([path / name for name in wanted], folder)
    for old in set(folder.iterdir()).difference(kept):
      if not old.name.startswith("."):  # another process's, on its way
        old.unlink()
    return folder
  except FileNotFoundError:
    return path
  except OSError as error:
    raise UserError(
      f"{path} cannot be copied to {folder} ({error.strerror}); check the login and the room there"
    ) from None


def _copied(paths: Sequence[Path], folder: Path) -> list[Path]:
  folder.mkdir(parents=True, exist_ok=True)
  there = [(path, path.stat()) for path in paths]
  todo = [(path, at) for path, at in there if not _is_same(folder / path.name, at)]
  for path, at in track(todo, f"copying {paths[0].parent}", len(todo)) if todo else ():
    _copy(path, at, folder / path.name)
  return [folder / path.name for path in paths]


def _is_same(copy: Path, at: SimpleNamespace) -> bool:
  if not copy.is_file():
    return False
  found = copy.stat()
  return (found.st_size, int(found.st_mtime)) == (at.st_size, int(at.st_mtime))


def _copy(path: Path, at: SimpleNamespace, target: Path) -> None:
  """Copies through a temporary neighbour, so that what has the name is whole."""
  temporary = target.with_name(f".{target.name}.{os.getpid()}")
  try:
    path.fetch(temporary)
    os.utime(temporary, (at.st_mtime, at.st_mtime))
    os.replace(temporary, target)
  finally:
    temporary.unlink(missing_ok=True)

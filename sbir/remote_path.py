"""Paths in stores, through etils.epath; the only file that imports it. It loads fsspec."""

import contextlib
import errno
import functools
import io
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
from etils.epath import backend, gpath
from fsspec.config import conf

from sbir.types import UserError

DRIVERS = {  # what speaks to a store, and how it is installed
  "gs": ("gcsfs", "./launch.sh setup --with remote"),
  "s3": ("s3fs", "./launch.sh setup --with remote"),
  "az": ("adlfs", "pip install adlfs"),
  "hf": ("huggingface_hub", "./launch.sh setup --with hub"),
}
TIMES = ("mtime", "LastModified", "last_modified", "updated", "last_commit")
# Part of a checkpoint is written past fsspec, by tensorstore: a remembered list would lack it.
for scheme in ("gs", "s3", "az"):
  conf.setdefault(scheme, {}).setdefault("use_listings_cache", False)


def check_driver(path: str) -> None:
  """Raises UserError where fsspec lacks what speaks to the store of a path."""
  scheme = path.partition("://")[0]
  try:
    fsspec.get_filesystem_class(scheme)
  except (ImportError, ValueError):
    package, extra = DRIVERS[scheme]
    raise UserError(f"{path} needs {package}, which is not installed; run {extra}") from None


def _told(method: Callable[..., Any]) -> Callable[..., Any]:
  """Returns the method with every error an OSError that has words: drivers raise their own kinds,
  and leave `strerror` empty."""

  @functools.wraps(method)
  def call(self: "RemotePath", *args: Any, **kwargs: Any) -> Any:
    try:
      return method(self, *args, **kwargs)
    except OSError as error:
      kind = "no such file or folder" if isinstance(error, FileNotFoundError) else _words(error)
      number = errno.ENOENT if isinstance(error, FileNotFoundError) else error.errno or errno.EIO
      raise OSError(number, kind, str(self)) from error  # of the kind that the number is of
    except (UserError, TypeError):
      raise
    except Exception as error:
      raise OSError(errno.EIO, _words(error), str(self)) from error

  return call


def _words(error: Exception) -> str:
  return " ".join(str(error).split())[:200] or type(error).__name__


class RemotePath(gpath.PosixGPath):
  """epath's path of a store, with what it lacks of pathlib's, or does in another way.

  Folders of stores are no things of their own: they are there with what is in them, so making one
  does nothing.
  """

  _backend = backend.fsspec_backend  # whatever epath has chosen for others

  exists = _told(gpath.PosixGPath.exists)
  is_dir = _told(gpath.PosixGPath.is_dir)
  unlink = _told(gpath.PosixGPath.unlink)
  rmtree = _told(gpath.PosixGPath.rmtree)

  def _system(self) -> tuple[fsspec.AbstractFileSystem, str]:
    """Returns fsspec's file system of the store, and what it calls this path."""
    system = self._backend.fs(str(self))
    return system, system._strip_protocol(str(self))

  @_told
  def read_bytes(self, size: int = -1) -> bytes:
    """Returns all bytes, or no more than the first `size`."""
    with super().open("rb") as file:
      return file.read(size)

  def read_text(self, encoding: str | None = None) -> str:
    return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding or "utf-8").read()

  @_told
  def write_bytes(self, data: bytes) -> int:
    with super().open("wb") as file:
      return file.write(data)

  def write_text(self, data: str) -> int:
    return self.write_bytes(data.encode())

  @_told
  def list_names(self) -> tuple[list[str], list[str]]:
    """Returns the names of the folders and of the files right in this folder, from one listing."""
    system, here = self._system()
    names: dict[bool, list[str]] = {True: [], False: []}
    for info in system.ls(here, detail=True):
      # A store may list the folder itself too; epath's walk asks s3fs for what it does not know.
      if name := info["name"].rstrip("/")[len(here) :].strip("/"):
        names[info["type"] == "directory"].append(name)
    return sorted(names[True]), sorted(names[False])

  def iterdir(self) -> Iterator["RemotePath"]:
    folders, files = self.list_names()
    return iter([self / name for name in sorted(folders + files)])

  def glob(self, pattern: str) -> Iterator["RemotePath"]:
    with contextlib.suppress(FileNotFoundError):
      yield from self._globbed(pattern)

  @_told
  def _globbed(self, pattern: str) -> list["RemotePath"]:
    return list(super().glob(pattern))

  @_told
  def stat(self) -> SimpleNamespace:
    """Returns `st_size` and the time of the last change, 0 where the store does not tell it."""
    system, here = self._system()
    return _stat_of(system.info(here))

  @_told
  def files_below(self) -> dict[str, SimpleNamespace]:
    """Returns {path from here: what `stat` gives} of all files in this folder and those below."""
    system, here = self._system()
    found = system.find(here, detail=True)
    return {name[len(here) :].lstrip("/"): _stat_of(info) for name, info in found.items()}

  @_told
  def fetch(self, target: Path) -> None:
    """Copies this file to a local path."""
    system, here = self._system()
    system.get_file(here, str(target))

  @_told
  def send(self, source: Path) -> None:
    """Makes this file a copy of a local one."""
    system, here = self._system()
    system.put_file(str(source), here)

  def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
    pass

  def rmdir(self) -> None:
    pass

  def resolve(self, strict: bool = False) -> "RemotePath":
    return self

  def absolute(self) -> "RemotePath":
    return self

  def expanduser(self) -> "RemotePath":
    return self


def _stat_of(info: dict[str, Any]) -> SimpleNamespace:
  time = next((info[key] for key in TIMES if info.get(key)), 0)
  if isinstance(time, str):  # gcsfs gives "updated" as it comes, ISO 8601
    time = datetime.fromisoformat(time)
  seconds = time.timestamp() if isinstance(time, datetime) else float(time)
  return SimpleNamespace(
    st_size=info.get("size") or 0, st_mtime=seconds, st_mtime_ns=int(seconds * 1e9)
  )

"""A store in this process, which s3:// paths then name."""

import datetime
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

BUCKET = "s3://bucket"


class FakeStore(MemoryFileSystem):
  """Objects under s3://, with the times and the words that s3fs has for them."""

  protocol = ("s3",)
  store: dict = {}  # noqa: RUF012 (fsspec wants both on the class)
  pseudo_dirs = [""]  # noqa: RUF012

  @classmethod
  def _strip_protocol(cls, path):
    return super()._strip_protocol(str(path).removeprefix("s3:/"))

  def info(self, path, **words):
    """Returns what s3fs says of an object: its time is LastModified."""
    return self._with_time(super().info(path, **words))

  def ls(self, path, detail=True, **words):
    """Returns what is right in a folder, as `info` says it."""
    found = super().ls(path, detail=True, **words)
    return [self._with_time(info) if detail else info["name"] for info in found]

  def find(self, path, detail=False, **words):
    """Returns all files below a folder, as `info` says them."""
    found = super().find(path, detail=False, **words)
    return {name: self.info(name) for name in found} if detail else found

  def _with_time(self, info):
    is_file = info["type"] == "file"
    return info | ({"LastModified": self.store[info["name"]].modified} if is_file else {})

  def exists(self, path, **words):
    """Returns as the store does: a folder without anything in it is not there."""
    path = self._strip_protocol(path)
    return path in self.store or any(key.startswith(f"{path}/") for key in self.store)

  def isdir(self, path):
    """Returns as the store does."""
    return self.exists(path) and self._strip_protocol(path) not in self.store


@pytest.fixture
def store(monkeypatch, tmp_path):
  """Serves s3:// from memory, empty; caches of the user's go to the test's own folder."""
  fsspec.register_implementation("s3", FakeStore, clobber=True)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users_cache"))
  FakeStore.store.clear()
  FakeStore.pseudo_dirs[:] = [""]
  yield FakeStore()
  FakeStore.store.clear()
  fsspec.register_implementation("s3", "s3fs.S3FileSystem", clobber=True)


def upload(folder: Path, place: str = f"{BUCKET}/data") -> str:
  """Copies a local folder into the store and returns where it is."""
  system = fsspec.filesystem("s3")
  for path in sorted(folder.rglob("*")):
    if path.is_file():
      system.pipe_file(f"{place}/{path.relative_to(folder).as_posix()}", path.read_bytes())
  return place


def later(place: str, data: bytes) -> None:
  """Changes an object, a minute after it was written."""
  system = fsspec.filesystem("s3")
  system.pipe_file(place, data)
  system.store[system._strip_protocol(place)].modified += datetime.timedelta(minutes=1)

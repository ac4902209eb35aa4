"""Rows of numbers on disk that cost much to compute: filled shard by shard, mapped into memory."""

import functools
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sbir import processes, progress, run_folder
from sbir.types import UserError

SHARD_ROWS = 1024  # what an interruption loses at most
OPEN_SHARDS = 256  # each keeps a file open, of which systems allow 1024 and more
ABOUT = "about.json"
MAX_ABOUT = 1_000_000  # bytes, of which it has some thousand
SHARD = re.compile(r"(\d{7})_([0-9a-f]{8})\.npy")  # its number, and the CRC-32 of the file


class StoredRows:
  """float32 rows in .npy shards, in a folder that is named after a description of what they are.

  Who asks for another description gets another folder: what is there is of this description or is
  not looked at. A shard is written whole or not at all, its checksum in its name, and one that does
  not match it counts as missing; so several processes may fill one folder, at worst the same shard.
  """

  def __init__(
    self,
    root: str | os.PathLike[str],
    about: Mapping[str, Any],
    *,
    num_rows: int,
    row_shape: tuple[int, ...],
    group: int = 0,
  ):
    """Opens the folder of `about` in `root`, if it is there, and checks every shard in it.

    Everything that a row's numbers depend on belongs into `about`, in the words of JSON. `group`
    rows (default: all) begin a shard of their own, so `num_rows` may grow by groups later and what
    is there stays. Writes nothing.
    """
    self._group = group or max(num_rows, 1)
    if num_rows % self._group:
      raise ValueError(f"num_rows={num_rows} must divide by group={group}")
    self.num_rows, self.row_shape = num_rows, tuple(row_shape)
    layout = {"row_shape": list(self.row_shape), "group": self._group, "shard_rows": SHARD_ROWS}
    self._about = {"about": json.loads(json.dumps(about)), "layout": layout}
    self._root = Path(root)
    self.folder = self._root / _name_of(self._about)
    self._map = functools.lru_cache(OPEN_SHARDS)(_mapped)
    self._files, self._damaged = self._checked()

  @property
  def num_shards(self) -> int:
    """The shards there are when nothing is missing."""
    return self.num_rows // self._group * self._shards_of_group

  def missing(self) -> list[int]:
    """Returns the shards that are not there, or were damaged when they were looked at."""
    return [shard for shard in range(self.num_shards) if shard not in self._files]

  def rows_of(self, shard: int) -> Int[np.ndarray, "rows"]:
    """Returns the numbers of the rows of a shard, rising by 1."""
    group, place = divmod(shard, self._shards_of_group)
    start, end = place * SHARD_ROWS, min((place + 1) * SHARD_ROWS, self._group)
    return group * self._group + np.arange(start, end)

  def write(self, shard: int, rows: Float[np.ndarray, "rows ..."]) -> None:
    """Stores all rows of a shard; of several processes that share the folder the first does.

    Raises: UserError if the folder cannot be written.
    """
    shape = (len(self.rows_of(shard)), *self.row_shape)
    if rows.shape != shape:
      raise ValueError(f"shard {shard} has shape {shape}, got {rows.shape}")
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(rows, np.float32))
    data = buffer.getvalue()
    path = self.folder / f"{shard:07d}_{zlib.crc32(data):08x}.npy"
    if not processes.is_first():
      self._files[shard] = path
      return
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      if _read_about(self.folder) != self._about:
        run_folder.write_json(self.folder / ABOUT, self._about)
      for damaged in self._damaged.pop(shard, ()):
        damaged.unlink(missing_ok=True)
      run_folder.write_bytes(path, data)
    except OSError as error:
      raise UserError(
        f"cache folder {self.folder} cannot be written ({error.strerror}); name another with "
        "--config.cache.dir=DIR"
      ) from None
    self._files[shard] = path

  def take(self, rows: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n ..."]:
    """Returns copies of the rows of these numbers, in any order; safe from several threads.

    Raises: UserError if a shard that is asked for is missing, or a row holds no numbers.
    """
    rows = np.asarray(rows)
    if len(rows) and not (rows.min() >= 0 and rows.max() < self.num_rows):
      raise IndexError(f"rows {rows.min()} to {rows.max()} asked for, of {self.num_rows}")
    group, place = np.divmod(rows, self._group)
    shards, place = group * self._shards_of_group + place // SHARD_ROWS, place % SHARD_ROWS
    out = np.empty((len(rows), *self.row_shape), np.float32)
    for shard in np.unique(shards):
      here = shards == shard
      out[here] = self._shard(int(shard))[place[here]]
    if (void := np.isnan(out).any(axis=tuple(range(1, out.ndim)))).any():
      raise UserError(
        f"{self.folder}: row {rows[void][0]} holds no numbers: its image could not be read when it "
        "was stored; set --config.data.on_error=skip, or mend the image and remove this folder"
      )
    return out

  def remove_stale(self, is_stale: Callable[[Mapping[str, Any]], bool]) -> None:
    """Deletes the folders beside this one whose description `is_stale`, and says so.

    Only what this class has written is deleted, and a folder that holds more is left standing.
    """
    if not processes.is_first():
      return
    for folder in sorted(self._root.glob("*")):
      found = None if folder == self.folder else _read_about(folder)
      if found is not None and _name_of(found) == folder.name and is_stale(found["about"]):
        progress.say(f"{folder}: stale, removed")
        _remove(folder)

  @property
  def _shards_of_group(self) -> int:
    return -(-self._group // SHARD_ROWS)

  def _shard(self, shard: int) -> np.ndarray:
    try:
      return self._map(self._files[shard])
    except (KeyError, OSError, ValueError):
      raise UserError(
        f"{self.folder}: shard {shard} is missing; start again, it is filled at the start of a run"
      ) from None

  def _checked(self) -> tuple[dict[int, Path], dict[int, list[Path]]]:
    """Returns the file of every sound shard, and the damaged ones of others; says how many."""
    sound: dict[int, Path] = {}
    damaged: dict[int, list[Path]] = {}
    for path in _shards_in(self.folder):
      number, checksum = SHARD.fullmatch(path.name).groups()
      if self._is_sound(path, int(number), int(checksum, 16)):
        sound[int(number)] = path
      else:
        damaged.setdefault(int(number), []).append(path)
    if damaged := {shard: paths for shard, paths in damaged.items() if shard not in sound}:
      progress.say(f"{self.folder}: damaged shards: {len(damaged)}, to be filled again")
    return sound, damaged

  def _is_sound(self, path: Path, shard: int, checksum: int) -> bool:
    """Returns whether a file is what `write` made of a shard; its checksum alone could be luck."""
    try:
      rows = _mapped(path)
      shape = (len(self.rows_of(shard)), *self.row_shape)
      is_whole = rows.offset + rows.nbytes == path.stat().st_size
      is_ours = rows.dtype == np.float32 and rows.shape == shape and is_whole
      return is_ours and zlib.crc32(path.read_bytes()) == checksum
    except Exception:  # numpy lets nearly anything out of a damaged header
      return False


def _mapped(path: Path) -> np.memmap:
  """Returns the array of an .npy. Raises: OSError or ValueError if it is none."""
  return np.load(path, mmap_mode="r", allow_pickle=False)


def _name_of(about: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def _shards_in(folder: Path) -> list[Path]:
  return sorted(path for path in folder.glob("*.npy") if SHARD.fullmatch(path.name))


def _read_about(folder: Path) -> dict[str, Any] | None:
  """Returns what the folder says of itself, None if it is none of ours."""
  try:
    with open(folder / ABOUT, "rb") as file:
      found = json.loads(file.read(MAX_ABOUT))
  except (OSError, ValueError, RecursionError):
    return None
  is_ours = isinstance(found, dict) and found.keys() == {"about", "layout"}
  return found if is_ours and isinstance(found["about"], dict) else None


def _remove(folder: Path) -> None:
  """Deletes our files, the description last: an interrupted removal is taken up again."""
  for path in [*_shards_in(folder), folder / ABOUT]:
    path.unlink(missing_ok=True)
  try:
    folder.rmdir()
  except OSError:
    progress.say(f"{folder} holds other files too, so it stays")

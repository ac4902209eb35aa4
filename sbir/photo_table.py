"""The file of an index (SQLite): which photos there are, their embeddings and small pictures.

What a picture shows (`photo`, by its hash) and where it lies (`file`, by its name) are two tables:
copies of one picture are one photo, and a file that was only moved is not embedded again. A photo
can be found as long as a file shows it. New files wait in `pending`, batch by batch, until one
transaction makes them visible all at once; so whatever is killed leaves the index as it was, and
the next run goes on from what waits.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sbir import sqlite_file
from sbir.photo_schema import APPLICATION, FORMAT, SEEN, File, Photo, check_about, whole
from sbir.sqlite_file import SqliteFile
from sbir.types import UserError

SAME = "{0}.name = seen.name AND {0}.size = seen.size AND {0}.mtime_ns = seen.mtime_ns"
MOST_ASKED = 10_000  # ids in one question: SQLite takes 32 766


class PhotoTable:
  """An open file. One process writes (`run_lock`), any number read, also from several threads."""

  def __init__(self, path: Path, *, read_only: bool, is_shared: bool = False):
    """Opens a table that is there; `is_shared` says that machines share its disk.

    Raises: UserError if it is none of ours, or of another version.
    """
    self.path = path
    if not path.is_file():
      raise UserError(
        f"{path.parent} is no index, it has no {path.name}; make one with "
        "python -m sbir.index build"
      )
    self._sql = SqliteFile(path, read_only=read_only, is_shared=is_shared)
    (application,) = self._sql.one("PRAGMA application_id")
    (version,) = self._sql.one("PRAGMA user_version")
    if application != APPLICATION:
      raise UserError(f"{path} is no index of photos; choose another --index")
    if version != FORMAT:
      raise UserError(
        f"{path} is an index of version {version}, expected {FORMAT}, which this program reads and "
        "writes; build it again with this version, in another folder"
      )
    check_about(path, self._all_about())

  def close(self) -> None:
    """Closes the file."""
    self._sql.close()

  def delete(self) -> None:
    """Deletes the file."""
    self._sql.close()
    for path in self.path.parent.glob(f"{self.path.name}*"):
      path.unlink()

  # What the index knows of itself.

  @whole
  def _all_about(self) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in self._sql.all("SELECT * FROM about")}

  @whole
  def about(self, key: str) -> Any:
    """Returns one value that was written with the index, None if there is no such."""
    # NOT INDEXED: a damaged index would hide what `check_about` has seen.
    row = self._sql.one("SELECT value FROM about NOT INDEXED WHERE key = ?", key)
    return None if row is None else json.loads(row[0])

  def set_about(self, **values: Any) -> None:
    """Writes values, all or none."""
    with self._sql.writing() as db:
      _set_about(db, values)

  @property
  def generation(self) -> int:
    """How often what can be found has changed."""
    return self.about("generation")

  # What can be found.

  @whole
  def live_ids(self) -> Int[np.ndarray, "g"]:
    """Returns the ids of all photos that a file shows, rising."""
    rows = self._sql.all(
      "SELECT DISTINCT photo_id FROM file WHERE photo_id NOTNULL ORDER BY photo_id"
    )
    return np.fromiter((row[0] for row in rows), np.int64, len(rows))

  @property
  def num_photos(self) -> int:
    """How many photos can be found."""
    return self._sql.one("SELECT COUNT(DISTINCT photo_id) FROM file")[0]

  @whole
  def names(self, ids: Iterable[int]) -> dict[int, str]:
    """Returns {id: its file's name} of the photos that can be found; of copies the first name."""
    ask = "SELECT photo_id, MIN(name) FROM file WHERE photo_id IN ({}) GROUP BY photo_id"
    return dict(self._asked(ask, ids))

  @whole
  def there(self, ids: Iterable[int]) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n d"]]:
    """Returns (ids, embeddings) of those of `ids` that the table has, rising."""
    found = dict(self._asked("SELECT id, data FROM vector WHERE id IN ({})", ids))
    rising = sorted(found)
    data = np.frombuffer(b"".join(found[i] for i in rising), "<f4")
    return np.array(rising, np.int64), data.reshape(len(rising), self.about("width"))

  @whole
  def vectors(self, ids: Iterable[int]) -> Float[np.ndarray, "n d"]:
    """Returns the embeddings of photos, row i that of ids[i]. Raises: UserError if one is gone."""
    ids = np.fromiter(ids, np.int64)
    there, vectors = self.there(ids)
    if len(lost := np.setdiff1d(ids, there)):
      raise UserError(f"photo {lost[0]} is not in {self.path} any more; search again")
    return vectors[np.searchsorted(there, ids)]

  @whole
  def thumbnail(self, photo_id: int) -> bytes:
    """Returns the small JPEG of a photo. Raises: UserError if it is gone."""
    row = self._sql.one("SELECT thumbnail FROM photo WHERE id = ?", int(photo_id))
    if row is None:
      raise UserError(f"photo {photo_id} is not in {self.path} any more; search again")
    return row[0]

  @whole
  def files(self, after: str = "", limit: int = MOST_ASKED) -> list[tuple[File, int, bytes]]:
    """Returns (file, photo id, hash) of files that can be found, by name, after a given one."""
    rows = self._sql.all(
      "SELECT name, size, mtime_ns, photo_id, sha256 FROM file JOIN photo ON photo.id = photo_id"
      " WHERE name > ? ORDER BY name LIMIT ?",
      after,
      limit,
    )
    return [(File(*row[:3]), row[3], row[4]) for row in rows]

  def counts(self) -> dict[str, int]:
    """Returns how many photos and files can be found, and how many are left out or unreadable."""
    files, photos, all_files = self._sql.one(
      "SELECT COUNT(photo_id), COUNT(DISTINCT photo_id), COUNT(*) FROM file"
    )
    (unreadable,) = self._sql.one("SELECT COUNT(*) FROM unreadable")
    (pending,) = self._sql.one("SELECT COUNT(*) FROM pending")
    return {
      "photos": photos,
      "copies": files - photos,
      "left_out": all_files - files,
      "unreadable": unreadable,
      "pending": pending,
    }

  @whole
  def unreadable(self) -> list[tuple[str, str]]:
    """Returns (name, reason) of the files that could not be read."""
    return self._sql.all("SELECT name, reason FROM unreadable ORDER BY name")

  def damage(self) -> str:
    """Returns what SQLite finds wrong with the file, "" if nothing."""
    (found,) = self._sql.one("PRAGMA quick_check(1)")
    (lost,) = self._sql.one(
      "SELECT COUNT(*) FROM file WHERE photo_id NOTNULL AND (photo_id NOT IN (SELECT id FROM photo)"
      " OR photo_id NOT IN (SELECT id FROM vector))"
    )
    return "" if (found, lost) == ("ok", 0) else f"{found}, {lost} files without an embedding"

  # How it changes.

  def compare(self, files: Iterable[File]) -> tuple[int, int]:
    """Takes in what the photo folder holds; returns how many files there are, and how many of them
    are neither known nor waiting with this size and time. `todo` gives those."""
    with self._sql.writing() as db:
      db.execute("DROP TABLE IF EXISTS temp.seen")
      db.execute("DROP TABLE IF EXISTS temp.todo")
      for statement in SEEN.split(";"):
        db.execute(statement)
      db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", files)
      known = " AND ".join(
        f"NOT EXISTS (SELECT 1 FROM {table} WHERE {SAME.format(table)})"
        for table in ("file", "pending")
      )
      db.execute(
        "INSERT INTO todo (name, size, mtime_ns)"
        f" SELECT name, size, mtime_ns FROM seen WHERE {known} ORDER BY name"
      )
    return self._sql.one("SELECT COUNT(*) FROM seen")[0], self._sql.one(
      "SELECT COUNT(*) FROM todo"
    )[0]

  def todo(self, size: int) -> Iterator[list[File]]:
    """Yields the files that `compare` found new or changed, by name, `size` at a time."""
    place = 0
    while rows := self._sql.all(
      "SELECT * FROM todo WHERE place > ? ORDER BY place LIMIT ?", place, size
    ):
      place = rows[-1][0]
      yield [File(*row[1:]) for row in rows]

  def photo_id(self, sha256: bytes) -> int | None:
    """Returns the id of a photo that is there, waiting or not."""
    row = self._sql.one("SELECT id FROM photo WHERE sha256 = ?", sha256)
    return row and row[0]

  def add_pending(self, batch: Iterable[tuple[File, Photo]]) -> None:
    """Lets files wait, all or none; what they show is stored unless it is there."""
    with self._sql.writing() as db:
      for file, photo in batch:
        photo_id = self.photo_id(photo.sha256)
        if photo_id is None:
          photo_id = db.execute(
            "INSERT INTO photo (sha256, thumbnail) VALUES (?, ?)", (photo.sha256, photo.thumbnail)
          ).lastrowid
          data = np.ascontiguousarray(photo.vector, "<f4").tobytes()
          db.execute("INSERT INTO vector VALUES (?, ?)", (photo_id, data))
        db.execute("INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?)", (*file, photo_id))

  def publish(
    self, unreadable: Iterable[tuple[str, str]], *, least: int = 1, **about: Any
  ) -> dict[str, int]:
    """Makes the index what `compare` saw: what waits can be found, files that are gone cannot, nor
    those that have changed and could not be read. Returns how many came, changed and went.

    Raises: UserError if fewer than `least` files would be left.
    """
    with self._sql.writing() as db:
      db.execute("DELETE FROM pending WHERE name NOT IN (SELECT name FROM seen)")
      count = lambda ask: db.execute(ask).fetchone()[0]
      changed = count("SELECT COUNT(*) FROM pending WHERE name IN (SELECT name FROM file)")
      added = count("SELECT COUNT(*) FROM pending") - changed
      removed = db.execute(
        "DELETE FROM file WHERE name NOT IN (SELECT name FROM pending)"
        " AND (name NOT IN (SELECT name FROM seen) OR name IN (SELECT name FROM todo))"
      ).rowcount
      db.execute("INSERT OR REPLACE INTO file SELECT * FROM pending")
      db.execute("DELETE FROM pending")
      db.execute("DELETE FROM unreadable")
      db.executemany("INSERT OR REPLACE INTO unreadable VALUES (?, ?)", unreadable)
      if count("SELECT COUNT(photo_id) FROM file") < least:
        raise UserError("no photo would be left in the index; check that the photos are readable")
      _end_change(db, about, is_change=bool(added or changed or removed))
    return {"added": added, "changed": changed, "removed": removed}

  def leave_out(self, names: Sequence[str]) -> int:
    """Takes files out of what can be found until they change; returns how many photos went.

    Raises: UserError for a name that is not there, or if nothing would be left.
    """
    before = self.num_photos
    with self._sql.writing() as db:
      for name in names:
        leave = "UPDATE file SET photo_id = NULL WHERE name = ? AND photo_id NOTNULL"
        if not db.execute(leave, (name,)).rowcount:
          raise UserError(f"{name!r} is not in the index; names are relative to the photo folder")
      if not self.num_photos:
        raise UserError("no photo would be left in the index; delete its folder instead")
      _end_change(db, {}, is_change=True)
    return before - self.num_photos

  def _asked(self, ask: str, ids: Iterable[int]) -> Iterator[Any]:
    wanted = sorted({int(i) for i in ids})
    for start in range(0, len(wanted), MOST_ASKED):
      part = wanted[start : start + MOST_ASKED]
      yield from self._sql.all(ask.format(", ".join("?" * len(part))), *part)


def _set_about(db: sqlite_file.Connection, values: Mapping[str, Any]) -> None:
  rows = [(key, json.dumps(value)) for key, value in values.items()]
  db.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", rows)


def _end_change(db: sqlite_file.Connection, about: Mapping[str, Any], *, is_change: bool) -> None:
  """Drops photos that no file shows any more, and counts the change."""
  # By the ids that indexes hold: pictures and embeddings have gigabytes.
  unseen = (
    "SELECT id FROM photo EXCEPT SELECT photo_id FROM file EXCEPT SELECT photo_id FROM pending"
  )
  db.execute(f"DELETE FROM vector WHERE id IN ({unseen})")
  db.execute(f"DELETE FROM photo WHERE id IN ({unseen})")
  _set_about(db, about)
  if is_change:
    db.execute("UPDATE about SET value = value + 1 WHERE key = 'generation'")

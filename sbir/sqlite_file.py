"""The only user of SQLite: questions, transactions, and what goes wrong in a user's words."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sbir.types import UserError

Connection = sqlite3.Connection
SECONDS_TO_WAIT = 30.0  # for another process's transaction


class SqliteFile:
  """An open file; several threads may use it."""

  def __init__(self, path: Path, *, read_only: bool, is_shared: bool = False):
    """Opens a file that is there. Unless machines share its disk, changes are written ahead, beside
    the file, so that others can read meanwhile. Raises: UserError if that does not work."""
    self.path, self._lock = path, threading.RLock()
    with self._telling():
      self._db = _connect(path, read_only, is_shared)

  def close(self) -> None:
    """Closes the file."""
    self._db.close()

  def one(self, ask: str, *values: Any) -> Any:
    """Returns the first row of an answer, None if it has none. Raises: UserError."""
    with self._telling():
      return self._db.execute(ask, values).fetchone()

  def all(self, ask: str, *values: Any) -> list[Any]:
    """Returns the rows of an answer. Raises: UserError."""
    with self._telling():
      return self._db.execute(ask, values).fetchall()

  @contextlib.contextmanager
  def writing(self) -> Iterator[sqlite3.Connection]:
    """A transaction: all that is done in it is done, or nothing. Raises: UserError."""
    with self._telling():
      self._db.execute("BEGIN IMMEDIATE")
      try:
        yield self._db
        self._db.execute("COMMIT")
      except BaseException:
        if self._db.in_transaction:  # a full disk has ended it already
          self._db.execute("ROLLBACK")
        raise

  @contextlib.contextmanager
  def _telling(self) -> Iterator[None]:
    """Holds the file for this thread, and says what is wrong with it as users are told."""
    try:
      with self._lock:
        yield
    except sqlite3.Error as error:
      raise UserError(
        f"{self.path} cannot be used ({error}); check that it is whole, that its disk has room and "
        "that you may write there"
      ) from None


def create(path: Path, script: str) -> None:
  """Makes a file by a script, whole or not at all; one that is there is kept.

  Raises: UserError if it cannot be written.
  """
  new = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    new.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(new)) as db:
      db.executescript(f"BEGIN; {script} COMMIT;")
    with contextlib.suppress(FileExistsError):
      os.link(new, path)
  except (OSError, sqlite3.Error) as error:
    raise UserError(f"{path} cannot be written ({error}); choose another folder") from None
  finally:
    new.unlink(missing_ok=True)


def _connect(path: Path, read_only: bool, is_shared: bool) -> sqlite3.Connection:
  """Returns a connection. What is written ahead lies in a file beside it; where that cannot be
  made, in a folder that may not be written, nobody writes and the file is read as it lies."""
  mode = "ro" if read_only else "rw"
  if read_only and not os.access(path.parent, os.W_OK):
    mode += "&immutable=1"
  address = f"{path.absolute().as_uri()}?mode={mode}"
  db = sqlite3.connect(
    address, uri=True, timeout=SECONDS_TO_WAIT, isolation_level=None, check_same_thread=False
  )
  if not read_only and not is_shared:
    db.execute("PRAGMA journal_mode = WAL")
  return db

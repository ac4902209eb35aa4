"""What a table of photos is made of: its columns, and the rows as they come and go."""

import json
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sbir import sqlite_file

FORMAT = 1
APPLICATION = 0x53424952  # "SBIR", in the file's header
SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE photo (
  id INTEGER PRIMARY KEY AUTOINCREMENT, sha256 BLOB NOT NULL UNIQUE, thumbnail BLOB NOT NULL
);
CREATE TABLE vector (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE file (name TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, photo_id INTEGER);
CREATE TABLE pending (name TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, photo_id INTEGER);
CREATE TABLE unreadable (name TEXT PRIMARY KEY, reason TEXT NOT NULL);
CREATE INDEX file_of_photo ON file (photo_id);
"""
SEEN = """
CREATE TEMP TABLE seen (name TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER);
CREATE TEMP TABLE todo (place INTEGER PRIMARY KEY, name TEXT, size INTEGER, mtime_ns INTEGER);
"""


class File(NamedTuple):
  """A file of the photo folder."""

  name: str  # relative to the folder, parts divided by "/"
  size: int  # bytes
  mtime_ns: int


class Photo(NamedTuple):
  """What a file shows."""

  sha256: bytes  # of the file
  thumbnail: bytes  # JPEG
  vector: Float[np.ndarray, "d"] | None  # length 1; None: the table has this photo already


def create_table(path: Path, **about: Any) -> None:
  """Makes an empty table that knows `about`, among it the "width" of embeddings.

  Raises: UserError if it cannot be written.
  """
  values = {"generation": 0, "identity": uuid.uuid4().hex, **about}
  quoted = [(key, json.dumps(value).replace("'", "''")) for key, value in values.items()]
  inserts = "".join(f"INSERT INTO about VALUES ('{key}', '{value}'); " for key, value in quoted)
  numbers = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}; "
  sqlite_file.create(path, SCHEMA + numbers + inserts)

"""What a table of photos is made of: its columns, and the rows as they come and go."""

import functools
import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sbir import sqlite_file
from sbir.types import UserError

FORMAT = 1
WIDEST = 1 << 20  # numbers of an embedding
LARGEST = 1e30
WORDS = ("identity", "folder", "model_place", "model_hash", "engine")
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


def check_about(path: Path, about: Mapping[str, Any]) -> None:
  """Raises UserError unless what a table says of itself can be so."""
  width, bits, coder = about.get("width"), about.get("bits", 0), about.get("coder")
  rows = coder if isinstance(coder, list) else []
  is_right = {
    "width": type(width) is int and 0 < width <= WIDEST,
    "bits": type(bits) is int and 0 <= bits <= WIDEST,
    "generation": type(about.get("generation")) is int,
    "settled": type(about.get("settled", 0)) is int,
    **{key: isinstance(about.get(key, ""), str) for key in WORDS},
    "coder": coder is None or (len(rows) == bits + 1 and all(_is_row(row, width) for row in rows)),
  }
  if wrong := [key for key, is_so in is_right.items() if not is_so]:
    raise UserError(
      f"{path} is damaged: {', '.join(wrong)} cannot be as it stands there; build the index again"
    )


def _is_row(row: Any, width: int) -> bool:
  """Returns whether a row of a coder is `width` finite numbers."""
  is_number = lambda x: isinstance(x, float | int) and abs(x) < LARGEST  # false of nan and infinity
  return isinstance(row, list) and len(row) == width and all(is_number(x) for x in row)


def whole(method: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a table's method with a UserError for what cannot be in a table that is whole."""

  @functools.wraps(method)
  def call(self: Any, *args: Any) -> Any:
    try:
      return method(self, *args)
    except UserError:
      raise
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
      raise UserError(
        f"{self.path} is damaged ({str(error)[:80]!r}); build the index again"
      ) from None

  return call


def create_table(path: Path, **about: Any) -> None:
  """Makes an empty table that knows `about`, among it the "width" of embeddings.

  Raises: UserError if it cannot be written.
  """
  values = {"generation": 0, "identity": uuid.uuid4().hex, **about}
  quoted = [(key, json.dumps(value).replace("'", "''")) for key, value in values.items()]
  inserts = "".join(f"INSERT INTO about VALUES ('{key}', '{value}'); " for key, value in quoted)
  numbers = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}; "
  sqlite_file.create(path, SCHEMA + numbers + inserts)

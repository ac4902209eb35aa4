"""What is fuzzed of an index of photos: its table, what that says of itself, its engine's file."""

import functools
import json
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tests import fuzz_texts
from tests.fuzz_inputs import damaged
from tests.fuzz_targets import Target, written

WIDTH, BITS, NUM = 4, 16, 6


def table(data, folder):
  """Opens an index whose table is of any content, and uses all of it."""
  _empty(folder)
  written(data, folder, "photos.db")
  _use(folder)


def about(data, folder):
  """Opens an index whose table says anything of itself."""
  from sbir.types import UserError

  _empty(folder)
  path = written(_tables()[0], folder, "photos.db")
  try:
    values = json.loads(data)
    rows = [(key, json.dumps(value)) for key, value in values.items()]
    with sqlite3.connect(path) as db:
      db.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", rows)
    db.close()
  except (ValueError, AttributeError, RecursionError, sqlite3.Error):
    raise UserError("nothing to write") from None
  _use(folder)


def engine(data, folder):
  """Opens an index whose engine's file is of any content: what is found is what the table holds."""
  _empty(folder)
  written(_tables()[1], folder, "photos.db")
  written(data, folder, _engine()[0])
  assert _use(folder) == list(range(1, NUM + 1))


def _use(folder):
  """Returns the ids that can be found, rising, after a look at all that an index gives."""
  from sbir.photo_index import open_index

  index = open_index(str(folder))
  try:
    (hits,) = index.search(np.ones((1, index.width), np.float32), NUM)
    for hit in hits:
      assert isinstance(hit.name, str) and -1 <= hit.score <= 1
      assert isinstance(index.thumbnail(hit.photo_id), bytes)
      assert index.vector(hit.photo_id).shape == (index.width,)
      assert index.file(hit.photo_id).name
    index.table.counts(), index.table.unreadable(), index.table.files(), index.table.damage()
    assert isinstance(index.model_place, str) and isinstance(index.model_hash, str)
    return sorted(hit.photo_id for hit in hits)
  finally:
    index.close()


def _empty(folder):
  for old in folder.iterdir():
    old.unlink()


@functools.cache
def _tables():
  """Returns the tables of a sound index that is searched exactly, and of one searched by codes."""
  return tuple(_made(bits)[0] for bits in (0, BITS))


@functools.cache
def _engine():
  """Returns (name, content) of the file of codes."""
  return _made(BITS)[1:]


def _made(bits):
  """Returns (table, name of the engine's file, its content) of a new index."""
  from sbir.photo_index import open_index
  from sbir.photo_schema import File, Photo, create_table
  from sbir.photo_table import PhotoTable

  vectors = np.random.default_rng(0).standard_normal((NUM, WIDTH)).astype(np.float32)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  model = {"architecture": "vit", "model_hash": "a" * 64, "model_place": "/a", "preprocessing": {}}
  with tempfile.TemporaryDirectory() as place:
    path = Path(place) / "photos.db"
    create_table(path, width=WIDTH, bits=bits, folder="/photos", identity="b" * 32, **model)
    index = PhotoTable(path, read_only=False, is_shared=True)
    files = [File(f"{i}.jpg", i, i) for i in range(NUM)]
    index.compare(files)
    index.add_pending(
      (file, Photo(bytes([i]) * 32, b"jpeg", vectors[i])) for i, file in enumerate(files)
    )
    coder = np.random.default_rng(1).standard_normal((bits + 1, WIDTH)).tolist()
    index.publish([("broken.jpg", "cut")], coder=coder if bits else None)
    index.close()
    made = open_index(place)
    (Path(place) / "photos.db-wal").unlink(missing_ok=True)
    writer = PhotoTable(path, read_only=False, is_shared=True)
    made.table.close()
    made.table = writer
    made.settle()
    made.close()
    engines = list(Path(place).glob("*.faiss"))
    content = engines[0].read_bytes() if engines else b""
    return path.read_bytes(), engines[0].name if engines else "", content


SOUND = {
  "width": WIDTH, "bits": 0, "coder": None, "generation": 1, "identity": "b" * 32,
  "folder": "/photos", "model_place": "/a", "model_hash": "a" * 64, "settled": 1,
}  # fmt: skip
SAID = tuple(json.dumps({key: value}).encode() for key, value in SOUND.items())
INDEXES = (
  Target(
    "index", "photo_index.open_index, of any table", st.deferred(lambda: damaged(_tables())), table
  ),
  Target(
    "index_about",
    "photo_index.open_index, of a table that says anything",
    fuzz_texts.json_inputs((json.dumps(SOUND).encode(), *SAID)),
    about,
  ),
  Target(
    "index_engine",
    "photo_index.open_index, beside any file of codes",
    st.deferred(lambda: damaged((_engine()[1],))),
    engine,
    memory=512,
  ),
)

"""Folders of small photos, and tables and indexes of them, for the tests of searching."""

import zlib

import numpy as np
import pytest

from sbir.data.images import as_jpeg
from sbir.faiss_gallery import FaissGallery
from sbir.photo_index import TABLE, PhotoIndex
from sbir.photo_schema import File, Photo, create_table
from sbir.photo_table import PhotoTable
from tests.packages import noise, save_package

# Imported here, before a test has a stderr of its own: at its import it ends all logging there was,
# and absl's handler then closes the stderr it knew, unless that is still the one in use.
try:
  import pymilvus
except ImportError:
  pymilvus = None
needs_milvus = pytest.mark.skipif(
  pymilvus is None, reason="./launch.sh setup --with milvus brings pymilvus"
)
SIDE = 20


def save_photos(folder, num, *, seed=0, form="{:03d}.jpg"):
  """Writes JPEGs of noise, every second one in a folder of the folder; returns their names."""
  names = [("inner/" if i % 2 else "") + form.format(i) for i in range(num)]
  for name, pixels in zip(names, noise(num, SIDE, seed), strict=True):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(as_jpeg(pixels, quality=95))
  return sorted(names)


def save_model(folder, **words):
  """Writes a tiny model of photos and sketches with random weights; returns its folder."""
  return save_package(folder, "xmodal-pair", **words)


def unit(num, width=8, seed=0):
  """Returns vectors of length 1, float32."""
  vectors = np.random.default_rng(seed).standard_normal((num, width)).astype(np.float32)
  return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_table(folder, vectors, **about):
  """Returns a table of photos with these embeddings: 0000.jpg has the first, and the id 1."""
  about = {"width": vectors.shape[1], "bits": 0, "folder": str(folder), **about}
  create_table(folder / TABLE, **about)
  table = PhotoTable(folder / TABLE, read_only=False)
  put(table, {f"{i:04d}.jpg": vector for i, vector in enumerate(vectors)})
  return table


def put(table, vectors):
  """Makes a table hold the photos {name: embedding} and no others."""
  mark = lambda name: name.encode() + np.asarray(vectors[name], "<f4").tobytes()
  table.compare(File(name, 1, zlib.crc32(mark(name))) for name in vectors)
  for files in table.todo(100):
    table.add_pending((f, Photo(mark(f.name), b"small", vectors[f.name])) for f in files)
  return table.publish([])


def make_index(folder, vectors, gallery=None):
  """Returns an open index of such photos, searched exactly unless a gallery is given."""
  table = make_table(folder, vectors)
  return PhotoIndex(table, gallery or FaissGallery("exact", vectors.shape[1]))

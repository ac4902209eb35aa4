"""Image files that cannot be read, of every kind, and a set whose images say which they are."""

import struct
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from sbir.data.images import MAX_BYTES, MAX_PIXELS
from sbir.data.records import Record
from sbir.data.sources import open_source
from tests.data_folders import make_qmul


def png(width: int, height: int) -> bytes:
  """A PNG that claims to be of this size and holds nothing of it."""

  def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

  header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
  body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
  return b"\x89PNG\r\n\x1a\n" + body


def too_long(path: Path) -> None:
  with path.open("wb") as file:
    file.truncate(MAX_BYTES + 1)  # takes no room


def lead_nowhere(path: Path) -> None:
  path.unlink()
  path.symlink_to("nowhere")


DAMAGE = {  # how to spoil a file, and what is said of it
  "deleted": (Path.unlink, "cannot be read (No such file"),
  "a link to nothing": (lead_nowhere, "cannot be read (No such file"),
  "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "truncated"),
  "bomb": (lambda path: path.write_bytes(png(50_000, 50_000)), f"at most {MAX_PIXELS}"),
  "thin": (lambda path: path.write_bytes(png(60_000_000, 1)), "60000000 x 1 pixels, expected"),
  "no pixels": (lambda path: path.write_bytes(b"P6\n0 0\n255\n"), "no image format begins"),
  "no bytes": (lambda path: path.write_bytes(b""), "0 bytes"),
  "another kind": (lambda path: path.write_bytes(b"<html>"), "no image format begins like this"),
  "too many bytes": (too_long, f"{MAX_BYTES + 1} bytes, expected at most {MAX_BYTES}"),
}


@dataclass
class Counted:
  """A source of files that counts how often each was asked for."""

  source: object
  reads: Counter = field(default_factory=Counter)

  @property
  def name(self) -> str:
    return self.source.name

  @property
  def records(self) -> tuple[Record, ...]:
    return self.source.records

  def image(self, index: int, at_least: int = 0) -> np.ndarray:
    self.reads[index] += 1
    return self.source.image(index, at_least)

  def stamp(self) -> str:
    return self.source.stamp()

  def path(self, index: int) -> Path:
    return self.source.root / self.records[index].key


def open_shoes(root: Path) -> Counted:
  return Counted(open_source("folder", "shoe_v2", root, "train"))


def make_numbered(root: Path, num_photos: int = 70) -> Path:
  """Writes photos with two sketches each; every pixel of image i is i."""
  make_qmul(root, train=[f"{i:03d}" for i in range(num_photos)])
  source = open_shoes(root)
  for i in range(len(source.records)):
    Image.fromarray(np.full((3, 3), i, np.uint8)).save(source.path(i))
  return root

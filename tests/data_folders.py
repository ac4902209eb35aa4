"""Tiny data sets on disk in the published layouts, for the tests of the readers."""

import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def save_image(path: Path, *, size: tuple[int, int] = (6, 5), seed: int | str = "") -> Path:
  """Saves noise (height, width) that differs from path to path, unless a seed is given."""
  path.parent.mkdir(parents=True, exist_ok=True)
  digest = hashlib.sha256(str(seed or path).encode()).digest()
  pixels = np.random.default_rng(list(digest)).integers(0, 256, (*size, 3), dtype=np.uint8)
  Image.fromarray(pixels).save(path)
  return path


def make_qmul(
  root: Path,
  train: Iterable[str] = ("11", "2", "30"),
  test: Iterable[str] = ("4", "51"),
  sketches: int = 2,
) -> Path:
  """Writes ShoeV2's layout with as many sketches for every photo id, numbered from 9 on."""
  for split, ids in (("train", train), ("test", test)):
    for photo_id in ids:
      save_image(root / f"{split}B" / f"{photo_id}.png")
      for k in range(9, 9 + sketches):
        save_image(root / f"{split}A" / f"{photo_id}_{k}.png", size=(7, 7))
  return root


def make_sketchy(
  root: Path, classes: Iterable[str] = ("bat", "car_(sedan)"), photos: int = 4, sketches: int = 2
) -> Path:
  """Writes Sketchy's layout; photo ids look like ImageNet's and number from 0 in every class."""
  for number, name in enumerate(classes):
    for i in range(photos):
      photo_id = f"n0{number}_{i}"
      save_image(root / "photo/tx_000000000000" / name / f"{photo_id}.jpg")
      for k in range(1, 1 + sketches):
        save_image(root / "sketch/tx_000000000000" / name / f"{photo_id}-{k}.png")
  return root


def make_classes(
  root: Path,
  classes: Iterable[str] = ("ant", "bat", "cat"),
  *,
  photo: str = "photo",
  sketch: str = "sketch",
  photos: int = 3,
  sketches: int = 2,
) -> Path:
  """Writes folders of classes, nothing paired: photos n<i>.jpg, sketches <i>.png."""
  for name in classes:
    for i in range(photos):
      save_image(root / photo / name / f"n{i}.jpg")
    for i in range(sketches):
      save_image(root / sketch / name / f"{i}.png")
  return root


def write_manifest(root: Path, rows: Iterable[dict[str, str]], *, make: bool = True) -> Path:
  """Writes manifest.csv with the columns of the first row, and an image for every path."""
  rows = list(rows)
  root.mkdir(parents=True, exist_ok=True)
  with (root / "manifest.csv").open("w", newline="") as file:
    writer = csv.DictWriter(file, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
  for row in rows if make else ():
    save_image(root / row["path"])
  return root

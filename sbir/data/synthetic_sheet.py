"""The contact sheet of the synthetic set: look at it before you believe it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sbir.data.records import SPLITS, photo_indices, sketches_of
from sbir.data.synthetic import CATEGORIES, Synthetic, open_synthetic
from sbir.types import UserError

LABEL, GAP = 14, 4  # pixels


def contact_sheet(source: Synthetic, num_photos: int) -> Image.Image:
  """Returns a picture with, per category, `num_photos` photos, each before its sketches."""
  tiles = {}
  sketches = sketches_of(source)
  for index in photo_indices(source):
    record = source.records[index]
    row = tiles.setdefault(record.category, [])
    if len(row) < num_photos:
      images = [source.image(i) for i in (index, *sketches[record.instance])]
      row.append(np.concatenate(images, axis=1))
  height, width, _ = next(iter(tiles.values()))[0].shape
  sheet = Image.new(
    "RGB", (num_photos * (width + GAP) + GAP, len(tiles) * (height + LABEL) + GAP), "white"
  )
  pen = ImageDraw.Draw(sheet)
  for row, category in enumerate(tiles):
    top = row * (height + LABEL)
    pen.text((GAP, top + 1), category, fill="black")
    for column, tile in enumerate(tiles[category]):
      sheet.paste(Image.fromarray(tile), (GAP + column * (width + GAP), top + LABEL))
  return sheet


def main(arguments: Sequence[str] | None = None) -> int:
  """Writes the sheet that the command line asks for; returns the exit status."""
  parser = argparse.ArgumentParser(
    prog="python -m sbir.data.synthetic",
    description="Draw a contact sheet of the embedded data set: a row per category, in it photos "
    "of different individuals, each followed by its sketches. The same seed gives the same sheet.",
    epilog="example: python -m sbir.data.synthetic --out sheet.png --seed 1 --size 96",
  )
  parser.add_argument("--out", type=Path, required=True, help="the PNG file to write")
  parser.add_argument("--seed", type=int, default=0, help="which set (default: %(default)s)")
  parser.add_argument("--split", choices=SPLITS, default="test", help="default: %(default)s")
  parser.add_argument("--photos", type=int, default=4, help="per category (default: %(default)s)")
  parser.add_argument("--size", type=int, default=64, help="of an image, in pixels (%(default)s)")
  options = parser.parse_args(arguments)
  number = options.photos * len(CATEGORIES)
  try:
    source = open_synthetic(
      options.split, seed=options.seed, num_train=number, num_test=number, size=options.size
    )
    contact_sheet(source, options.photos).save(options.out)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  except (OSError, ValueError) as error:  # PIL: ValueError for an unknown file ending
    print(
      f"error: --out={options.out} cannot be written ({error}); "
      "expected a .png in a folder that exists and is yours to write",
      file=sys.stderr,
    )
    return 2
  print(options.out)
  return 0

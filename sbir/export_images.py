"""The images that an exported file is checked with: a folder of photos, or drawn ones."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from sbir.data.files import existing_folder
from sbir.data.fit import fit_square, least_side
from sbir.data.images import decode, is_image_name
from sbir.data.records import PHOTO, SKETCH
from sbir.data.synthetic import open_synthetic
from sbir.types import UserError

NUM_PHOTOS, NUM_SKETCHES = 64, 16
DRAWN_SIZE = 64  # pixels; at more they would take longer and check no more

Square = UInt8[np.ndarray, "s s 3"]
Squares = Sequence[Square]


class PhotosBelow(Sequence[Square]):
  """The images in a folder and in those below it, sorted by path, hidden ones left out; each is
  read when asked for."""

  def __init__(self, folder: str | os.PathLike[str], image_size: int, fit: str):
    """Lists the folder. Raises: UserError if it is not there, or there is no image in it."""
    self._size, self._fit = image_size, fit
    self._paths = sorted(_images_below(existing_folder(folder)))
    if not self._paths:
      raise UserError(f"--gallery {folder} holds no image, expected photos; give another folder")

  def __len__(self) -> int:
    return len(self._paths)

  def __getitem__(self, index: int) -> Square:
    """Returns an image as a square. Raises: UserError naming a file that cannot be read."""
    image = decode(self._paths[index], at_least=least_side(self._size, self._fit))
    return fit_square(image, self._size, self._fit)


def check_images(gallery: str | None, image_size: int, fit: str) -> Mapping[str, Squares]:
  """Returns {"photo": those of the folder `gallery`, or drawn ones, "sketch": drawn ones}.

  Raises: UserError if the folder is not there or holds no image.
  """
  if gallery is None:
    return _drawn(NUM_PHOTOS, image_size, fit)
  photos = PhotosBelow(gallery, image_size, fit)
  return {PHOTO: photos, SKETCH: _drawn(NUM_SKETCHES, image_size, fit)[SKETCH]}


def _images_below(root: Path) -> Iterator[Path]:
  for place, folders, files in os.walk(root):
    folders[:] = [name for name in folders if not name.startswith(".")]
    yield from (Path(place) / name for name in files if is_image_name(name))


def _drawn(num_photos: int, image_size: int, fit: str) -> dict[str, list[Square]]:
  """Returns synthetic photos, and sketches of NUM_SKETCHES of them."""
  source = open_synthetic("test", num_test=num_photos, num_sketches=1, size=DRAWN_SIZE)
  limits = {PHOTO: num_photos, SKETCH: NUM_SKETCHES}
  found: dict[str, list[Square]] = {PHOTO: [], SKETCH: []}
  for i, record in enumerate(source.records):
    if len(found[record.modality]) < limits[record.modality]:
      found[record.modality].append(fit_square(source.image(i), image_size, fit))
  return found

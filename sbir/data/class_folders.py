"""Reader of folders of classes: sketches on one side, photos on the other, nothing paired."""

import os
import re
from collections.abc import Iterator, Set
from dataclasses import replace
from pathlib import Path

from sbir.data.class_splits import normalise
from sbir.data.files import (
  Listing,
  existing_folder,
  folder_names,
  listing,
  sketch_photo_id,
  wrong_folder,
)
from sbir.data.images import is_image_name
from sbir.data.records import ALL, PHOTO, SKETCH, Record
from sbir.places import is_remote
from sbir.types import UserError

RENDERING = "tx_000000000000"  # of Sketchy, the plain one; PSKD's folders of any set are called so
ARCHIVE = "256x256"  # the folder that Sketchy's archive unpacks to
# Where each side may lie below the root; the first that is there is taken. The photos of Sketchy
# Extended come as a folder of their own, which has nearly all photos of Sketchy in it.
SIDES = {
  SKETCH: (f"sketch/{RENDERING}", "sketch"),
  PHOTO: ("EXTEND_image_sketchy", f"photo/{RENDERING}", "photo"),
}


def list_class_folders(name: str, folder: str | os.PathLike) -> Listing:
  """Returns all images of <root>/sketch/<class>/... and <root>/photo/<class>/....

  The root is `folder`, or a folder in it that is called like the data set (as TVT has them).
  Between side and class may lie "tx_000000000000" (PSKD, Sketchy), around the sides Sketchy's
  256x256, and EXTEND_image_sketchy is taken before other photos. Images are found however deep
  below the class. A photo's instance is <class>/<its name>; a sketch's that of the photo its name
  begins with ("<photo>-<k>"), else its own key.

  Raises: UserError if there is no such root, or a folder cannot be listed.
  """
  root, sides = _root(name, existing_folder(folder))
  photos = list(_side(root, sides[PHOTO], PHOTO))
  known = {record.instance for record in photos}
  sketches = [_drawn_from(record, known) for record in _side(root, sides[SKETCH], SKETCH)]
  return listing(name, ALL, root, (*photos, *sketches))


def list_photo_folder(name: str, folder: str | os.PathLike) -> Listing:
  """Returns the images of `folder`/<class>/... as photos, each an instance of its own.

  Raises: UserError if the folder is missing or has no images in folders.
  """
  base = existing_folder(folder).resolve()
  photos = [replace(record, instance=record.key) for record in _side(base.parent, base.name, PHOTO)]
  if not photos:
    raise wrong_folder(name, base, "<class>/<photo>, as the release has them")
  return listing(name, ALL, base.parent, photos)


def _root(name: str, folder: Path) -> tuple[Path, dict[str, str]]:
  """Returns the root of a set and, by modality, the folder of its classes below it."""
  own = [f for f in folder_names(folder) if _letters(f) == _letters(name)]
  for root in (folder, *(folder / f for f in own)):
    sides = {modality: _find_side(root, modality) for modality in SIDES}
    if all(sides.values()):
      return root, sides
  raise wrong_folder(name, folder, "sketch/<class>/<image> and photo/<class>/<image>")


def _letters(name: str) -> str:
  return re.sub(r"[^a-z0-9]", "", name.lower())


def _find_side(root: Path, modality: str) -> str:
  """Returns the folder of one side's classes below the root, or ""."""
  paths = (f"{around}{side}" for side in SIDES[modality] for around in ("", f"{ARCHIVE}/"))
  return next((p for p in paths if (root / p).is_dir() and folder_names(root / p)), "")


def _side(root: Path, side: str, modality: str) -> Iterator[Record]:
  """Yields the images below `side`/<class>, each an instance by its class and name."""
  for category in folder_names(root / side):
    for path in _images_below(root / side / category):
      instance = f"{normalise(category)}/{os.path.splitext(path)[0]}"
      yield Record(modality, category, instance, f"{side}/{category}/{path}")


def _images_below(folder: Path) -> Iterator[str]:
  """Yields the paths of the images in a folder and those below, hidden ones left out."""

  def refuse(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be listed ({error.strerror}); check its permissions")

  if is_remote(folder):
    parts = (path.split("/") for path in folder.files_below())
    yield from (
      "/".join((*above, file))
      for *above, file in parts
      if is_image_name(file) and not any(name.startswith(".") for name in above)
    )
    return
  for place, folders, files in os.walk(folder, onerror=refuse):
    folders[:] = [f for f in folders if not f.startswith(".")]
    below = Path(place).relative_to(folder)
    yield from ((below / file).as_posix() for file in files if is_image_name(file))


def _drawn_from(sketch: Record, photos: Set[str]) -> Record:
  """Returns the sketch as one of the photo that its name begins with, if there is such a photo."""
  category, _, file = sketch.instance.partition("/")
  photo_id = sketch_photo_id(f"{file}.png", "-")
  instance = f"{category}/{photo_id}"
  return replace(sketch, instance=instance if instance in photos else sketch.key)

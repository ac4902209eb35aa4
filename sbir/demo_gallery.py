"""What the page serves after a demo: the photos that its model was never trained on, indexed."""

from collections.abc import Iterator
from pathlib import Path

from sbir.data.class_splits import classes_in
from sbir.data.images import as_jpeg
from sbir.data.records import PHOTO
from sbir.data.synthetic import Synthetic, open_synthetic
from sbir.data.zero_shot import DEMO_TEST_PHOTOS
from sbir.index_build import build
from sbir.model_identity import identity_of
from sbir.models import from_pretrained
from sbir.package_folder import is_package
from sbir.progress import track
from sbir.run_folder import write_bytes
from sbir.types import UserError

METHODS = ("xmodal", "pskd")
WORKDIR = "runs/demo/{method}"
SIZE = 160  # pixels; the shapes are those of the demo's 64


def demo_index(method: str) -> str:
  """Returns where the index of a demo's gallery is; draws the photos and builds it if need be.

  Raises: UserError if the demo has not run.
  """
  workdir = Path(WORKDIR.format(method=method))
  package = workdir / "package"
  if not is_package(package):
    raise UserError(f"{package} is not there; run ./launch.sh demo {method} first")
  photos = workdir / "gallery"
  _draw(method, photos)
  known = identity_of(from_pretrained(package)).model_hash
  index = str(workdir / f"index-{known[:12]}")  # trained again, the demo has another model
  build(index, str(package), str(photos))
  return index


def gallery_of(method: str) -> Iterator[tuple[str, Synthetic, int]]:
  """Yields (file name, source, place in it) of the photos in the gallery of a demo."""
  if method == "xmodal":
    source, kinds = open_synthetic("test", size=SIZE), None
  else:
    kinds = set(classes_in("demo5.txt"))
    source = open_synthetic("test", num_test=DEMO_TEST_PHOTOS * 16, size=SIZE)
  for i, record in enumerate(source.records):
    if record.modality == PHOTO and (kinds is None or record.category in kinds):
      yield f"{record.instance.removeprefix('test-')}.jpg", source, i


def _draw(method: str, folder: Path) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  missing = [entry for entry in gallery_of(method) if not (folder / entry[0]).is_file()]
  for name, source, i in track(missing, "draw photos") if missing else ():
    write_bytes(folder / name, as_jpeg(source.image(i), quality=92))

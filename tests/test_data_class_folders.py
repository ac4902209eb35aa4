"""Folders of classes in the layouts that are passed around: which images are found, under what
name, and what is refused."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from sbir.data.images import decode
from sbir.data.zero_shot import open_zero_shot
from sbir.types import UserError
from tests.data_folders import make_classes, make_qmul, save_image
from tests.paths import REPO

RENDERING = "tx_000000000000"


def opened(folder, part="train", name="tuberlin", unseen="bat", kind="folder", **settings):
  """A part of a folder, the unseen classes given as words."""
  path = folder.parent / "unseen.txt"
  path.write_text("\n".join(unseen.split()))
  return open_zero_shot(kind, name, folder, part, split=str(path), **settings)


def photo_instances(source) -> list[str]:
  return [r.instance for r in source.records if r.modality == "photo"]


def keys(source, modality: str = "photo") -> list[str]:
  return [r.key for r in source.records if r.modality == modality]


@pytest.mark.parametrize(
  "photo, sketch",
  [
    ("photo", "sketch"),
    (f"photo/{RENDERING}", f"sketch/{RENDERING}"),  # PSKD
    ("photo", f"sketch/{RENDERING}"),
    ("EXTEND_image_sketchy", "sketch"),
    ("EXTEND_image_sketchy", f"256x256/sketch/{RENDERING}"),  # Sketchy Extended beside its base
    ("256x256/EXTEND_image_sketchy", f"256x256/sketch/{RENDERING}"),
  ],
)
@pytest.mark.parametrize("level", ["", "tuberlin", "TU-Berlin", "TUBerlin"])  # TVT has such a level
def test_every_published_layout_is_read(tmp_path, photo, sketch, level):
  folder = tmp_path / "data"
  make_classes(folder / level, photo=photo, sketch=sketch)
  source, split = opened(folder)
  assert split.seen == ("ant", "cat")
  assert Counter((r.modality, r.category) for r in source.records) == {
    **{("photo", c): 3 for c in split.seen},
    **{("sketch", c): 2 for c in split.seen},
  }
  assert photo_instances(source)[0] == "ant/n0"
  assert keys(source)[0] == f"{photo}/ant/n0.jpg"
  np.testing.assert_array_equal(source.image(0), decode(folder / level / photo / "ant" / "n0.jpg"))


def test_the_extended_photos_are_taken_before_the_base(tmp_path):
  root = make_classes(tmp_path / "data", photo="EXTEND_image_sketchy")
  make_classes(root, photo=f"photo/{RENDERING}", photos=9)
  assert len(photo_instances(opened(root)[0])) == 6


def test_images_are_found_however_deep_and_whatever_their_ending(tmp_path):
  root = make_classes(tmp_path / "data")
  for ending in ("jpg", "JPEG", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"):
    save_image(root / "photo/ant/more/and" / f"{ending}.png").rename(
      root / "photo/ant/more/and" / f"{ending}.{ending}"
    )
  for name in ("photo/ant/.hidden/x.png", "photo/ant/._n0.jpg", "photo/ant/notes.txt"):
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(b"x")
  source, _ = opened(root)
  assert len(photo_instances(source)) == 6 + 9
  assert "ant/more/and/webp" in photo_instances(source)


def test_a_sketch_belongs_to_the_photo_of_its_name_where_there_is_one(tmp_path):
  root = make_classes(tmp_path / "data", classes=("ant", "bat", "T-shirt"), sketches=0)
  for name in ("ant/n1-3.png", "ant/n9-3.png", "ant/77.png"):
    save_image(root / "sketch" / name)
  save_image(root / "sketch/tshirt/n2-10.png")  # the class spelt otherwise on this side
  save_image(root / "sketch/bat/n1-1.png")
  source, _ = opened(root)
  assert {r.key: r.instance for r in source.records if r.modality == "sketch"} == {
    "sketch/ant/n1-3.png": "ant/n1",
    "sketch/ant/n9-3.png": "sketch/ant/n9-3.png",
    "sketch/ant/77.png": "sketch/ant/77.png",
    "sketch/tshirt/n2-10.png": "t_shirt/n2",
  }


def test_photos_that_differ_in_their_ending_only_are_two(tmp_path):
  root = make_classes(tmp_path / "data")
  save_image(root / "photo/ant/n0.png")
  instances = photo_instances(opened(root)[0])
  assert len(set(instances)) == len(instances) == 7


def test_the_slips_of_tu_berlins_photo_folders_meet_their_sketches(tmp_path):
  root = make_classes(tmp_path / "data", classes=("personsitting", "spidar", "ant"), sketches=0)
  make_classes(root, classes=("person sitting", "spider", "ant"), photos=0)
  source, split = opened(root, "test", unseen="spider")
  assert split.seen == ("ant", "person_sitting") and split.unseen == ("spider",)
  assert {r.category for r in source.records} == {"spider"}


def test_two_folders_of_one_class_are_refused(tmp_path):
  root = make_classes(tmp_path / "data", classes=("ant", "bat", "t-shirt", "tshirt"))
  with pytest.raises(UserError, match="'t-shirt' and 'tshirt' are both the photo class 't_shirt'"):
    opened(root)


def test_base_photos_are_added_to_training_and_gallery(tmp_path):
  root = make_classes(tmp_path / "data", photo="EXTEND_image_sketchy")
  base = make_classes(tmp_path / "base", photo="photo", photos=2, sketches=0) / "photo"
  for part, classes in (("train", ["ant", "cat"]), ("test", ["bat"])):
    source, _ = opened(root, part, name="sketchy", base_photos=str(base))
    added = [f"photo/{c}/n{i}.jpg" for c in classes for i in range(2)]
    assert [k for k in keys(source) if not k.startswith("EXTEND")] == added
    assert len(keys(source)) == 5 * len(classes)
    assert len(set(photo_instances(source))) == len(keys(source))
    place = [r.key for r in source.records].index(added[0])
    np.testing.assert_array_equal(source.image(place), decode(tmp_path / "base" / added[0]))


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"base_photos": "{root}/photo"}, "is where the photos of the set are already"),
    ({"base_photos": "{root}/none"}, "none does not exist"),
    ({"base_photos": "{root}/photo/ant"}, "is no tuberlin folder.*<class>/<photo>"),
    (
      {"base_photos": "x", "held_out_photos": 1},
      "=1 beside .*leave one of them out",
    ),
  ],
)
def test_base_photos_that_cannot_be_added_are_refused(tmp_path, settings, message):
  root = make_classes(tmp_path / "data")
  settings = {k: v.format(root=root) if k == "base_photos" else v for k, v in settings.items()}
  with pytest.raises(UserError, match=message) as got:
    opened(root, **settings)
  assert "\n" not in str(got.value)


def test_a_folder_without_both_sides_is_refused_with_what_is_expected(tmp_path):
  root = make_classes(tmp_path / "data", photos=0)
  with pytest.raises(UserError, match="no tuberlin folder: found sketch; expected sketch/<class>"):
    opened(root)


def test_an_empty_class_folder_is_named(tmp_path):
  root = make_classes(tmp_path / "data")
  (root / "sketch/yak").mkdir()
  assert "yak" not in opened(root)[1].seen  # no image at all: no class
  save_image(root / "photo/yak/1.png")
  with pytest.raises(UserError, match=r"1 of 3 classes have no sketches \(yak\)"):
    opened(root)


def test_a_prepared_set_is_the_folder_again_for_any_split(tmp_path):
  from sbir.data.prepare import prepare

  root = make_classes(tmp_path / "data", classes=("ant", "mouse", "T-shirt"))
  save_image(root / "sketch/ant/n1-3.png")
  save_image(root / "sketch/mouse/n02330245_8823-4.png")  # an outlier
  prepare("sketchy", root, tmp_path / "out", zero_shot=True)
  for unseen in ("mouse", "tshirt ant"):
    (tmp_path / "list.txt").write_text("\n".join(unseen.split()))
    for part in ("train", "test", "seen"):
      folder, prepared = (
        open_zero_shot(
          kind, "sketchy", place, part, split=str(tmp_path / "list.txt"), held_out_photos=1
        )
        for kind, place in (("folder", root), ("tfds", tmp_path / "out"))
      )
      assert prepared[0].records == folder[0].records and prepared[1] == folder[1]
      for i in range(len(folder[0].records)):
        np.testing.assert_array_equal(prepared[0].image(i), folder[0].image(i))


def test_reading_a_prepared_set_imports_no_tensorflow(tmp_path):
  from sbir.data.prepare import prepare

  root = make_classes(tmp_path / "data", classes=("ant", "bat"))
  prepare("mine", root, tmp_path / "out", zero_shot=True)
  (tmp_path / "list.txt").write_text("bat")
  program = (
    "import sys; from sbir.data.zero_shot import open_zero_shot\n"
    f"source, _ = open_zero_shot('tfds', 'mine', {str(tmp_path / 'out')!r}, 'train', "
    f"split={str(tmp_path / 'list.txt')!r})\n"
    "print(source.image(0).shape, 'tensorflow' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True
  )
  assert done.stdout.split()[-1] == "False"


def test_a_set_prepared_for_pairs_is_refused_with_the_flag(tmp_path):
  from sbir.data.prepare import prepare

  prepare("shoe_v2", make_qmul(tmp_path / "data"), tmp_path / "out")
  with pytest.raises(UserError, match=r"no records of split 'undivided', found train.*--zero_shot"):
    opened(tmp_path / "out", name="shoe_v2", kind="tfds")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
  import os

  root = make_classes(tmp_path / "data")
  (root / "photo/ant/locked").mkdir()
  scandir = os.scandir

  def locked(path):
    if str(path).endswith("locked"):
      raise PermissionError(13, "Permission denied", str(path))
    return scandir(path)

  monkeypatch.setattr(os, "scandir", locked)
  with pytest.raises(UserError, match=r"locked cannot be listed \(Permission denied\)"):
    opened(root)

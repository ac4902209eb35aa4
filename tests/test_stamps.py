"""A stamp stays while the images do, and changes when any of them may have changed."""

import dataclasses
import os
import shutil

import pytest

from sbir.data import resized as resized_images
from sbir.data import synthetic
from sbir.data.prepare import prepare
from sbir.data.resized import resized
from sbir.data.sources import open_source
from sbir.data.synthetic import open_synthetic
from sbir.data.zero_shot import open_zero_shot
from sbir.types import UserError
from tests.data_folders import make_classes, make_qmul, save_image, write_manifest


@pytest.fixture
def shoes(tmp_path):
  return make_qmul(tmp_path / "shoes")


def folder(root, split="train"):
  return open_source("folder", "shoe_v2", root, split)


def longer(path):
  before = path.stat().st_mtime_ns
  with path.open("ab") as file:
    file.write(b"\0")
  os.utime(path, ns=(before, before))


def touched(path):
  os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def test_a_folder_opened_again_has_the_same_stamp(shoes, tmp_path):
  copy = shutil.copytree(shoes, tmp_path / "elsewhere")  # keeps the times
  assert folder(shoes).stamp() == folder(shoes).stamp() == folder(copy).stamp()
  assert folder(shoes).stamp() != folder(shoes, "test").stamp()


@pytest.mark.parametrize("change", [longer, touched])
@pytest.mark.parametrize("file", ["trainB/2.png", "trainA/30_10.png"])
def test_a_changed_file_changes_the_stamp_of_its_split_only(shoes, change, file):
  before = {split: folder(shoes, split).stamp() for split in ("train", "test")}
  change(shoes / file)
  assert folder(shoes).stamp() != before["train"]
  assert folder(shoes, "test").stamp() == before["test"]


def test_a_file_more_or_under_another_name_changes_the_stamp(shoes):
  stamps = {folder(shoes).stamp()}
  save_image(shoes / "trainA/2_77.png")
  stamps.add(folder(shoes).stamp())
  (shoes / "trainA/2_77.png").rename(shoes / "trainA/11_77.png")
  stamps.add(folder(shoes).stamp())
  assert len(stamps) == 3


def test_what_a_manifest_says_of_an_image_is_in_the_stamp(tmp_path):
  def stamp(category):
    rows = [
      {"path": f"{m}.png", "split": "train", "modality": m, "category": category, "instance": "a"}
      for m in ("photo", "sketch")
    ]
    made = write_manifest(tmp_path, rows, make=not (tmp_path / "photo.png").exists())
    return open_source("manifest", "mine", made, "train").stamp()

  assert stamp("shoe") == stamp("shoe") != stamp("boot")


def test_a_file_that_goes_away_changes_the_stamp_and_stops_nobody_who_does_not_read_it(shoes):
  source = folder(shoes)
  before = source.stamp()
  (shoes / "trainA/2_9.png").unlink()
  assert source.stamp() != before
  index = [record.key for record in source.records].index("trainA/2_9.png")
  with pytest.raises(UserError, match=r"trainA/2_9\.png: cannot be read \(No such file"):
    source.image(index)


def test_a_prepared_set_has_the_stamp_of_its_data_files(shoes, tmp_path):
  prepare("shoe_v2", shoes, tmp_path / "out")
  stamp = lambda split="train": open_source("tfds", "shoe_v2", tmp_path / "out", split).stamp()
  before = stamp()
  assert before == stamp() and before != stamp("test")
  shard = max((tmp_path / "out/shoe_v2/1.0.0").glob("*train*"), key=lambda p: p.stat().st_size)
  touched(shard)
  assert stamp() != before


def test_the_words_of_the_made_up_set_are_its_stamp():
  sets = [
    open_synthetic("test", num_test=16),
    open_synthetic("train", num_train=16),
    open_synthetic("test", num_test=17),
    open_synthetic("test", num_test=16, seed=1),
    open_synthetic("test", num_test=16, size=32),
  ]
  assert len({source.stamp() for source in sets}) == 5
  assert open_synthetic("test", num_test=16).stamp() == sets[0].stamp()


@pytest.mark.parametrize("renderer", ["render_photo", "render_sketch"])
def test_a_renderer_that_draws_one_category_otherwise_changes_the_stamp(renderer, monkeypatch):
  before = open_synthetic("test", num_test=32).stamp()
  plain, calls = getattr(synthetic, renderer), []

  def other(*arguments):
    calls.append(1)
    image = plain(*arguments).copy()
    image[0, 0, 0] ^= len(calls) == 16  # only the last category
    return image

  monkeypatch.setattr(synthetic, renderer, other)
  source = open_synthetic("test", num_test=32)
  assert source.stamp() == source.stamp() != before
  assert len(calls) == 16  # few images are drawn, and once


def test_a_part_of_a_set_changes_with_its_files_and_with_what_is_taken(tmp_path):
  root = make_classes(tmp_path / "animals")
  (tmp_path / "unseen.txt").write_text("cat\n")
  words = {"split": str(tmp_path / "unseen.txt")}
  stamp = lambda part="train", **more: open_zero_shot(
    "folder", "animals", root, part, **words | more
  )[0].stamp()
  before = stamp()
  assert before == stamp() and len({before, stamp("test"), stamp(held_out_photos=1)}) == 3
  touched(root / "photo/bat/n1.jpg")
  assert stamp() != before


def test_size_fit_and_the_way_of_decoding_are_in_the_stamp_of_resized_images(monkeypatch):
  source = open_synthetic("test", num_test=2)
  stamps = [
    resized(source, 8, cache="none").stamp(),
    resized(source, 9, cache="none").stamp(),
    resized(source, 8, cache="none", fit="trim").stamp(),
    resized(dataclasses.replace(source, seed=1), 8, cache="none").stamp(),
  ]
  assert resized(source, 8).stamp() == stamps[0]
  monkeypatch.setattr(resized_images, "READING", "another")
  assert len({*stamps, resized(source, 8).stamp()}) == 5

"""Data sets divided by class: what is in each part, in every storage, and what is refused."""

import hashlib
import pickle
from collections import Counter

import numpy as np
import pytest

from sbir.data.records import photo_indices, sketch_indices
from sbir.data.synthetic import CATEGORIES
from sbir.data.zero_shot import (
  DEMO_SKETCHES,
  DEMO_TEST_PHOTOS,
  DEMO_TRAIN_PHOTOS,
  PARTS,
  open_zero_shot,
)
from sbir.types import UserError
from tests.data_folders import write_manifest
from tests.paths import DATA, needs_shared


def rows(classes="ant bat cat dog eel", photos: int = 4, sketches: int = 2) -> list[dict[str, str]]:
  return [
    {
      "path": f"{m}/{c}/{i}.png",
      "modality": m,
      "category": c,
      "instance": f"{c}{i}" if m == "photo" else f"{c}{i}-1",
    }
    for c in classes.split()
    for m, count in (("photo", photos), ("sketch", sketches))
    for i in range(count)
  ]


def unseen_list(root, text: str = "bat\neel\n") -> str:
  (root / "unseen.txt").write_text(text)
  return str(root / "unseen.txt")


def opened(root, part: str, kind: str = "manifest", name: str = "mine", **settings):
  """The part of a set whose list of unseen classes lies beside it."""
  settings.setdefault("split", str(root / "unseen.txt"))
  if not (root / "unseen.txt").exists():
    unseen_list(root)
  return open_zero_shot(kind, name, root, part, **settings)


def counts(source) -> dict[str, tuple[int, int]]:
  """Photos and sketches of every category."""
  found = Counter((r.category, r.modality) for r in source.records)
  return {c: (found[c, "photo"], found[c, "sketch"]) for c in sorted({c for c, _ in found})}


@needs_shared
def test_sketchy_in_small_has_the_published_classes_and_25_photos_of_each():
  for part, classes, photos in (("train", 104, 2600), ("test", 21, 525)):
    source, split = open_zero_shot(
      "manifest", "sketchy", DATA / "sketchy125_128", part, split="sketchy21"
    )
    assert len(photo_indices(source)) == len(sketch_indices(source)) == photos
    assert len({r.category for r in source.records}) == classes
    names = split.seen if part == "train" else split.unseen
    assert {r.category for r in source.records} == set(names)
  assert source.image(0).shape == (128, 128, 3)


def test_parts_divide_the_classes(tmp_path):
  root = write_manifest(tmp_path, rows())
  by_part = {p: opened(root, p, validation_classes=1) for p in ("train", "validation", "test")}
  classes = [set(counts(source)) for source, _ in by_part.values()]
  assert [len(c) for c in classes] == [2, 1, 2]
  assert set.union(*classes) == {"ant", "bat", "cat", "dog", "eel"}
  assert counts(by_part["test"][0]) == {"bat": (4, 2), "eel": (4, 2)}
  for part, (_, split) in by_part.items():
    assert split == by_part["train"][1], part


def test_an_image_is_that_of_its_record(tmp_path):
  from sbir.data.images import decode

  root = write_manifest(tmp_path, rows())
  source, _ = opened(root, "train")
  for i, record in enumerate(source.records):
    np.testing.assert_array_equal(source.image(i), decode(root / record.key))
  assert list(source.records) == sorted(source.records)


def test_categories_are_normalised_and_sides_may_spell_them_otherwise(tmp_path):
  listed = rows("tromobone t-shirt Ant")
  for row in listed:
    if row["modality"] == "sketch":
      row["category"] = {"tromobone": "trombone", "t-shirt": "t shirt", "Ant": "ant"}[
        row["category"]
      ]
  root = write_manifest(tmp_path, listed)
  source, split = opened(root, "train", split=unseen_list(root, "T-shirt"))
  assert counts(source) == {"ant": (4, 2), "trombone": (4, 2)}
  assert split.unseen == ("t_shirt",)


def test_two_names_of_one_class_are_refused(tmp_path):
  root = write_manifest(tmp_path, rows("ant bat eel t-shirt tshirt"))
  with pytest.raises(UserError, match="'t-shirt' and 'tshirt' are both the photo class 't_shirt'"):
    opened(root, "train")


def test_a_manifest_may_have_any_split_column_and_no_instances(tmp_path):
  listed = [{**row, "split": "val"} for row in rows()]
  for row in listed:
    del row["instance"]
  source, _ = opened(write_manifest(tmp_path, listed), "test")
  assert counts(source) == {"bat": (4, 2), "eel": (4, 2)}
  assert all(r.instance == r.key for r in source.records)


def test_photos_that_share_an_id_are_told_apart_by_their_keys(tmp_path):
  listed = [{**row, "instance": row["path"][-5]} for row in rows()]
  listed[0]["instance"] = "own"
  source, _ = opened(write_manifest(tmp_path, listed), "train")
  photos = [r for r in source.records if r.modality == "photo"]
  assert len({r.instance for r in photos}) == len(photos)
  assert photos[0].instance == "own" and photos[1].instance == "photo/ant/1.png"


def test_held_out_photos_are_neither_trained_on_nor_lost(tmp_path):
  root = write_manifest(tmp_path, rows())
  (train, _), (seen, _) = (opened(root, p, held_out_photos=3) for p in ("train", "seen"))
  assert counts(train) == dict.fromkeys(["ant", "cat", "dog"], (1, 2))
  assert counts(seen) == dict.fromkeys(["ant", "cat", "dog"], (3, 0))
  assert not {r.key for r in train.records} & {r.key for r in seen.records}
  kept = {r.key for r in train.records if r.modality == "photo"}
  everyone = [f"photo/ant/{i}.png" for i in range(4)]
  last = max(everyone, key=lambda key: hashlib.sha256(f"ant/{key}".encode()).digest())
  assert last in kept


def test_without_held_out_photos_the_seen_part_has_all_photos_and_no_sketch(tmp_path):
  source, split = opened(write_manifest(tmp_path, rows()), "seen", validation_classes=1)
  assert counts(source) == dict.fromkeys(split.seen, (4, 0))


def test_held_out_photos_do_not_touch_the_other_parts(tmp_path):
  root = write_manifest(tmp_path, rows())
  for part in ("validation", "test"):
    bare, held = (
      opened(root, part, validation_classes=1, held_out_photos=n)[0].records for n in (0, 2)
    )
    assert bare == held


def test_the_demo_has_its_numbers_and_shares_no_individual():
  instances = {}
  for part in PARTS:
    source, split = open_zero_shot(
      "synthetic", "demo", "", part, split="demo", validation_classes=2
    )
    photos = DEMO_TEST_PHOTOS if part == "test" else DEMO_TRAIN_PHOTOS
    sketches = 0 if part == "seen" else DEMO_SKETCHES * photos
    classes = {"test": split.unseen, "validation": split.validation}.get(part, split.seen)
    assert counts(source) == dict.fromkeys(classes, (photos, sketches))
    instances[part] = {r.instance for r in source.records}
  assert instances["seen"] == instances["train"]
  assert not instances["train"] & instances["validation"]
  assert not instances["test"] & (instances["train"] | instances["validation"])
  assert len(split.seen + split.validation + split.unseen) == len(CATEGORIES)


def test_the_seed_draws_another_demo():
  a, b = (
    open_zero_shot("synthetic", "demo", "", "test", split="demo", seed=seed)[0] for seed in (0, 1)
  )
  assert a.records == b.records and not np.array_equal(a.image(0), b.image(0))


def test_a_source_can_be_sent_to_another_process(tmp_path):
  source, _ = opened(write_manifest(tmp_path, rows()), "train")
  np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).image(1), source.image(1))


def test_outlier_sketches_are_left_out_of_sketchy_and_of_nothing_else(tmp_path):
  listed = rows("mouse ant bat")
  outlier = "sketch/mouse/n02330245_8823-4.png"
  listed.append({**listed[5], "path": outlier, "category": "mouse", "modality": "sketch"})
  root = write_manifest(tmp_path, listed)
  settings = {"split": unseen_list(root, "mouse")}
  assert outlier not in {r.key for r in opened(root, "test", name="sketchy", **settings)[0].records}
  assert outlier in {r.key for r in opened(root, "test", name="mine", **settings)[0].records}


def test_a_class_without_sketches_is_named_with_its_part(tmp_path):
  root = write_manifest(tmp_path, rows("ant bat cat eel") + rows("yak zebu", sketches=0))
  with pytest.raises(UserError, match=r"part train: 2 of 4 classes have no sketches \(yak, zebu\)"):
    opened(root, "train")
  assert counts(opened(root, "test")[0]) == {"bat": (4, 2), "eel": (4, 2)}  # which lacks nothing
  with pytest.raises(UserError, match=r"part test: 1 of 1 classes have no sketches \(yak\)"):
    opened(root, "test", split=unseen_list(root, "yak"))


def test_a_class_without_photos_is_named(tmp_path):
  root = write_manifest(tmp_path, rows("ant bat cat eel") + rows("yak", photos=0))
  with pytest.raises(UserError, match=r"1 of 3 classes have no photos \(yak\)"):
    opened(root, "train")


@pytest.mark.parametrize(
  "part, settings, message",
  [
    ("tset", {}, r"part 'tset'.*did you mean test\?"),
    ("train", {"kind": "manifst"}, r"data\.source='manifst'.*did you mean manifest\?"),
    ("train", {"split": "sketchy21"}, "20 of its 21 classes not in the data"),
    ("train", {"held_out_photos": -1}, "held_out_photos=-1 must be 0"),
    (
      "train",
      {"held_out_photos": 4},
      "held_out_photos=4, but class 'ant' has 4 photos.*nearest: 3",
    ),
    ("train", {"validation_classes": 3}, "validation_classes=3, expected 0 to 2"),
    ("validation", {}, "validation part has 0 classes.*set data.validation_classes"),
    ("train", {"kind": "tfds"}, "no prepared data set 'mine'"),
  ],
)
def test_what_cannot_be_opened_is_one_line_with_the_next_move(tmp_path, part, settings, message):
  root = write_manifest(tmp_path, rows())
  with pytest.raises(UserError, match=message) as got:
    opened(root, part, **settings)
  assert "\n" not in str(got.value)


def test_a_manifest_without_categories_is_refused(tmp_path):
  listed = rows()
  for row in listed:
    del row["category"]
  with pytest.raises(UserError, match="lacks the columns category"):
    opened(write_manifest(tmp_path, listed), "train")


def test_a_row_without_a_category_or_a_file_is_refused(tmp_path):
  root = write_manifest(tmp_path, [{**rows()[0], "category": ""}, *rows()[1:]])
  with pytest.raises(UserError, match="row 2: no category, expected the name of the class"):
    opened(root, "train")
  write_manifest(root, rows())
  (root / "photo/ant/0.png").unlink()
  with pytest.raises(UserError, match=r"photo/ant/0\.png does not exist, but manifest.csv lists"):
    opened(root, "test")

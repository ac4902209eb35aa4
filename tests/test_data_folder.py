"""Readers of the published layouts and of manifests: what they find, and what they refuse."""

import pickle
from collections import Counter

import numpy as np
import pytest

from sbir.data.images import decode
from sbir.data.records import photo_indices, sketches_of
from sbir.data.sources import open_source
from sbir.data.splits import held_out
from sbir.types import UserError
from tests.data_folders import make_qmul, make_sketchy, save_image, write_manifest
from tests.paths import DATA, needs_shared


def ids(source) -> list[str]:
  return [source.records[i].instance for i in photo_indices(source)]


def test_shoe_v2_gives_photos_and_all_their_sketches(tmp_path):
  source = open_source("folder", "shoe_v2", make_qmul(tmp_path), "train")
  assert ids(source) == ["11", "2", "30"]  # as text: ids are names
  assert {i: len(found) for i, found in sketches_of(source).items()} == {"11": 2, "2": 2, "30": 2}
  assert source.records[0].key == "trainB/11.png"
  assert source.records[3].key == "trainA/11_10.png"  # a number of two digits


def test_the_test_split_is_its_own(tmp_path):
  assert ids(open_source("folder", "shoe_v2", make_qmul(tmp_path), "test")) == ["4", "51"]


def test_chair_ids_are_names_with_underscores_and_digits(tmp_path):
  names = ("bar_stool_12", "B07-x", "chair")
  source = open_source("folder", "chair_v2", make_qmul(tmp_path, train=names), "train")
  assert ids(source) == sorted(names)
  assert set(sketches_of(source)) == set(names)


def test_an_image_is_that_of_its_record(tmp_path):
  source = open_source("folder", "shoe_v2", make_qmul(tmp_path), "train")
  for i, record in enumerate(source.records):
    np.testing.assert_array_equal(source.image(i), decode(tmp_path / record.key))


def test_hidden_and_foreign_files_are_passed_over(tmp_path):
  root = make_qmul(tmp_path)
  clean = open_source("folder", "shoe_v2", root, "train").records
  for name in (".DS_Store", "._2_9.png", "Thumbs.db", "readme.txt"):
    (root / "trainA" / name).write_bytes(b"x")
  (root / "trainB" / ".thumbs").mkdir()
  assert open_source("folder", "shoe_v2", root, "train").records == clean


def test_other_image_endings_are_read(tmp_path):
  root = make_qmul(tmp_path)
  save_image(root / "trainB/7.JPEG")
  save_image(root / "trainA/7_1.jpg")
  assert "7" in ids(open_source("folder", "shoe_v2", root, "train"))


def test_a_source_can_be_sent_to_another_process(tmp_path):
  source = open_source("folder", "shoe_v2", make_qmul(tmp_path), "train")
  np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).image(1), source.image(1))


def test_sketchy_instances_carry_their_class(tmp_path):
  root = make_sketchy(tmp_path)
  save_image(root / "photo/tx_000100000000/bat/n00_0.jpg")  # another rendering is not looked at
  both = [open_source("folder", "sketchy", root, split) for split in ("train", "test")]
  assert sorted(ids(both[0]) + ids(both[1])) == [
    f"{name}/n0{number}_{i}" for number, name in enumerate(("bat", "car_(sedan)")) for i in range(4)
  ]
  assert {r.category for r in both[0].records} == {"bat", "car_(sedan)"}
  assert all(len(found) == 2 for source in both for found in sketches_of(source).values())


def test_the_same_id_in_two_sketchy_classes_is_two_photos(tmp_path):
  root = make_sketchy(tmp_path)
  for name in ("bat", "car_(sedan)"):
    for i in range(3):
      save_image(root / f"photo/tx_000000000000/{name}/same_{i}.jpg")
      save_image(root / f"sketch/tx_000000000000/{name}/same_{i}-1.png")
  both = [open_source("folder", "sketchy", root, split) for split in ("train", "test")]
  assert sum(i.endswith("same_0") for source in both for i in ids(source)) == 2


@pytest.mark.parametrize("place", ["testset.txt", "info/testset.txt", "../info/testset.txt"])
def test_sketchy_follows_the_releases_own_test_list(tmp_path, place):
  root = make_sketchy(tmp_path / "256x256")
  (root / place).parent.mkdir(exist_ok=True)
  (root / place).write_text("bat/n00_3.jpg\ncar_(sedan)/n01_0.jpg\n")
  assert ids(open_source("folder", "sketchy", root, "test")) == ["bat/n00_3", "car_(sedan)/n01_0"]
  assert len(ids(open_source("folder", "sketchy", root, "train"))) == 6
  above = open_source("folder", "sketchy", tmp_path, "test")  # the folder around 256x256 will do
  assert len(ids(above)) == 2


def test_without_a_list_ten_photos_of_each_class_are_held_out():
  photos = [(c, f"{c}/{i}") for c in "ab" for i in range(25)] + [("c", "c/1"), ("c", "c/2")]
  chosen = held_out(photos)
  assert Counter(name[0] for name in chosen) == {"a": 10, "b": 10, "c": 1}
  assert held_out(reversed(photos)) == chosen
  assert chosen != held_out([(c, f"{i}/{c}") for c, i in photos])


def test_the_held_out_photos_never_change():
  # Results on this split are compared across versions of this code: the choice is fixed for good.
  assert held_out(("bat", f"n{i}") for i in range(4)) == {"n2", "n3"}


@needs_shared
def test_shoe304_is_200_and_104_photos_with_three_sketches_each():
  for split, count in (("train", 200), ("test", 104)):
    source = open_source("manifest", "shoe304", DATA / "shoe304", split)
    assert len(photo_indices(source)) == count
    assert all(len(found) == 3 for found in sketches_of(source).values())
    assert source.image(0).shape == (102, 136, 3)


@needs_shared
def test_a_manifest_without_a_split_column_holds_out_ten_photos_a_category():
  source = open_source("manifest", "sketchy125", DATA / "sketchy125_128", "test")
  counts = Counter(source.records[i].category for i in photo_indices(source))
  assert len(counts) == 125 and set(counts.values()) == {10}


ROWS = [
  {"path": f"{m}/{i}.png", "modality": m, "instance": i, "split": s}
  for i, s in (("a", "train"), ("b", "test"))
  for m in ("photo", "sketch")
]


def test_a_manifest_of_categories_needs_no_instances(tmp_path):
  rows = [{**row, "category": row["instance"]} for row in ROWS]
  for row in rows:
    del row["instance"]
  write_manifest(tmp_path, rows)
  with pytest.raises(UserError, match="1 of 1 sketches have no photo"):  # no instance retrieval
    open_source("manifest", "mine", tmp_path, "train")


def test_a_manifest_with_a_byte_order_mark_and_blanks_is_read(tmp_path):
  root = write_manifest(tmp_path, ROWS)
  text = (root / "manifest.csv").read_text().replace(",", " , ")
  (root / "manifest.csv").write_text(text, encoding="utf-8-sig")
  assert ids(open_source("manifest", "mine", root, "train")) == ["a"]


@pytest.mark.parametrize(
  "path",
  [
    "../other.png",
    "photo/../../x.png",
    "/etc/x.png",
    "C:\\x.png",
    "..\\x.png",
    "\\\\host\\x.png",
    "",
  ],
)
def test_a_path_that_leaves_the_data_folder_is_refused(tmp_path, path):
  save_image(tmp_path / "other.png")
  root = write_manifest(tmp_path / "data", [{**ROWS[0], "path": path}, *ROWS[1:]], make=False)
  with pytest.raises(UserError, match=r"row 2: .*leaves the data folder"):
    open_source("manifest", "mine", root, "train")


@pytest.mark.parametrize(
  "change, message",
  [
    ({"modality": "drawing"}, "row 2: modality 'drawing', expected photo or sketch"),
    ({"split": "tran"}, "row 2: split 'tran', expected train or test"),
    ({"instance": ""}, "row 2: no instance"),
    ({"path": "photo/b.png"}, "lists 1 paths more than once .*photo/b.png"),
    ({"path": "photo/none.png"}, r"photo/none\.png does not exist, but manifest.csv lists it"),
  ],
)
def test_a_wrong_manifest_row_is_refused(tmp_path, change, message):
  write_manifest(tmp_path, ROWS)
  write_manifest(tmp_path, [{**ROWS[0], **change}, *ROWS[1:]], make=False)
  with pytest.raises(UserError, match=message) as got:
    open_source("manifest", "mine", tmp_path, "train")
  assert "\n" not in str(got.value)


@pytest.mark.parametrize(
  "text, message",
  [
    ("", "lacks the columns path, modality"),
    ("path,modality,instance,split\n", "has no rows"),
    ("file,modality,instance\nx,photo,1\n", "lacks the columns path; found file"),
    ("path,modality,category\nx,photo,1\n", "lacks the columns split"),
    (b"path,modality,instance\n\xff\xfe,photo,1\n", "save it as CSV in UTF-8"),
  ],
)
def test_a_table_that_is_no_manifest_is_refused(tmp_path, text, message):
  (tmp_path / "manifest.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(UserError, match=message):
    open_source("manifest", "mine", tmp_path, "train")


def test_an_empty_split_is_refused_with_the_folder(tmp_path):
  root = make_qmul(tmp_path, test=())
  for side in ("testA", "testB"):
    (root / side).mkdir()
  with pytest.raises(UserError, match=f"shoe_v2 test split in {root}: 0 photos found"):
    open_source("folder", "shoe_v2", root, "test")


def test_a_missing_split_folder_is_named(tmp_path):
  with pytest.raises(UserError, match="testA does not exist, expected the test split's sketch"):
    open_source("folder", "shoe_v2", make_qmul(tmp_path, test=()), "test")


def test_a_name_that_tells_no_photo_is_refused(tmp_path):
  root = make_qmul(tmp_path)
  for name in ("sketch.png", "11_a.png"):
    save_image(root / "trainA" / name)
  with pytest.raises(UserError, match=r"11_a\.png: not a sketch's name.*and 1 more"):
    open_source("folder", "shoe_v2", root, "train")


def test_a_sketch_whose_photo_is_nowhere_is_refused(tmp_path):
  root = make_qmul(tmp_path)
  (root / "trainB/30.png").unlink()
  with pytest.raises(UserError, match=r"2 of 6 sketches have no photo \(first: trainA/30_10\.png"):
    open_source("folder", "shoe_v2", root, "train")


def test_two_photos_with_one_id_are_refused(tmp_path):
  root = make_qmul(tmp_path)
  save_image(root / "trainB/30.jpg")
  with pytest.raises(UserError, match=r"'30'.*expected one photo an id"):
    open_source("folder", "shoe_v2", root, "train")


def test_a_file_that_goes_away_is_named_when_it_is_read(tmp_path):
  source = open_source("folder", "shoe_v2", make_qmul(tmp_path), "train")
  (tmp_path / source.records[0].key).unlink()
  with pytest.raises(UserError, match=r"trainB/11\.png: cannot be read"):
    source.image(0)


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path):
  root = make_qmul(tmp_path)
  (root / "trainA/2_1.png").symlink_to(root / "gone.png")
  source = open_source("folder", "shoe_v2", root, "train")
  index = [record.key for record in source.records].index("trainA/2_1.png")
  with pytest.raises(UserError, match=r"2_1\.png: cannot be read"):
    source.image(index)


@pytest.mark.parametrize(
  "kind, name, folder, split, message",
  [
    ("folder", "shoe_v2", "missing", "train", "missing does not exist; expected a folder"),
    ("manifest", "mine", "missing", "train", "missing does not exist"),
    ("tfds", "shoe_v2", "missing", "train", "missing does not exist"),
    ("folder", "shoe_v2", "", "train", "data.dir=''.*--config.data.dir=DIR"),
    (
      "folder",
      "shoe_v2",
      "empty",
      "train",
      "is no shoe_v2 folder: found neither folders nor images; expected",
    ),
    ("folder", "sketchy", "empty", "train", "is no sketchy folder"),
    ("manifest", "mine", "empty", "train", "manifest.csv cannot be read"),
    ("tfds", "shoe_v2", "empty", "train", "no prepared data set 'shoe_v2'.*sbir.data.prepare"),
    ("foldr", "shoe_v2", "empty", "train", "data.source='foldr'.*did you mean folder"),
    ("folder", "shoev2", "empty", "train", "'shoev2'.*did you mean shoe_v2.*manifest"),
    ("folder", "shoe_v2", "empty", "tset", "split 'tset'.*did you mean test"),
    ("folder", "shoe_v2", "listed", "train", "use --config.data.source=manifest"),
  ],
)
def test_a_wrong_word_or_folder_is_one_line_with_the_next_move(
  tmp_path, kind, name, folder, split, message
):
  (tmp_path / "empty").mkdir()
  write_manifest(tmp_path / "listed", ROWS)
  with pytest.raises(UserError, match=message) as got:
    open_source(kind, name, tmp_path / folder if folder else "", split)
  assert "\n" not in str(got.value)

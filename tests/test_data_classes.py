"""Class names and the lists of unseen classes: one spelling, one hash, no class on both sides."""

import csv
import hashlib
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbir.data.class_splits import (
  ALL_CLASSES,
  OUTLIERS,
  SPLITS_BY_NAME,
  check_no_leak,
  classes_in,
  normalise,
  outlier_sketches,
  packaged,
  read_split,
)
from sbir.data.synthetic import CATEGORIES
from sbir.types import UserError
from tests.paths import SHARED, needs_shared

CLASSES = ("ant", "bear", "cat", "dog", "eel", "fox")


def own_list(tmp_path, text: str, name: str = "unseen.txt") -> str:
  (tmp_path / name).write_text(text, encoding="utf-8")
  return str(tmp_path / name)


def published(name: str, **settings):
  """The split of that name, on all classes of its data set."""
  dataset = SPLITS_BY_NAME[name].dataset
  classes = CATEGORIES if dataset == "demo" else classes_in(ALL_CLASSES[dataset])
  return read_split(name, classes, **settings)


@pytest.mark.parametrize(
  "written, name",
  [
    ("hot-air_balloon", "hot_air_balloon"),
    ("jack-o-lantern", "jack_o_lantern"),
    ("palm tree", "palm_tree"),
    ("T-Shirt ", "t_shirt"),
    ("car (sedan)", "car_(sedan)"),
    ("carsedan", "car_(sedan)"),  # how TU-Berlin's photo folders join their words
    ("personsitting", "person_sitting"),
    ("wristwatching", "wrist_watch"),
    ("wrist-watch", "wrist_watch"),
    ("spacesshuttle", "space_shuttle"),
    ("tromobone", "trombone"),
    ("chandeler", "chandelier"),
    ("griaffe", "giraffe"),
    ("diamod", "diamond"),
    ("spidar", "spider"),
    ("mouse (animal)", "mouse"),
    ("pipe (for smoking)", "pipe"),
    ("hot-dog", "hotdog"),
    ("my  own-Class", "my_own_class"),
    ("žába", "žába"),
    ("éant", "éant"),  # not an ant: letters of other alphabets count
  ],
)
def test_a_class_has_one_spelling(written, name):
  assert normalise(written) == name


@given(st.text())
def test_a_spelling_is_final(name):
  assert normalise(normalise(name)) == normalise(name)


@pytest.mark.parametrize("dataset", ALL_CLASSES)
def test_no_two_published_classes_become_one(dataset):
  names = classes_in(ALL_CLASSES[dataset])
  assert (
    len(set(names)) == len(names) == {"sketchy": 125, "tuberlin": 250, "quickdraw": 110}[dataset]
  )


@pytest.mark.parametrize("name", SPLITS_BY_NAME)
def test_a_published_list_is_the_recorded_file(name):
  assert hashlib.sha256(packaged(SPLITS_BY_NAME[name].file)).hexdigest() == (
    SPLITS_BY_NAME[name].sha256
  )


@needs_shared
def test_the_packaged_lists_are_the_published_ones():
  for file in (*ALL_CLASSES.values(), OUTLIERS, *(s.file for s in SPLITS_BY_NAME.values())):
    if file != "demo5.txt":
      assert packaged(file) == (SHARED / "splits" / file).read_bytes(), file


@pytest.mark.parametrize(
  "name, seen, unseen",
  [
    ("sketchy21", 104, 21),
    ("sketchy25", 100, 25),
    ("tuberlin30", 220, 30),
    ("tuberlin30_pskd", 220, 30),
    ("quickdraw30", 80, 30),
    ("demo", 11, 5),
  ],
)
def test_a_published_split_has_the_published_numbers_of_classes(name, seen, unseen):
  split = published(name)
  assert (len(split.seen), len(split.unseen), split.validation) == (seen, unseen, ())
  assert split.seen == tuple(sorted(split.seen)) and split.unseen == tuple(sorted(split.unseen))
  assert not set(split.seen) & set(split.unseen)


@needs_shared
@pytest.mark.parametrize(
  "name, prefix", [("sketchy21", "sketchy_zeroshot21"), ("sketchy25", "sketchy_random25"),
                   ("tuberlin30", "tuberlin30"), ("quickdraw30", "quickdraw30")]
)  # fmt: skip
def test_a_split_names_the_classes_that_the_published_image_lists_have(name, prefix):
  listed = defaultdict(set)
  with (SHARED / "splits/class_counts.tsv").open() as file:
    for row in csv.DictReader(file, delimiter="\t"):
      if row["split"] == prefix:
        listed[row["part"]].add(normalise(row["class"]))
  split = published(name)
  assert listed.pop("photo_test") == listed.pop("sketch_test") == set(split.unseen)
  assert all(names == set(split.seen) for names in listed.values())


def test_the_inferred_list_of_pskd_swaps_one_class():
  ours, theirs = published("tuberlin30").unseen, published("tuberlin30_pskd").unseen
  assert (set(ours) - set(theirs), set(theirs) - set(ours)) == ({"windmill"}, {"wine_bottle"})


def test_there_are_twelve_outlier_sketches():
  assert len(outlier_sketches()) == 12
  assert "mouse/n02330245_8823-4.png" in outlier_sketches()


def test_an_own_list_is_read_without_blank_lines_and_comments(tmp_path):
  text = "\ufeff# mine\nDog\n\n  ant  # the insect\n"
  split = read_split(own_list(tmp_path, text), CLASSES)
  assert split.name == "unseen.txt"
  assert (split.unseen, split.seen) == (("ant", "dog"), ("bear", "cat", "eel", "fox"))


def test_the_hash_is_that_of_the_classes_and_not_of_the_file(tmp_path):
  hashes = {
    read_split(own_list(tmp_path, text, name), reversed(CLASSES)).sha256
    for name, text in [("a", "ant\ndog"), ("b", "# x\nDOG\nAnt\n"), ("c", "ant\n\ndog\n")]
  }
  assert hashes == {hashlib.sha256(b"ant\ndog").hexdigest()}
  assert read_split(own_list(tmp_path, "ant"), CLASSES).sha256 not in hashes


def test_the_hashes_of_the_published_splits_never_change():
  # Results name their split by this hash; it must mean the same classes for good.
  assert {name: published(name).sha256[:8] for name in SPLITS_BY_NAME} == {
    "sketchy21": "e9111ba4",
    "sketchy25": "8e6c3d72",
    "tuberlin30": "3220abe0",
    "tuberlin30_pskd": "69f6f072",
    "quickdraw30": "69df9a04",
    "demo": "f7759ddc",
  }


def test_validation_classes_come_out_of_the_seen_and_do_not_depend_on_order():
  whole, part = published("sketchy21"), published("sketchy21", validation_classes=4)
  assert part.validation == ("axe", "hedgehog", "violin", "volcano")
  assert sorted(part.seen + part.validation) == list(whole.seen)
  assert (part.unseen, part.sha256) == (whole.unseen, whole.sha256)
  more = published("sketchy21", validation_classes=5)
  assert set(part.validation) < set(more.validation)


def test_a_list_of_seen_classes_leaves_the_others_out(tmp_path):
  unseen, seen = own_list(tmp_path, "ant"), own_list(tmp_path, "fox\nCat", "seen.txt")
  assert read_split(unseen, CLASSES, seen=seen).seen == ("cat", "fox")


def test_a_class_in_both_lists_is_named(tmp_path):
  unseen = own_list(tmp_path, "ant\ndog")
  with pytest.raises(UserError, match=r"1 of the classes both seen and unseen: dog; .*remove it"):
    read_split(unseen, CLASSES, seen=own_list(tmp_path, "Dog\nfox", "seen.txt"))
  with pytest.raises(UserError, match="palm_tree"):
    check_no_leak(["palm tree"], ["palm-tree"])
  check_no_leak(CLASSES[:3], CLASSES[3:])


@pytest.mark.parametrize(
  "text, message",
  [
    ("", "is empty, expected a class in each line"),
    ("# only\n\n", "is empty"),
    ("cat\nCat", r"names the class 'cat' twice \(as 'cat' and 'Cat'\)"),
    ("cat\ncat", "names the class 'cat' twice"),
    ("ant\nbeer", "1 of its 2 classes not in the data: beer; nearest there: bear"),
    ("yak\nzebu", "2 of its 2 classes not in the data: yak, zebu; the data has ant, bear"),
    ("\n".join(CLASSES), "all 6 classes of the data are unseen, expected at least one to train on"),
  ],
)
def test_a_list_that_cannot_be_used_is_refused_in_one_line(tmp_path, text, message):
  with pytest.raises(UserError, match=message) as got:
    read_split(own_list(tmp_path, text), CLASSES)
  assert "\n" not in str(got.value)


@pytest.mark.parametrize(
  "split, settings, message",
  [
    ("sketchy_21", {}, r"data\.split='sketchy_21'.*did you mean sketchy21\?"),
    ("/nowhere/mine.txt", {}, "or the path of a list of unseen classes; for your own write"),
    ("sketchy21", {}, "21 of its 21 classes not in the data"),
    ("demo", {"seen": "/nowhere/seen.txt"}, "data.seen=/nowhere/seen.txt cannot be read"),
    ("demo", {"validation_classes": 11}, "validation_classes=11, expected 0 to 10"),
    ("demo", {"validation_classes": -1}, "validation_classes=-1, expected 0 to 10"),
  ],
)
def test_a_setting_that_names_no_split_is_refused_in_one_line(split, settings, message):
  with pytest.raises(UserError, match=message) as got:
    read_split(split, CATEGORIES, **settings)
  assert "\n" not in str(got.value)


def test_a_list_that_is_no_text_is_refused(tmp_path):
  (tmp_path / "mine.txt").write_bytes(b"\xff\xfe\x00")
  with pytest.raises(UserError, match="is no text in UTF-8"):
    read_split(str(tmp_path / "mine.txt"), CLASSES)

"""The doctor on data sets that are divided by class: what is counted, and every illness named."""

import csv
import json
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from PIL import Image

from sbir.data.class_diagnosis import diagnose_classes
from sbir.data.class_splits import ALL_CLASSES, SPLITS_BY_NAME, classes_in, read_split
from sbir.data.doctor import as_text, examine_classes, main
from sbir.data.files import Listing
from sbir.data.published import PUBLISHED_BY_CLASS
from sbir.data.records import ALL, Record
from sbir.data.zero_shot import open_zero_shot
from sbir.types import UserError
from tests.data_folders import make_classes, save_image, write_manifest
from tests.paths import DATA, REPO, SHARED, needs_shared


def examined(root, unseen: str = "bat", name: str = "mine", seen: str = ""):
  """The report on a folder whose unseen, and perhaps seen, classes are given as words."""
  (root.parent / "unseen.txt").write_text("\n".join(unseen.split()))
  if seen:
    (root.parent / "seen.txt").write_text("\n".join(seen.split()))
  return examine_classes(
    name, root, str(root.parent / "unseen.txt"), str(root.parent / "seen.txt") if seen else ""
  )


def found(report: dict, check: str) -> dict:
  (finding,) = [f for f in report["findings"] if f["check"] == check]
  return finding


def checks(report: dict, level: str) -> set[str]:
  return {f["check"] for f in report["findings"] if f["level"] == level}


@pytest.fixture
def root(tmp_path):
  return make_classes(tmp_path / "data")


def test_a_healthy_folder_has_no_finding_and_is_counted_by_side(root):
  report = examined(root)
  assert (report["findings"], report["status"]) == ([], 0)
  assert report["splits"] == {
    "seen": {"classes": 2, "photos": 6, "sketches": 4},
    "unseen": {"classes": 1, "photos": 3, "sketches": 2},
  }
  assert "all                          3 / 9 / 6" in as_text(report)


@needs_shared
@pytest.mark.slow
def test_sketchy_in_small_differs_from_the_published_set_in_its_counts_alone():
  report = examine_classes("sketchy", DATA / "sketchy125_128", "sketchy21")
  assert report["splits"]["seen"] == {"classes": 104, "photos": 2600, "sketches": 2600}
  assert report["splits"]["unseen"] == {"classes": 21, "photos": 525, "sketches": 525}
  assert report["status"] == 0 and checks(report, "warning") == {"published counts"}
  rows = [line.split() for line in as_text(report).splitlines() if line.startswith("unseen")]
  assert " ".join(rows[0]) == "unseen 21 / 525 / 525 21 / 10453 / 12694 21 / 12553 / 12694"


def published_listing(name: str, where: str) -> Listing:
  """A listing with the published numbers of images, of which no file exists."""
  dataset = SPLITS_BY_NAME[name].dataset
  split = read_split(name, classes_in(ALL_CLASSES[dataset]))
  records = []
  for side, counts in PUBLISHED_BY_CLASS[name][where].items():
    classes = getattr(split, side, ())
    for modality, number in (("photo", counts.photos), ("sketch", counts.sketches)):
      for i in range((number or len(classes)) if classes else 0):
        key = f"{modality}/{side}/{i}"
        records.append(Record(modality, classes[i % len(classes)], key, key))
  return Listing(dataset, ALL, REPO, tuple(records))


@pytest.mark.parametrize(
  "name, where",
  [
    ("sketchy21", "extended set"),
    ("sketchy25", "SAKE's lists"),
    ("quickdraw30", "ZSE's lists"),
  ],
)
def test_published_counts_are_recognised(name, where):
  listing = published_listing(name, where)
  unseen = read_split(name, {r.category for r in listing.records}).unseen
  assert diagnose_classes(listing.name, name, listing, unseen) == []
  fewer = Listing(listing.name, ALL, REPO, listing.records[:-1])
  (finding,) = diagnose_classes(listing.name, name, fewer, unseen)
  assert finding.check == "published counts"


@needs_shared
def test_published_counts_are_the_sums_of_the_published_lists():
  sums, extended = Counter(), Counter()
  with (SHARED / "splits/class_counts.tsv").open() as file:
    for row in csv.DictReader(file, delimiter="\t"):
      name = row["split"].replace("_zeroshot", "").replace("_random", "")
      sums[name, row["part"]] += int(row["n_files"])
      extended[name, row["part"]] += int(row["n_extended_only"] or 0)
  for name, where in (
    ("sketchy21", "SAKE's lists"),
    ("sketchy25", "SAKE's lists"),
    ("tuberlin30", "SAKE's lists"),
    ("quickdraw30", "ZSE's lists"),
  ):
    said = PUBLISHED_BY_CLASS[name][where]
    for side, part in (("seen", "train"), ("unseen", "test")):
      for modality, number in (("photo", said[side].photos), ("sketch", said[side].sketches)):
        assert sums.get((name, f"{modality}_{part}")) == number, (name, side, modality)
  for name in ("sketchy21", "sketchy25"):
    said = PUBLISHED_BY_CLASS[name]["extended set"]
    assert extended[name, "photo_train"] == said["seen"].photos
    assert extended[name, "photo_test"] == said["unseen"].photos


def test_published_counts_of_both_sides_are_those_of_all():
  for sources in PUBLISHED_BY_CLASS.values():
    for said in sources.values():
      if "all" in said and None not in (*said["seen"], *said["unseen"]):
        assert said["all"] == tuple(map(sum, zip(said["seen"], said["unseen"], strict=True)))


def test_the_same_image_in_a_seen_and_an_unseen_class_is_an_error_even_saved_anew(root):
  Image.open(root / "photo/ant/n0.jpg").save(root / "photo/bat/copy.bmp")
  report = examined(root)
  assert checks(report, "error") == {"seen and unseen share"} and report["status"] == 1
  examples = found(report, "seen and unseen share")["examples"]
  assert examples == ("photo/ant/n0.jpg = photo/bat/copy.bmp",)


def test_identical_images_of_one_side_are_told_by_class(root):
  shutil.copy(root / "photo/ant/n0.jpg", root / "photo/ant/again.jpg")
  shutil.copy(root / "sketch/ant/0.png", root / "sketch/cat/again.png")
  report = examined(root)
  assert report["status"] == 0
  assert "1 class of seen" in found(report, "same photo twice")["message"]
  assert "under different classes" in found(report, "identical sketch files")["message"]


def test_an_unreadable_image_is_an_error(root):
  (root / "sketch/bat/0.png").write_bytes(b"<html>")
  report = examined(root)
  assert checks(report, "error") == {"unreadable"} and report["status"] == 1


def test_classes_that_lack_one_side_are_errors_with_the_near_name(root):
  make_classes(root, classes=("aeroplane", "yak"), sketches=0)
  make_classes(root, classes=("airplane",), photos=0)
  report = examined(root)
  assert found(report, "one-sided classes")["examples"] == (
    "'aeroplane' has photos but no sketches; did you mean 'airplane'?",
    "'yak' has photos but no sketches",
    "'airplane' has sketches but no photos; did you mean 'aeroplane'?",
  )
  assert report["status"] == 1
  with pytest.raises(UserError, match="classes have no"):  # and training refuses them too
    open_zero_shot("folder", "mine", root, "train", split=str(root.parent / "unseen.txt"))


def test_an_unseen_class_that_is_not_there_is_an_error_with_the_near_name(tmp_path):
  root = make_classes(tmp_path / "data", classes=("ant", "cat", "helicoptor"))
  report = examined(root, unseen="helicopter cat")
  assert found(report, "unseen classes")["examples"] == (
    "'helicopter' is not there; did you mean 'helicoptor'?",
  )
  assert report["status"] == 1


def test_a_misspelt_class_of_a_published_set_is_a_warning(tmp_path):
  root = make_classes(tmp_path / "data", classes=("zebra", "elefant"))
  report = examined(root, unseen="zebra", name="sketchy")
  assert found(report, "class names")["examples"] == (
    "'elefant' is no class of sketchy; did you mean 'elephant'?",
  )
  assert "124 of 124 seen classes" in found(report, "seen classes")["message"]
  assert report["status"] == 0


def test_two_spellings_of_one_class_are_named(tmp_path):
  root = make_classes(tmp_path / "data", classes=("ant", "umbrella_stand", "umbrela_stand"))
  assert found(examined(root, "ant"), "class names")["examples"] == (
    "'umbrela_stand' is nearly 'umbrella_stand'",
  )


def test_a_class_under_two_names_is_an_error(tmp_path):
  root = make_classes(tmp_path / "data", classes=("ant", "bat", "t-shirt", "tshirt"))
  report = examined(root)
  assert found(report, "two names of a class")["examples"] == (
    "'t-shirt' and 'tshirt' are both the photo class 't_shirt'",
    "'t-shirt' and 'tshirt' are both the sketch class 't_shirt'",
  )


def test_a_class_in_both_lists_is_an_error(root):
  report = examined(root, unseen="bat", seen="ant bat")
  assert found(report, "seen and unseen")["examples"] == ("bat",)
  assert report["status"] == 1


def test_with_a_list_of_seen_classes_the_others_are_not_looked_at(root):
  make_classes(root, classes=("yak",), sketches=0)
  report = examined(root, unseen="bat", seen="ant")
  assert report["findings"] == [] and report["splits"]["seen"]["classes"] == 1


def test_a_listed_file_that_is_not_there_is_an_error(tmp_path):
  rows = [
    {"path": f"{m}/{c}.png", "modality": m, "category": c}
    for c in ("ant", "bat")
    for m in ("photo", "sketch")
  ]
  root = write_manifest(tmp_path / "data", rows)
  assert examined(root)["findings"] == []
  (root / "photo/ant.png").unlink()
  report = examined(root)
  assert "photo/ant.png does not exist" in found(report, "files and names")["message"]


def test_an_empty_side_is_an_error(tmp_path):
  report = examined(make_classes(tmp_path / "data", classes=("bat",)))
  assert "empty side" in checks(report, "error")


def test_outlier_sketches_are_counted_and_told(tmp_path):
  root = make_classes(tmp_path / "data", classes=("mouse", "ant"))
  save_image(root / "sketch/mouse/n02330245_8823-4.png")
  report = examined(root, unseen="mouse", name="sketchy")
  assert report["split_rule"].endswith("; 1 outlier sketch not used, as for TVT and PSKD")
  assert report["splits"]["unseen"]["sketches"] == 3


def test_the_command_prints_one_json_object_and_keeps_the_statuses(tmp_path):
  root = make_classes(tmp_path / "data")
  (tmp_path / "mine.txt").write_text("bat")
  command = [sys.executable, "-m", "sbir.data.doctor", "--dataset", "mine", "--source", root]
  command += ["--split", tmp_path / "mine.txt", "--json"]
  done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout)["splits"]["unseen"] == {"classes": 1, "photos": 3, "sketches": 2}


def test_the_status_tells_whether_training_would_be_wrong(root, capsys):
  (root / "photo/ant/n0.jpg").write_bytes(b"")
  (root.parent / "mine.txt").write_text("bat")
  words = ["--dataset", "mine", "--source", str(root), "--split", str(root.parent / "mine.txt")]
  assert main(words) == 1
  assert "error: unreadable: 1 image;" in capsys.readouterr().out


@pytest.mark.parametrize(
  "words, message",
  [
    (["--split", "sketchy_21"], r"^--split='sketchy_21'.*did you mean sketchy21\?"),
    (["--split", "sketchy21", "--source", "none"], "none does not exist"),
    (["--split", "sketchy21", "--source", "{root}/photo"], "is no sketchy folder"),
    (["--split", "sketchy21", "--seen", "none.txt"], "--seen=none.txt cannot be read"),
    (["--seen", "mine.txt"], "--seen=mine.txt without --split"),
  ],
)
def test_what_cannot_be_examined_is_told_in_one_line(root, words, message):
  words = [word.format(root=root) for word in words]
  with pytest.raises(UserError, match=message) as got:
    main(["--dataset", "sketchy", "--source", str(root), *words])
  assert "\n" not in str(got.value)

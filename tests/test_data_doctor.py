"""The doctor names every illness it was given, and passes what is healthy."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sbir.data.diagnosis import class_names, diagnose
from sbir.data.doctor import as_text, examine, main
from sbir.data.files import Listing
from sbir.data.published import PUBLISHED, SKETCHY_CLASSES
from sbir.data.records import SPLITS, Record
from sbir.types import UserError
from tests.data_folders import make_qmul, make_sketchy, save_image, write_manifest
from tests.paths import DATA, REPO, SHARED, needs_shared


def found(report: dict, check: str) -> dict:
  """The one finding of a check."""
  (finding,) = [f for f in report["findings"] if f["check"] == check]
  return finding


def checks(report: dict, level: str) -> set[str]:
  return {f["check"] for f in report["findings"] if f["level"] == level}


@needs_shared
@pytest.mark.slow
def test_shoe304_has_two_identical_photos_and_eleven_items_with_identical_sketches():
  report = examine("shoe304", DATA / "shoe304")
  assert report["splits"]["train"] == {"photos": 200, "sketches": 600}
  assert report["splits"]["test"] == {"photos": 104, "sketches": 312}
  assert report["status"] == 0 and report["warnings"] == 2
  assert found(report, "identical photo files")["examples"] == ("photo/216.jpg = photo/273.jpg",)
  twice = found(report, "same sketch twice")
  assert twice["message"].startswith("11 items of train") and len(twice["examples"]) == 11
  assert "sketch/057_1.jpg = sketch/057_2.jpg" in twice["examples"]


def test_a_healthy_folder_has_only_other_counts_than_the_release(tmp_path):
  report = examine("shoe_v2", make_qmul(tmp_path))
  assert (report["status"], report["errors"], report["warnings"]) == (0, 0, 1)
  assert checks(report, "warning") == {"published counts"}
  assert "fit for training" in as_text(report)


def test_counts_stand_beside_those_of_the_release_and_the_papers(tmp_path):
  text = as_text(examine("shoe_v2", make_qmul(tmp_path)))
  rows = [line.split() for line in text.splitlines() if line.startswith(("train", "test"))]
  assert rows[0] == ["train", "3", "/", "6", "1800", "/", "5982", "-", "/", "6051"]
  assert rows[1] == ["test", "2", "/", "4", "200", "/", "666", "-", "/", "679"]


def listings(name: str, train: tuple[int, int], test: tuple[int, int]) -> dict[str, Listing]:
  """Listings with so many (photos, sketches), of which no file exists."""

  def records(split: str, photos: int, sketches: int):
    for i in range(photos):
      yield Record("photo", "", f"{split}{i}", f"{split}B/{i}.png")
    for i in range(sketches):
      yield Record("sketch", "", f"{split}{i % photos}", f"{split}A/{i}.png")

  counts = {"train": train, "test": test}
  return {s: Listing(name, s, REPO, tuple(records(s, *counts[s]))) for s in SPLITS}


@pytest.mark.parametrize(
  "name, train, test",
  [
    ("shoe_v2", (1800, 5982), (200, 666)),
    ("chair_v2", (300, 964), (100, 311)),
    ("shoe_v2", (1800, 6051), (200, 679)),
    ("chair_v2", (300, 951), (100, 324)),
    ("sketchy", (11250, 67921), (1250, 7550)),
  ],
)
def test_published_counts_are_recognised(name, train, test):
  assert diagnose(name, listings(name, train, test)) == []


def test_one_sketch_too_few_is_noticed():
  (finding,) = diagnose("shoe_v2", listings("shoe_v2", (1800, 5981), (200, 666)))
  assert finding.check == "published counts"


def test_a_truncated_and_a_false_image_are_errors(tmp_path):
  root = make_qmul(tmp_path)
  cut = save_image(root / "trainA/2_1.jpg", size=(60, 60))
  cut.write_bytes(cut.read_bytes()[:-300])
  (root / "testB/4.png").write_bytes(b"<html>not found</html>")
  report = examine("shoe_v2", root)
  assert report["status"] == 1
  examples = found(report, "unreadable")["examples"]
  assert len(examples) == 2 and "truncated" in examples[0] and "4.png" in examples[1]


def test_sketches_without_photo_are_an_error_and_photos_without_sketch_are_not(tmp_path):
  root = make_qmul(tmp_path)
  (root / "trainB/2.png").unlink()
  save_image(root / "testB/77.png")
  report = examine("shoe_v2", root)
  assert checks(report, "error") == {"sketches without photo"}
  assert found(report, "sketches without photo")["examples"] == (
    "trainA/2_10.png",
    "trainA/2_9.png",
  )
  assert found(report, "photos without sketch")["examples"] == ("testB/77.png",)
  assert report["status"] == 1


def test_the_same_photo_in_train_and_test_is_an_error_even_saved_anew(tmp_path):
  root = make_qmul(tmp_path)
  Image.open(root / "trainB/2.png").save(root / "testB/4.bmp")
  (root / "testB/4.png").unlink()
  report = examine("shoe_v2", root)
  assert found(report, "train and test share")["examples"] == ("trainB/2.png = testB/4.bmp",)
  assert report["status"] == 1


def test_identical_images_within_a_split_are_warnings(tmp_path):
  root = make_qmul(tmp_path)
  shutil.copy(root / "trainA/2_9.png", root / "trainA/2_11.png")  # the same drawing twice
  shutil.copy(root / "trainA/2_9.png", root / "trainA/30_11.png")  # and of another shoe
  Image.open(root / "trainB/11.png").save(root / "trainB/2.png", optimize=False, compress_level=0)
  report = examine("shoe_v2", root)
  assert report["status"] == 0
  (group,) = found(report, "identical sketch files")["examples"]
  assert set(group.split(" = ")) == {"trainA/2_9.png", "trainA/2_11.png", "trainA/30_11.png"}
  assert "in every pixel" in found(report, "identical photo files")["message"]


def test_empty_drawings_are_named_and_are_no_leak(tmp_path):
  root = make_qmul(tmp_path)
  for name in ("trainA/2_1.png", "testA/4_1.png"):
    Image.fromarray(np.full((5, 5), 255, np.uint8)).save(root / name)
  report = examine("shoe_v2", root)
  assert report["status"] == 0
  assert found(report, "empty images")["examples"] == ("trainA/2_1.png", "testA/4_1.png")


def test_an_empty_or_missing_split_is_an_error(tmp_path):
  report = examine("shoe_v2", make_qmul(tmp_path, test=()))
  assert checks(report, "error") == {"empty split", "files and names"}
  assert report["status"] == 1


def test_a_listed_file_that_is_not_there_is_an_error(tmp_path):
  rows = [
    {"path": f"{s}/{m}.png", "modality": m, "instance": s, "split": s}
    for s in SPLITS
    for m in ("photo", "sketch")
  ]
  root = write_manifest(tmp_path, rows)
  assert examine("mine", root)["findings"] == []
  (root / "train/sketch.png").unlink()
  report = examine("mine", root)
  assert "train/sketch.png does not exist" in found(report, "files and names")["message"]
  assert report["status"] == 1


def test_a_name_that_tells_no_photo_is_an_error(tmp_path):
  root = make_qmul(tmp_path)
  save_image(root / "testA/what.png")
  assert "what.png" in found(examine("shoe_v2", root), "files and names")["message"]


def test_the_same_photo_id_in_both_splits_is_a_warning(tmp_path):
  report = examine("shoe_v2", make_qmul(tmp_path, train=("1", "2"), test=("2",)))
  assert found(report, "ids in train and test")["examples"] == ("2",)
  assert report["status"] == 0


def slips(name: str, photo: str, sketch: str) -> tuple[str, ...]:
  """What is said of class names, given those of each modality."""
  found = class_names(
    name, [Record("photo", c, c, c) for c in photo.split()]
    + [Record("sketch", c, c, c) for c in sketch.split()]
  )  # fmt: skip
  return found[0].examples if found else ()


def test_a_misspelt_class_of_sketchy_is_named_with_the_right_one(tmp_path):
  (slip,) = slips("sketchy", "hot_air_balloon zebra", "hot_air_balloon zebra")
  assert slip == "'hot_air_balloon' is no class of sketchy; did you mean 'hot-air_balloon'?"
  report = examine("sketchy", make_sketchy(tmp_path, classes=("zebra", "elefant")))
  assert "did you mean 'elephant'" in found(report, "class names")["examples"][0]


def test_a_class_spelt_otherwise_in_the_other_modality_is_named():
  (first, second) = slips("mine", "cup aeroplane", "cup airplane")
  assert first == "'aeroplane' has photos but no sketches; did you mean 'airplane'?"
  assert second.startswith("'airplane' has sketches but no photos")


def test_two_spellings_of_one_class_are_named():
  assert slips("mine", "tea_pot cup Teapot", "tea_pot cup Teapot") == (
    "'Teapot' is nearly 'tea_pot'",
  )
  assert slips("mine", "umbrella umbrela", "umbrella umbrela") == (
    "'umbrela' is nearly 'umbrella'",
  )


@needs_shared
@pytest.mark.parametrize("classes", ["sketchy_all125", "tuberlin_all250", "quickdraw_all110"])
def test_no_published_class_list_has_a_slip_in_it(classes):
  names = (SHARED / "splits" / f"{classes}.txt").read_text()
  assert slips("mine", names, names) == ()


def test_all_classes_of_sketchy_are_known():
  assert len(set(SKETCHY_CLASSES)) == 125
  assert slips("sketchy", " ".join(SKETCHY_CLASSES), " ".join(SKETCHY_CLASSES)) == ()


def test_a_sketch_of_another_category_than_its_photo_is_a_warning(tmp_path):
  rows = [
    {"path": f"{s}{m}.png", "modality": m, "instance": s, "category": "cat", "split": s}
    for s in SPLITS
    for m in ("photo", "sketch")
  ]
  rows[1]["category"] = "dog"
  report = examine("mine", write_manifest(tmp_path, rows))
  assert found(report, "category of the pair")["examples"] == ("trainsketch.png",)


def test_the_command_prints_one_json_object(tmp_path):
  command = [sys.executable, "-m", "sbir.data.doctor", "--dataset", "shoe_v2", "--json"]
  done = subprocess.run(
    [*command, "--source", make_qmul(tmp_path)], cwd=REPO, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  report = json.loads(done.stdout)
  assert report["splits"]["test"] == {"photos": 2, "sketches": 4}
  assert report["published"]["online release"]["train"] == {"photos": 1800, "sketches": 5982}
  assert "tensorflow" not in done.stderr


def test_the_status_tells_whether_training_would_be_wrong(tmp_path, capsys):
  root = make_qmul(tmp_path)
  words = ["--dataset", "shoe_v2", "--source", str(root)]
  assert main(words) == 0
  (root / "trainB/2.png").write_bytes(b"")
  assert main(words) == 1
  assert "error: unreadable: 1 image;" in capsys.readouterr().out


@pytest.mark.parametrize(
  "name, folder, message",
  [
    ("shoe_v2", "none", "none does not exist"),
    ("shoe_v2", ".", "is no shoe_v2 folder"),
    ("shoo_v2", ".", r"did you mean shoe_v2\?"),
    ("shoo_v2", "none", "none does not exist"),
  ],
)
def test_a_folder_that_cannot_be_examined_is_told_in_one_line(tmp_path, name, folder, message):
  with pytest.raises(UserError, match=message) as got:
    main(["--dataset", name, "--source", str(tmp_path / folder)])
  assert "\n" not in str(got.value)


def test_the_command_ends_with_one_line_and_status_2_for_a_missing_folder(tmp_path):
  command = [sys.executable, "-m", "sbir.data.doctor", "--dataset", "shoe_v2"]
  done = subprocess.run(
    [*command, "--source", tmp_path / "none"], cwd=REPO, capture_output=True, text=True
  )
  assert done.returncode == 2 and not done.stdout
  assert done.stderr.startswith("error: data folder") and done.stderr.count("\n") == 1


def test_help_teaches_the_statuses_and_an_example(capsys):
  with pytest.raises(SystemExit) as left:
    main(["--help"])
  assert left.value.code == 0
  text = capsys.readouterr().out
  assert "status 1" in text and "python -m sbir.data.doctor --dataset shoe_v2" in text


def test_every_published_set_has_a_reader():
  from sbir.data.sources import FOLDER_READERS

  assert PUBLISHED.keys() == FOLDER_READERS.keys()

"""A prepared data set is the folder again: same records, same pixels; half a one never appears."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from sbir.data.prepare import main, prepare
from sbir.data.sources import open_source
from sbir.types import UserError
from tests.data_folders import make_qmul, make_sketchy, save_image
from tests.paths import DATA, REPO, needs_shared

SPLITS = ("train", "test")


@pytest.fixture(scope="module")
def odd_set(tmp_path_factory):
  """(folder, prepared folder): a set with every kind of file that a decoder could get wrong."""
  root = make_qmul(tmp_path_factory.mktemp("odd") / "shoes")
  gray16 = np.arange(0, 65536, 800, dtype=np.uint16)[:72].reshape(8, 9)
  Image.fromarray(gray16).save(root / "trainA/11_9.png")
  rgba = np.random.default_rng(0).integers(0, 256, (4, 6, 4), dtype=np.uint8)
  Image.fromarray(rgba).save(root / "trainA/2_9.png")
  Image.fromarray(rgba).convert("P").save(root / "trainA/30_9.png", transparency=3)
  turned = Image.Exif()
  turned[0x0112] = 6
  (root / "trainB/2.png").unlink()
  Image.fromarray(rgba[..., :3]).save(root / "trainB/2.jpg", exif=turned)
  (root / "testB/4.png").unlink()
  Image.fromarray(rgba[..., :3]).save(root / "testB/4.bmp")
  out = tmp_path_factory.mktemp("out")
  prepare("shoe_v2", root, out)
  return root, out


@pytest.mark.parametrize("split", SPLITS)
def test_prepared_records_and_pixels_are_those_of_the_folder(odd_set, split):
  root, out = odd_set
  folder = open_source("folder", "shoe_v2", root, split)
  prepared = open_source("tfds", "shoe_v2", out, split)
  assert prepared.records == folder.records
  for i in range(len(folder.records)):
    np.testing.assert_array_equal(prepared.image(i), folder.image(i))


def test_only_the_set_is_left_in_the_folder(odd_set):
  _, out = odd_set
  assert [p.name for p in out.iterdir()] == ["shoe_v2"]
  assert [p.name for p in (out / "shoe_v2").iterdir()] == ["1.0.0"]


def test_the_versions_own_folder_can_be_opened_too(odd_set):
  _, out = odd_set
  direct = open_source("tfds", "shoe_v2", out / "shoe_v2" / "1.0.0", "test")
  assert direct.records == open_source("tfds", "shoe_v2", out, "test").records


def test_reading_imports_no_tensorflow(odd_set):
  _, out = odd_set
  program = (
    "import sys; from sbir.data.sources import open_source\n"
    f"source = open_source('tfds', 'shoe_v2', {str(out)!r}, 'train')\n"
    "print(source.image(0).shape, 'tensorflow' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True
  )
  assert done.stdout.split()[-1] == "False"


def test_reading_from_several_threads_gives_the_same_images(odd_set):
  from concurrent.futures import ThreadPoolExecutor

  source = open_source("tfds", "shoe_v2", odd_set[1], "train")
  alone = [source.image(i) for i in range(len(source.records))]
  with ThreadPoolExecutor(4) as threads:
    together = list(threads.map(lambda i: source.image(i % len(alone)), range(20 * len(alone))))
  for i, image in enumerate(together):
    np.testing.assert_array_equal(image, alone[i % len(alone)])


def test_sketchy_keeps_its_categories(tmp_path):
  root = make_sketchy(tmp_path / "sketchy")
  prepare("sketchy", root, tmp_path / "out")
  for split in SPLITS:
    folder = open_source("folder", "sketchy", root, split)
    assert open_source("tfds", "sketchy", tmp_path / "out", split).records == folder.records


@needs_shared
def test_shoe304_trains_on_the_same_batches_from_either(tmp_path):
  from itertools import islice

  from sbir.data.pipeline import train_batches

  prepare("shoe304", DATA / "shoe304", tmp_path)
  batches = [
    islice(train_batches(source, image_size=16, batch_size=8, seed=3), 3)
    for source in (
      open_source("manifest", "shoe304", DATA / "shoe304", "train"),
      open_source("tfds", "shoe304", tmp_path, "train"),
    )
  ]
  for folder, prepared in zip(*batches, strict=True):
    assert folder.keys() == prepared.keys()
    for name in folder:
      np.testing.assert_array_equal(folder[name], prepared[name])


def test_a_second_preparation_is_refused_and_changes_nothing(odd_set):
  root, out = odd_set
  before = sorted((p, p.stat().st_mtime_ns) for p in out.rglob("*"))
  with pytest.raises(UserError, match="exists already; remove it"):
    prepare("shoe_v2", root, out)
  assert sorted((p, p.stat().st_mtime_ns) for p in out.rglob("*")) == before


def test_a_truncated_image_stops_it_and_nothing_is_left(tmp_path):
  root = make_qmul(tmp_path / "shoes")
  cut = save_image(root / "testB/4.jpg", size=(60, 60))
  (root / "testB/4.png").unlink()
  cut.write_bytes(cut.read_bytes()[:-500])
  out = tmp_path / "new" / "out"
  with pytest.raises(UserError, match=r"testB/4\.jpg: .*truncated"):
    prepare("shoe_v2", root, out)
  assert not (tmp_path / "new").exists()


def test_an_existing_folder_keeps_what_was_in_it(tmp_path):
  root = make_qmul(tmp_path / "shoes")
  (root / "trainB/2.png").write_bytes(b"no image")
  out = tmp_path / "out"
  out.mkdir()
  (out / "mine.txt").write_text("kept")
  with pytest.raises(UserError, match=r"2\.png"):
    prepare("shoe_v2", root, out)
  assert [p.name for p in out.iterdir()] == ["mine.txt"]


def started(root, out):
  """A preparation in its own process, caught in the middle of its images."""
  process = subprocess.Popen(
    [sys.executable, "-c", SLOW, "--dataset", "shoe_v2", "--source", root, "--data_dir", out],
    cwd=REPO,
    stderr=subprocess.DEVNULL,
  )
  for _ in range(1200):
    if any(out.glob(".preparing-*/half")):
      return process
    assert process.poll() is None
    time.sleep(0.1)
  raise AssertionError("the preparation never reached its images")


# The real program, with a reader that leaves a mark and then hangs at the third image.
SLOW = """
import sys, time, pathlib
from sbir.data import prepare, tfds_source
seen = []
def decode(data, name, decode=tfds_source.decode):
  seen.append(name)
  if len(seen) == 3:
    (next(pathlib.Path(sys.argv[-1]).glob(".preparing-*")) / "half").touch()
    time.sleep(600)
  return decode(data, name)
tfds_source.decode = decode
sys.exit(prepare.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_terminated_preparation_leaves_nothing(tmp_path):
  root, out = make_qmul(tmp_path / "shoes"), tmp_path / "out"
  process = started(root, out)
  process.terminate()
  assert process.wait(60) == 128 + signal.SIGTERM
  assert not out.exists()


@pytest.mark.slow
def test_a_killed_preparation_leaves_no_data_set_and_the_next_clears_up(tmp_path):
  root, out = make_qmul(tmp_path / "shoes"), tmp_path / "out"
  process = started(root, out)
  os.kill(process.pid, signal.SIGKILL)
  process.wait(60)
  with pytest.raises(UserError, match="no prepared data set"):
    open_source("tfds", "shoe_v2", out, "train")
  prepare("shoe_v2", root, out)
  assert [p.name for p in out.iterdir()] == ["shoe_v2"]


@pytest.mark.slow
def test_the_command_says_where_the_set_is(tmp_path):
  root, out = make_qmul(tmp_path / "shoes"), tmp_path / "out"
  command = [sys.executable, "-m", "sbir.data.prepare", "--dataset", "shoe_v2"]
  done = subprocess.run(
    [*command, "--source", root, "--data_dir", out], cwd=REPO, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines() == [
    f"wrote {out}/shoe_v2/1.0.0",
    f"read it with --config.data.source=tfds --config.data.dir={out}",
  ]


@pytest.mark.parametrize(
  "change, message",
  [
    ({"--source": "/nowhere/shoes"}, "/nowhere/shoes does not exist"),
    ({"--dataset": "Shoe V2"}, "small letters"),
    ({"--dataset": "shoe_v3"}, r"did you mean shoe_v2\?"),
    ({"--data_dir": "/dev/null/out"}, "choose a folder you may write to"),
  ],
)
def test_a_mistake_is_told_with_the_next_move_and_leaves_nothing(tmp_path, change, message):
  root = make_qmul(tmp_path / "shoes")
  words = {"--dataset": "shoe_v2", "--source": str(root), "--data_dir": str(tmp_path / "out")}
  words |= change
  with pytest.raises(UserError, match=message) as got:
    main([part for pair in words.items() for part in pair])
  assert "\n" not in str(got.value)
  assert not (tmp_path / "out").exists()


def test_the_command_ends_with_one_line_and_status_2_for_a_mistake(tmp_path):
  command = [sys.executable, "-m", "sbir.data.prepare", "--dataset", "shoe_v2"]
  done = subprocess.run(
    [*command, "--source", tmp_path / "none", "--data_dir", tmp_path / "out"],
    cwd=REPO,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2 and not done.stdout
  assert done.stderr.startswith("error: data folder") and done.stderr.count("\n") == 1
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["shard", "metadata.json", "features.json"])
def test_a_damaged_set_is_named_with_the_next_move(odd_set, tmp_path, damage):
  out = tmp_path / "copy"
  shutil.copytree(odd_set[1], out)
  path = next(out.rglob("*train*array_record*" if damage == "shard" else damage))
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(UserError, match="prepare the data set again") as got:
    open_source("tfds", "shoe_v2", out, "train").image(0)
  assert str(tmp_path) in str(got.value) and "\n" not in str(got.value)

"""Data and settings that cannot work, through the mains: one line that helps, status 2, nothing
written. Images that must load right are in test_data_images.py."""

import shutil

import pytest
from ml_collections import ConfigDict

from sbir import cli, run_folder
from sbir.data.pairs import epoch_rows, find_pairs
from sbir.data.sources import open_source
from sbir.logs import read_metrics
from tests.data_folders import make_qmul
from tests.refusals import MAINS, cut, data, line_of, refuse, rewrite, runs  # noqa: F401
from tests.xmodal_runs import QUICK, RESTART, arguments, make_pairs, start
from xmodal import checks, train_teacher

# --- the data -------------------------------------------------------------------------------------


def lose_photo(row):
  return row["path"] != "train/photo/3.png"


def rename_sketches(row):
  row["instance"] += "x" if row["modality"] == "sketch" else ""
  return True


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda row: row["split"] == "test", "0 photos found, expected at least 1; check the data"),
    (lambda row: row["modality"] == "photo", "0 sketches found, expected at least 1; check the"),
    (lose_photo, "2 of 16 sketches have no photo (first: train/sketch/3_0.png, photo id 'id3')"),
    (rename_sketches, "16 of 16 sketches have no photo (first: train/sketch/0_0.png, photo id"),
    (lambda row: False, "manifest.csv has no rows; expected one for each image"),
  ],
  ids=["no photo", "no sketch", "one sketch without photo", "no pair", "no rows"],
)
def test_a_set_nothing_can_be_learnt_from_is_refused(change, message, refuse, tmp_path):
  root = make_pairs(tmp_path / "own")
  rewrite(root, change)
  line = refuse("teacher", {"data.dir": root})
  assert message in line and str(root) in line


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    (
      {"data.dir": "/nowhere/shoes"},
      "data folder /nowhere/shoes does not exist; expected a folder",
    ),
    ({"data.dir": ""}, "data.dir='', expected the folder of the data set; add --config.data.dir="),
    ({"data.source": "folder", "data.name": "shoes"}, "no folder layout for data set 'shoes', exp"),
    ({"data.source": "tfds"}, "holds no prepared data set 'shoe304', found none; write it with"),
    ({"data.source": "files"}, "data.source='files', expected one of synthetic, folder, manifest"),
    ({"batch_size": "17"}, "batch_size=17 is more than the 16 training pairs of an epoch; nearest"),
    ({"batch_size": "9", "data.sample_by": "photo"}, "batch_size=9 is more than the 8 training"),
  ],
)
def test_data_that_is_not_there_is_asked_for(settings, message, refuse):
  assert message in refuse("teacher", settings)


@pytest.mark.parametrize("empty", ["A", "B"])
def test_an_empty_folder_of_the_published_layout_is_named(empty, refuse, tmp_path):
  root = make_qmul(tmp_path / "shoes")
  shutil.rmtree(root / f"train{empty}")
  (root / f"train{empty}").mkdir()
  line = refuse("teacher", {"data.source": "folder", "data.name": "shoe_v2", "data.dir": root})
  assert "expected at least 1" in line or "have no photo" in line
  assert str(root) in line


def test_a_test_split_without_rows_is_refused_before_training_that_will_need_it(refuse, tmp_path):
  root = make_pairs(tmp_path / "own")
  rewrite(root, lambda row: row["split"] == "train")
  line = refuse("teacher", {"data.dir": root, "eval_every": "1"})
  assert f"shoe304 test split in {root}: 0 photos found" in line


def test_a_truncated_jpeg_in_the_first_batch_stops_before_anything_is_written(refuse, tmp_path):
  root = make_pairs(tmp_path / "own", ending="jpg")
  for photo in (root / "train/photo").iterdir():
    cut(photo)
  line = refuse("teacher", {"data.dir": root})
  assert f"{root / 'train/photo'}/" in line
  assert "not a readable image (image file is truncated" in line and "copy it again" in line


def late_sketch(root, batch_size):
  """Returns (seed, file) of a training order in which the file is first read for batch 2."""
  source = open_source("manifest", "shoe304", root, "train")
  for seed in range(100):
    rows = epoch_rows(find_pairs(source), sample_by="sketch", seed=seed, epoch=0)
    first, second = rows[:batch_size, 2:], rows[batch_size : 2 * batch_size, 2:]
    if late := set(second.flat) - set(first.flat):
      return seed, root / source.records[min(late)].key
  raise AssertionError("no seed has one")


@pytest.mark.slow
def test_a_truncated_jpeg_met_in_training_is_named_and_once_mended_the_run_goes_on(tmp_path):
  root = make_pairs(tmp_path / "data", ending="jpg")
  seed, broken = late_sketch(root, batch_size=8)
  workdir, whole = tmp_path / "run", broken.read_bytes()
  cut(broken)
  settings = {**RESTART, "data.dir": root, "seed": seed, "steps": 3, "save_every": 1}
  settings["eval_every"] = 0
  command = ["-m", "xmodal.train_teacher", *arguments("teacher.py:shoe304", workdir, settings)]
  stopped = start(*command, **QUICK)
  assert stopped.returncode == 2, stopped.stderr
  assert stopped.stderr.splitlines()[-1].startswith(f"error: {broken}: not a readable image")
  assert "Traceback" not in stopped.stderr
  assert [row["step"] for row in read_metrics(workdir)] == [1]
  assert run_folder.latest_step(workdir) == 1
  broken.write_bytes(whole)
  again = start(*command, **QUICK)
  assert again.returncode == 0, again.stderr
  assert "resumed after step 1" in again.stderr
  assert [row["step"] for row in read_metrics(workdir)] == [1, 2, 3]


# --- the config -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("config", "message"),
  [
    ("shoe", "config name 'shoe' is unknown; nearest: shoe_v2, shoe304"),
    ("chairv2", "config name 'chairv2' is unknown; nearest: chair_v2"),
    ("", "config name '' is unknown; choose one of chair_v2, demo, shoe304, shoe_v2, sketchy"),
  ],
)
@pytest.mark.parametrize("stage", MAINS)
def test_an_unknown_config_is_answered_with_the_near_ones(stage, config, message, refuse):
  assert message in refuse(stage, {}, config=config)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"stepz": "5"}, "--config.stepz=5: there is no such key in the config; nearest: steps"),
    ({"loss.temprature": "1"}, "no such key in the config; nearest: loss.temperature"),
    ({"queue_size": "1"}, "no such key in the config; nearest: loss.queue_size"),
    ({"steps": "many"}, "--config.steps=many: expected int, like "),
    ({"steps": "1.5"}, "--config.steps=1.5: expected int, like "),
    ({"optimizer.learning_rate": "fast"}, "expected float, like "),
    ({"loss.temperature": "nan"}, "--config.loss.temperature=nan: expected float, like "),
    ({"log_tensorboard": "maybe"}, "expected bool, like False"),
  ],
)
def test_a_mistyped_override_is_answered_with_the_near_keys_or_the_type(settings, message, refuse):
  assert message in refuse("teacher", settings)


def test_a_config_of_another_stage_is_refused(tmp_path, data, capsys):
  for stage, (main, own) in MAINS.items():
    for file in {file for _, file in MAINS.values()} - {own}:
      words = arguments(f"{file}:shoe304", tmp_path / "run", {"data.dir": data})
      line = line_of(lambda main=main, words=words: cli.run(main.main, words), capsys)
      assert f"give --config configs/xmodal/{own}:NAME" in line, stage
  assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_config_is_refused(tmp_path, capsys):
  words = arguments("common.py:demo", tmp_path / "run", {})
  line = line_of(lambda: cli.run(train_teacher.main, words), capsys)
  assert "--config configs/xmodal/common.py:demo: the file has no get_config, expected a" in line


def test_an_empty_workdir_is_not_the_current_folder(capsys):
  words = ["--config", "configs/xmodal/teacher.py:demo", "--workdir=", "--config.image_size=60"]
  line = line_of(lambda: cli.run(train_teacher.main, words), capsys)
  assert "argument --workdir: '' is empty, expected the path of a folder" in line


BAD_SETTINGS = [
  ("image_size=20", "image_size=20 must divide by patch_size=8; nearest: 16 or 24"),
  ("image_size=0", "image_size=0 must be at least 1"),
  ("model.patch_size=0", "model.patch_size=0 must be at least 1"),
  ("model.size=huge", "vit size 'huge' is unknown; one of: nano, micro, tiny, small, base"),
  ("compute_dtype=float16", "compute_dtype='float16' must be one of: float32, bfloat16"),
  ("steps=0", "steps=0 must be at least 1, for instance --config.steps=1"),
  ("batch_size=0", "batch_size=0 must be at least 1"),
  ("seed=-1", "seed=-1 must be from 0 to"),
  ("save_every=-1", "save_every=-1 must be at least 0"),
  ("keep=0", "keep=0 must be at least 1"),
  ("data.num_threads=-1", "data.num_threads=-1 must be at least 0"),
  ("data.sample_by=pair", "data.sample_by='pair' must be 'sketch' or 'photo'"),
  ("data.fit=crop", "data.fit='crop' must be one of: stretch, trim"),
  ("data.cache=ram", "data.cache='ram' must be 'memory', 'disk' or 'none'"),
  ("init.kind=imagenet", "init.kind='imagenet' is unknown; choose one of"),
  ("init.kind=augreg", "init.kind=augreg needs weights; set init.path to a ViT .npz"),
  (
    "init.path=vit.npz",
    "init.path=vit.npz is not read with init.kind=random; set init.kind as well",
  ),
  ("optimizer.name=sgd", "optimizer='sgd' is unknown; choose one of adam_l2, adamw"),
  (
    "optimizer.schedule=linear",
    "schedule='linear' is unknown; choose one of constant, exponential",
  ),
  ("optimizer.warmup_steps=100000", "warmup_steps=100000 must lie between 0 and steps="),
  ("optimizer.learning_rate=0", "optimizer.learning_rate=0.0 must be above 0"),
  ("optimizer.learning_rate=1e999", "optimizer.learning_rate=inf must be above 0"),
  ("optimizer.weight_decay=-0.1", "optimizer.weight_decay=-0.1 must be at least 0"),
  ("optimizer.decay_rate=1.5", "optimizer.decay_rate=1.5 must be above 0, at most 1"),
  ("optimizer.steps_per_epoch=0", "optimizer.steps_per_epoch=0 must be at least 1"),
  ("augment.flip=2", "augment.flip=2.0 must be from 0 to 1"),
  ("augment.scale=-1", "augment.scale=-1.0 must be at least 0"),
  ("augment.std=0", "augment.std=0.0 must be above 0"),
  ("loss.temperature=0", "loss.temperature=0.0 must be above 0, for instance --config.loss.temp"),
  ("mesh.data=3", "mesh.data=3 x mesh.fsdp=1 does not make the 1 devices there are; use mesh.dat"),
]
OF_THE_TEACHER = [
  ("loss.queue_size=-1", "loss.queue_size=-1 must be at least 0"),
  ("loss.photo_drop=1", "loss.photo_drop=1.0 must be at least 0 and below 1"),
  ("loss.sketch_drop=-0.5", "loss.sketch_drop=-0.5 must be at least 0 and below 1"),
  ("model.fusion_order=serial", "model.fusion_order='serial' must be one of: parallel, sequential"),
  ("model.fusion_heads=5", "model.fusion_heads=5 must divide the width 48"),
  ("model.fusion_heads=0", "model.fusion_heads=0 must be at least 1"),
  ("model.fusion_depth=0", "model.fusion_depth=0 must be at least 1"),
]
OF_A_STUDENT = [
  ("loss.target=photos", "loss.target='photos' must be one of: own, photo, sketch"),
  ("loss.angle=-1", "loss.angle=-1.0 must be at least 0"),
  ("modality=skech", "modality='skech' must be one of: photo, sketch"),
  ("modality=sketch", "use python -m xmodal.train_sketch_student"),
  ("batch_size=2", "batch_size=2 must be at least 3: an angle needs three photos"),
]


@pytest.mark.parametrize(
  ("stage", "setting", "message"),
  [("baseline", *case) for case in BAD_SETTINGS]
  + [("teacher", *case) for case in OF_THE_TEACHER]
  + [("photo_student", *case) for case in OF_A_STUDENT],
)
def test_a_setting_that_cannot_work_is_refused(stage, setting, message, refuse, runs):
  key, value = setting.split("=")
  settings = {"teacher": runs["teacher"]} if stage == "photo_student" else {}
  assert message in refuse(stage, {**settings, key: value})


def numbers(config, prefix=""):
  """Returns the dotted names of all numbers in a config."""
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      yield from numbers(value, f"{prefix}{key}.")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
      yield f"{prefix}{key}"


@pytest.mark.parametrize("name", ["shoe_v2", "shoe304"])
def test_every_number_of_a_config_has_a_range(name):
  for file, ranges in {
    "teacher.py": checks.TRAINING,
    "student.py": checks.TRAINING,
    "baseline.py": checks.TRAINING,
    "evaluate.py": checks.EVALUATION | checks.TRAINING,
  }.items():
    there = set(numbers(cli.load_config(f"configs/xmodal/{file}:{name}")))
    assert there - ranges.keys() == {"mesh.data", "mesh.fsdp"}, file  # sbir.mesh checks these two


def test_all_numbers_out_of_range_are_named_at_once(refuse):
  line = refuse("teacher", {"steps": "-1", "loss.photo_drop": "7"})
  assert "steps=-1 must be" in line and "loss.photo_drop=7.0 must be" in line


def test_a_loss_of_no_terms_or_no_negatives_is_refused(refuse, runs):
  nothing = {"loss.xaqc": "0", "loss.distance": "0", "loss.angle": "0"}
  line = refuse("photo_student", {"teacher": runs["teacher"], **nothing})
  assert "are all 0, expected one above 0" in line and "--config.loss.xaqc=1" in line
  line = refuse("teacher", {"loss.queue_size": "0", "loss.in_batch": "false"})
  assert "loss.queue_size=0 leaves no negatives" in line and "--config.loss.in_batch=true" in line

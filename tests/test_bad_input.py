"""Every mistake of a user, through the mains: one line that helps, status 2, nothing written."""

import csv
import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from sbir import cli, run_folder
from sbir.checkpoint import Checkpoints
from sbir.data.pairs import epoch_rows, find_pairs
from sbir.data.sources import open_source
from sbir.logs import read_metrics
from sbir.types import UserError
from tests.data_folders import make_qmul
from tests.xmodal_runs import QUICK, RESTART, TINY, arguments, make_pairs, start
from xmodal import (
  evaluate,
  pipeline,
  train_baseline,
  train_photo_student,
  train_sketch_student,
  train_teacher,
)
from xmodal.stages import make_task

MAINS = {
  "teacher": (train_teacher, "teacher.py"),
  "photo_student": (train_photo_student, "student.py"),
  "sketch_student": (train_sketch_student, "student.py"),
  "baseline": (train_baseline, "baseline.py"),
  "evaluate": (evaluate, "evaluate.py"),
}


def snapshot(folder):
  """Returns every path below a folder with what would change if somebody wrote there."""
  return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def line_of(main, capsys):
  """Returns the one line that `main()` leaves on stderr when it exits with status 2."""
  with pytest.raises(SystemExit) as stopped:
    main()
  stderr = capsys.readouterr().err
  assert stopped.value.code == 2, stderr
  assert stderr.startswith("error: ") and stderr.count("\n") == 1, stderr
  return stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return make_pairs(tmp_path_factory.mktemp("data"))


@pytest.fixture
def refuse(tmp_path, data, capsys):
  """Returns refuse(stage, settings, ...) -> the error; checks that nothing was written."""

  def run(stage, settings, *, config="shoe304", workdir="run"):
    main, file = MAINS[stage]
    there = set(cli.config_keys(cli.load_config(f"configs/xmodal/{file}:shoe304")))
    tiny = {key: text for key, text in TINY.items() if key in there}
    words = arguments(
      f"{file}:{config}", tmp_path / workdir, {**tiny, "data.dir": data, **settings}
    )
    before = snapshot(tmp_path), snapshot(data)
    line = line_of(lambda: cli.run(main.main, words), capsys)
    assert (snapshot(tmp_path), snapshot(data)) == before
    return line

  return run


def save_untrained(workdir, stage, settings):
  """Leaves a run folder after one step that nobody did, through the writers of real runs."""
  keys = {key: str(value) for key, value in settings.items()}
  config = cli.load_config(f"configs/xmodal/{MAINS[stage][1]}:shoe304", keys)
  if stage.endswith("student"):
    config.modality = stage.removesuffix("_student")
  images = np.zeros((8, config.image_size, config.image_size, 3), np.uint8)
  shapes, _ = jax.eval_shape(make_task(config).init, jax.random.key(0), {"photo": images})
  run_folder.open_run(workdir, config)
  with Checkpoints(workdir) as checkpoints:
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    checkpoints.save(1, zeros, {"step": np.int32(1)}, {})
  return workdir


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data):
  """Returns {stage: run folder} of untrained networks."""
  folder = tmp_path_factory.mktemp("runs")
  common = {**TINY, "data.dir": data}
  made = {"teacher": save_untrained(folder / "teacher", "teacher", common)}
  del common["model.fusion_depth"]
  made["baseline"] = save_untrained(folder / "baseline", "baseline", common)
  for stage in ("photo_student", "sketch_student"):
    settings = {**common, "teacher": made["teacher"]}
    made[stage] = save_untrained(folder / stage, stage, settings)
  return made


@pytest.fixture
def copies(runs, tmp_path):
  """Returns {stage: a run folder of one's own}."""
  return {name: Path(shutil.copytree(path, tmp_path / name)) for name, path in runs.items()}


# --- the data -------------------------------------------------------------------------------------


def rewrite(root, change):
  """Rewrites the manifest in `root`: `change(row)` returns whether a row stays, and may edit it."""
  path = root / "manifest.csv"
  with path.open(newline="") as file:
    rows = [row for row in csv.DictReader(file) if change(row)]
  with path.open("w", newline="") as file:
    writer = csv.DictWriter(file, ("path", "modality", "instance", "split"))
    writer.writeheader()
    writer.writerows(rows)


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


def cut(path):
  path.write_bytes(path.read_bytes()[:-120])
  return path


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
  words = ["--config", "configs/xmodal/teacher.py:demo", "--workdir="]
  line = line_of(lambda: cli.run(train_teacher.main, words), capsys)
  assert "argument --workdir: '' is empty, expected the path of a folder" in line


BAD_SETTINGS = [
  ("image_size=20", "image_size=20 must divide by patch_size=8; nearest: 16 or 24"),
  ("image_size=0", "image_size=0 must be at least 1"),
  ("model.patch_size=0", "model.patch_size=0 must be at least 1"),
  ("model.size=huge", "vit size 'huge' is unknown; one of: micro, tiny, small, base"),
  ("compute_dtype=float16", "compute_dtype='float16' must be one of: float32, bfloat16"),
  ("steps=0", "steps=0 must be at least 1, for instance --config.steps=1"),
  ("batch_size=0", "batch_size=0 must be at least 1"),
  ("seed=-1", "seed=-1 must be from 0 to"),
  ("save_every=-1", "save_every=-1 must be at least 0"),
  ("keep=0", "keep=0 must be at least 1"),
  ("data.num_threads=-1", "data.num_threads=-1 must be at least 0"),
  ("data.sample_by=pair", "data.sample_by='pair' must be 'sketch' or 'photo'"),
  ("data.fit=crop", "data.fit='crop' must be one of: stretch, trim"),
  ("data.cache=disk", "data.cache='disk' must be 'memory' or 'none'"),
  ("init.kind=imagenet", "init.kind='imagenet' is unknown; choose one of"),
  ("init.kind=augreg", "init.kind=augreg needs a file of weights; set init.path"),
  (
    "init.path=vit.npz",
    "init.path=vit.npz is not read with init.kind=random; set init.kind=augreg",
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
  ("model.fusion_heads=5", "model.fusion_heads=5 must divide the width 96"),
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


def test_all_numbers_out_of_range_are_named_at_once(refuse):
  line = refuse("teacher", {"steps": "-1", "loss.photo_drop": "7"})
  assert "steps=-1 must be" in line and "loss.photo_drop=7.0 must be" in line


def test_a_loss_of_no_terms_or_no_negatives_is_refused(refuse, runs):
  nothing = {"loss.xaqc": "0", "loss.distance": "0", "loss.angle": "0"}
  line = refuse("photo_student", {"teacher": runs["teacher"], **nothing})
  assert "are all 0, expected one above 0" in line and "--config.loss.xaqc=1" in line
  line = refuse("teacher", {"loss.queue_size": "0", "loss.in_batch": "false"})
  assert "loss.queue_size=0 leaves no negatives" in line and "--config.loss.in_batch=true" in line


# --- the run folders ------------------------------------------------------------------------------


def test_a_workdir_below_a_file_is_refused(refuse, tmp_path, runs):
  (tmp_path / "file").write_text("")
  students = {name: runs[f"{name}_student"] for name in ("photo", "sketch")}
  for stage, settings in (("teacher", {}), ("evaluate", students)):
    line = refuse(stage, settings, workdir="file/run")
    assert f"run cannot be made: {tmp_path / 'file'} is a file; choose another" in line


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_a_place_where_not_even_root_may_write_is_refused(refuse, monkeypatch):
  line = refuse("teacher", {}, workdir="/proc/self/run")
  assert "workdir /proc/self/run cannot be written: no permission in /proc/self; choose" in line
  monkeypatch.setattr(os, "access", lambda *_: True)  # as on a disk that is mounted read-only
  with pytest.raises(
    UserError, match=r"workdir /proc/self/run cannot be written \(.+\); choose an"
  ):
    run_folder.open_run("/proc/self/run", {"method": "xmodal"})


def test_another_architecture_in_the_workdir_is_refused(refuse, copies):
  line = refuse("teacher", {"model.fusion_depth": "2"}, workdir="teacher")
  assert "holds another run (model.fusion_depth: 1 there, 2 here); use another --workdir" in line
  (copies["teacher"] / "config.json").unlink()
  line = refuse("teacher", {"model.fusion_depth": "2"}, workdir="teacher")
  assert "is of another architecture" in line and "fusion/photo_update_1" in line
  assert "give the run folder or the config that belongs to it" in line


def edit(workdir, **values):
  """Changes top-level entries of a run's config.json."""
  path = workdir / "config.json"
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_teacher_whose_weights_are_not_its_configs_is_refused(refuse, copies):
  model = json.loads((copies["teacher"] / "config.json").read_text())["model"]
  edit(copies["teacher"], model={**model, "patch_size": 16})
  line = refuse("photo_student", {"teacher": copies["teacher"]})
  assert "is of another architecture, 4 arrays differ" in line
  assert "photo_encoder/patch_embed/kernel: (192, 96) saved, (768, 96) expected" in line


def without_checkpoint(copies):
  shutil.rmtree(copies["teacher"] / "checkpoints")
  return copies["teacher"]


def of_another_method(copies):
  edit(copies["teacher"], method="pskd")
  return copies["teacher"]


def of_another_size(copies):
  edit(copies["teacher"], image_size=32)
  return copies["teacher"]


def of_another_view(copies):
  augment = json.loads((copies["teacher"] / "config.json").read_text())["augment"]
  edit(copies["teacher"], augment={**augment, "mean": 0.25})
  return copies["teacher"]


def with_config(text):
  def make(copies):
    (copies["teacher"] / "config.json").write_text(text)
    return copies["teacher"]

  return make


def empty(copies):
  folder = copies["teacher"].parent / "empty"
  folder.mkdir()
  return folder


@pytest.mark.parametrize(
  ("teacher", "message"),
  [
    (lambda copies: "", "teacher='' must name a run folder; add --config.teacher=DIR"),
    (lambda copies: "/nowhere", "run folder /nowhere does not exist; give the --workdir of a fini"),
    (empty, "is not a run folder: it has no config.json; give the --workdir of a training"),
    (lambda copies: copies["photo_student"], "of a photo student, expected a teacher's; give the"),
    (lambda copies: copies["baseline"], "of a baseline, expected a teacher's; give the --workdir"),
    (lambda copies: copies["teacher"].parent, "is not a run folder: it has no config.json"),
    (without_checkpoint, "has no checkpoint yet; finish its training first"),
    (of_another_method, "is the run folder of something else, expected a training of xmodal's"),
    (of_another_size, "image_size=16 is not the teacher's 32; add --config.image_size=32"),
    (of_another_view, "is not the teacher's 0.25; add --config.augment.mean=0.25"),
    (with_config("[]"), "is the run folder of something else, expected a training of xmodal's"),
    (with_config("{"), "cannot be read"),
  ],
)
@pytest.mark.parametrize("stage", ["photo_student", "sketch_student"])
def test_a_teacher_that_is_none_is_refused(stage, teacher, message, refuse, copies):
  line = refuse(stage, {"teacher": teacher(copies)})
  assert message in line


# --- the evaluation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("photo", "sketch", "message"),
  [
    ("sketch_student", "photo_student", "is the run folder of a sketch student, expected a photo"),
    ("photo_student", "photo_student", "of a photo student, expected a sketch student's; give the"),
    ("teacher", "sketch_student", "of a teacher, expected a photo student's; give the --workdir o"),
    ("photo_student", "nowhere", "does not exist; give the --workdir of a finished training"),
    ("photo_student", "baseline", "do not belong together: (stage, width, image size, fit)"),
  ],
)
def test_encoders_that_do_not_belong_there_are_refused(photo, sketch, message, refuse, copies):
  paths = {**copies, "nowhere": "/nowhere"}
  line = refuse("evaluate", {"photo": paths[photo], "sketch": paths[sketch]})
  assert message in line


def test_an_encoder_that_is_not_given_is_asked_for(refuse, runs):
  line = refuse("evaluate", {"sketch": runs["sketch_student"]})
  assert "photo='' must name a run folder; add --config.photo=DIR" in line


def test_students_of_other_image_sizes_are_refused_together(refuse, copies):
  model = json.loads((copies["sketch_student"] / "config.json").read_text())["model"]
  edit(copies["sketch_student"], image_size=32, model={**model, "patch_size": 16})
  students = {name: copies[f"{name}_student"] for name in ("photo", "sketch")}
  line = refuse("evaluate", students)
  assert "is of another architecture" in line or "do not belong together" in line


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"protocol": "ful"}, "protocol='ful' must be one of: full, released, one_per_class"),
    ({"grid_rows": "0"}, "grid_rows=0 must be at least 1"),
    ({"batch_size": "0"}, "batch_size=0 must be at least 1"),
    ({"seed": "-1"}, "seed=-1 must be from 0 to"),
    ({"data.dir": "/nowhere"}, "data folder /nowhere does not exist"),
  ],
)
def test_an_evaluation_that_cannot_work_is_refused(settings, message, refuse, runs):
  students = {name: runs[f"{name}_student"] for name in ("photo", "sketch")}
  assert message in refuse("evaluate", {**students, **settings})


def last_line(stage, settings, folder, capsys):
  """Returns the error of a main that had begun to work and so may have shown a bar before."""
  main, file = MAINS[stage]
  with pytest.raises(SystemExit) as stopped:
    cli.run(main.main, arguments(f"{file}:shoe304", folder, settings))
  assert stopped.value.code == 2
  return capsys.readouterr().err.splitlines()[-1]


def test_an_evaluation_that_breaks_off_leaves_nothing(runs, tmp_path, capsys):
  root = make_pairs(tmp_path / "own", ending="jpg")
  broken = cut(root / "test/sketch/7_1.jpg")
  settings = {name: runs[f"{name}_student"] for name in ("photo", "sketch")}
  line = last_line("evaluate", {**settings, "data.dir": root}, tmp_path / "run", capsys)
  assert line.startswith(f"error: {broken}: not a readable image (image file is truncated")
  settings["protocol"] = "one_per_class"
  line = last_line(
    "evaluate", {**settings, "data.dir": make_pairs(tmp_path)}, tmp_path / "run", capsys
  )
  assert line == "error: protocol='one_per_class' needs photos of 2 categories or more; use 'full'"
  assert not (tmp_path / "run").exists()


# --- the whole pipeline ---------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["shoe"], "config name 'shoe' is unknown; nearest: shoe_v2, shoe304"),
    (["--config.stepz=1"], "--config.stepz=1: there is no such key in the config; nearest: steps"),
    (["--config.loss.target=photos"], "loss.target='photos' must be one of: own, photo, sketch"),
    (["--config.batch_size=2"], "batch_size=2 must be at least 3: an angle needs three photos"),
    (["--config.protocol=ful"], "protocol='ful' must be one of: full, released, one_per_class"),
    (["--config.grid_rows=0"], "grid_rows=0 must be at least 1"),
    (["--data=/nowhere"], "data folder /nowhere does not exist"),
    (["--workdir="], "argument --workdir: '' is empty, expected the path of a folder"),
  ],
)
def test_a_mistake_in_any_stage_is_found_before_the_first(words, message, data, tmp_path, capsys):
  names = [] if words == ["shoe"] else ["shoe304"]
  tiny = [f"--config.{key}={value}" for key, value in TINY.items()]
  words = [*names, "--data", str(data), "--workdir", str(tmp_path / "run"), *tiny, *words]
  line = line_of(lambda: cli.tool(pipeline.main, words), capsys)
  assert message in line
  assert not (tmp_path / "run").exists()


def test_a_test_split_that_is_missing_stops_the_pipeline_before_it_trains(tmp_path, capsys):
  root = make_pairs(tmp_path / "own")
  rewrite(root, lambda row: row["split"] == "train")
  words = ["shoe304", "--data", str(root), "--workdir", str(tmp_path / "run")]
  line = line_of(lambda: cli.tool(pipeline.main, words), capsys)
  assert f"shoe304 test split in {root}: 0 photos found" in line
  assert not (tmp_path / "run").exists()


# --- in a process of its own ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
  ("module", "words", "message"),
  [
    (
      "xmodal.train_teacher",
      ["--config=configs/xmodal/teacher.py:shoe_v2", "--config.data.dir=/nowhere"],
      "data folder /nowhere does not exist; expected a folder (nearest there is /)",
    ),
    (
      "xmodal.train_photo_student",
      ["--config=configs/xmodal/student.py:demo", "--config.batchsize=2"],
      "--config.batchsize=2: there is no such key in the config; nearest: batch_size",
    ),
    (
      "xmodal.train_sketch_student",
      ["--config=configs/xmodal/student.py:demo", "--config.teacher=tests"],
      "tests is not a run folder: it has no config.json; give the --workdir of a training",
    ),
    (
      "xmodal.pipeline",
      ["shoe_v3"],
      "--config configs/xmodal/teacher.py:shoe_v3: config name 'shoe_v3' is unknown; nearest: ",
    ),
    (
      "xmodal.demo",
      ["--config.image_size=60"],
      "image_size=60 must divide by patch_size=8; nearest: 56 or 64",
    ),
  ],
)
def test_a_fresh_process_says_it_in_one_line_too(module, words, message, tmp_path):
  result = start("-m", module, *words, "--workdir", tmp_path / "run")
  assert result.returncode == 2
  assert result.stderr.startswith(f"error: {message}")
  assert result.stderr.count("\n") == 1
  assert not (tmp_path / "run").exists()

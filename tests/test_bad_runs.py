"""Run folders that do not fit, mistakes found before a long run, and all in fresh processes."""

import json
import os
import shutil
from pathlib import Path

import pytest

from sbir import cli, run_folder
from sbir.types import UserError
from tests.refusals import MAINS, copies, cut, data, line_of, refuse, rewrite, runs  # noqa: F401
from tests.xmodal_runs import TINY, arguments, make_pairs, start
from xmodal import pipeline
from xmodal.stages import load_teacher

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
  assert "photo_encoder/patch_embed/kernel: (192, 48) saved, (768, 48) expected" in line


def test_a_teacher_that_is_not_finished_is_used_and_said_to_be_so(runs, capfd):
  load_teacher(str(runs["teacher"]))
  line = capfd.readouterr().err
  assert line == f"teacher={runs['teacher']} is at step 1 of 400: not finished, used as is\n"


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
    (with_config("[]"), "cannot be read (it holds a list, expected the keys of a config)"),
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
    (["--config.cache.views=-1"], "cache.views=-1 must be at least 0"),
    (["--config.cache.dir=/dev/null/x"], "cache.dir /dev/null/x cannot be made: /dev/null is a"),
    (["--data=/nowhere"], "data folder /nowhere does not exist"),
    (["--workdir="], "argument --workdir: '' is empty, expected the path of a folder"),
  ],
)
def test_a_mistake_in_any_stage_is_found_before_the_first(words, message, data, tmp_path, capsys):
  names = [] if words == ["shoe"] else ["shoe304"]
  tiny = [f"--config.{key}={value}" for key, value in {**TINY, "steps": 1}.items()]
  words = [*names, "--data", str(data), "--workdir", str(tmp_path / "run"), *tiny, *words]
  line = line_of(lambda: cli.tool(pipeline.main, words), capsys)
  assert message in line
  assert not (tmp_path / "run").exists()


def test_a_test_split_that_is_missing_stops_the_pipeline_before_it_trains(tmp_path, capsys):
  root = make_pairs(tmp_path / "own")
  rewrite(root, lambda row: row["split"] == "train")
  words = ["shoe304", "--data", str(root), "--workdir", str(tmp_path / "run")]
  words += [f"--config.{key}={value}" for key, value in {**TINY, "steps": 1}.items()]
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
      "image_size=60 must divide by patch_size=16; nearest: 48 or 64",
    ),
  ],
)
def test_a_fresh_process_says_it_in_one_line_too(module, words, message, tmp_path):
  result = start("-m", module, *words, "--workdir", tmp_path / "run")
  assert result.returncode == 2
  assert result.stderr.startswith(f"error: {message}")
  assert result.stderr.count("\n") == 1
  assert not (tmp_path / "run").exists()

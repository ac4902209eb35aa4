"""Run folders that do not fit PSKD, evaluations that cannot be made, mistakes found before
a long run."""

import shutil

import pytest

from pskd import evaluate, pipeline
from sbir import cli
from tests.pskd_refusals import USUAL, copy, data, refuse, runs, with_list  # noqa: F401
from tests.pskd_runs import CLASSES, arguments, make_classes, of_data
from tests.refusals import cut, line_of

# --- run folders ----------------------------------------------------------------------------------


def test_a_run_is_not_resumed_under_another_config(refuse, copy):
  copy("teacher")
  line = refuse("teacher", {"epochs": "7"}, workdir="own_teacher")
  assert "holds another run (epochs: 6 there, 7 here" in line and "use another --workdir" in line


def test_a_run_is_not_resumed_on_other_classes(refuse, copy, tmp_path):
  (copy("teacher") / "config.json").touch()
  line = refuse("teacher", with_list(tmp_path, "bee"), workdir="own_teacher")
  assert "holds another run (classes: ['ant', 'cow', 'doe', 'fox'] there" in line


@pytest.mark.parametrize(
  ("teacher", "message"),
  [
    (lambda copy: "", "teacher='' must name a run folder; add --config.teacher=DIR"),
    (lambda copy: "/nowhere", "run folder /nowhere does not exist; give the --workdir of a fini"),
    (lambda copy: copy("teacher").parent, "is not a run folder: it has no config.json; give the"),
    (lambda copy: copy("student"), "of a student, expected a teacher's; give the --workdir of psk"),
    (lambda copy: copy("teacher", method="xmodal"), "expected a training of pskd's"),
    (lambda copy: copy("teacher", image_size=32), "image_size=16 is not the teacher's 32; add --c"),
    (
      lambda copy: copy("teacher", classes=["ant", "cow", "doe"]),
      "knows 3 classes and the data has 4 to train on (first difference: fox)",
    ),
    (
      lambda copy: copy("teacher", classes=["ant", "cow", "doe", "gnu"]),
      "knows 4 classes and the data has 4 to train on (first difference: fox)",
    ),
  ],
)
def test_a_teacher_that_is_none_is_refused(teacher, message, refuse, copy):
  assert message in refuse("student", {"teacher": teacher(copy)})


def test_a_teacher_that_saw_images_otherwise_is_refused(refuse):
  line = refuse("student", {"augment.gradients": "false"})
  assert "augment.gradients=False is not the teacher's True; add --config.augment.gradi" in line


def test_a_teacher_without_a_checkpoint_is_refused(refuse, copy):
  teacher = copy("teacher")
  shutil.rmtree(teacher / "checkpoints")
  line = refuse("student", {"teacher": teacher})
  assert "has no checkpoint yet; finish its training first" in line


# --- the evaluation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("setting", "message"),
  [
    ("model=", "model='' must name a run folder; add --config.model=DIR"),
    ("model=/nowhere", "run folder /nowhere does not exist; give the --workdir of a finished trai"),
    ("protocol=zeroshot", "protocol='zeroshot' must be one of: zero_shot, generalised"),
    ("feature=token", "feature='token' must be one of: fusion, mean, head"),
    ("select=first", "select='first' must be one of: last, best"),
    ("select=best", "select=best, but no saved step of"),
    ("codes.fit=test", "codes.fit='test' must be one of: training, transductive, released"),
    ("codes.bits=8", "codes.bits=8 must be 0 (none) or a multiple of 8 from 16 to 256"),
    ("batch_size=0", "batch_size=0 must be at least 1"),
    ("grid_rows=0", "grid_rows=0 must be at least 1"),
    ("seed=-1", "seed=-1 must be from 0 to"),
    ("data.dir=/nowhere", "data folder /nowhere does not exist"),
    ("mesh.data=3", "mesh.data=3 x mesh.fsdp=1 does not make the 1 devices there are"),
  ],
)
def test_an_evaluation_that_cannot_work_is_refused(setting, message, refuse):
  key, value = setting.split("=")
  assert message in refuse("evaluate", {key: value})


def test_classes_that_were_trained_on_are_no_test_classes(refuse, tmp_path):
  line = refuse("evaluate", with_list(tmp_path, "bee", "fox"))
  assert "was trained on 1 of the 2 test classes (first: fox); use the data.split it was" in line


def test_photos_held_out_must_be_those_of_the_training(refuse):
  line = refuse("evaluate", {"protocol": "generalised", "data.held_out_photos": "1"})
  assert "data.held_out_photos=1 is not the 0 that model=" in line
  assert "set --config.data.held_out_photos=0" in line


def test_a_network_of_other_classes_than_its_config_says_is_refused(refuse, copy):
  line = refuse("evaluate", {"model": copy("student", classes=["ant", "cow", "doe"])})
  assert "is of another architecture, 2 arrays differ" in line
  assert "head/classifier/bias: (4,) saved, (3,) expected" in line


def test_an_evaluation_that_breaks_off_leaves_nothing(runs, tmp_path, capsys):
  root = make_classes(tmp_path / "own", CLASSES, ending="jpg")
  broken = cut(root / "sketch/eel/2.jpg")
  words = arguments(
    "evaluate.py:sketchy_mini", tmp_path / "run", {**of_data(root), "model": runs["student"]}
  )
  with pytest.raises(SystemExit) as stopped:
    cli.run(evaluate.main, words)
  line = capsys.readouterr().err.splitlines()[-1]  # a bar may have been shown before
  assert stopped.value.code == 2
  assert line.startswith(f"error: {broken}: not a readable image")
  assert not (tmp_path / "run").exists()


# --- the whole pipeline ---------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["sketchy"], "config name 'sketchy' is unknown; nearest: sketchy2"),
    (["--config.epoch=1"], "--config.epoch=1: there is no such key in the config; nearest: epochs"),
    (["--config.loss.ila_group=3"], "loss.ila_group=3 must divide the 2 samples"),
    (["--config.protocol=ful"], "protocol='ful' must be one of: zero_shot, generalised"),
    (["--config.select=best"], "select=best with data.validation_classes=0, expected classes to"),
    (["--data=/nowhere"], "data folder /nowhere does not exist"),
  ],
)
def test_a_mistake_in_any_stage_is_found_before_the_first(words, message, data, tmp_path, capsys):
  names = [] if words == ["sketchy"] else ["sketchy_mini"]
  usual = {**USUAL, **of_data(data)}
  tiny = [f"--config.{key}={value}" for key, value in usual.items() if key != "data.dir"]
  words = [*names, "--data", str(data), "--workdir", str(tmp_path / "run"), *tiny, *words]
  line = line_of(lambda: cli.tool(pipeline.main, words), capsys)
  assert message in line
  assert not (tmp_path / "run").exists()

"""XModalViT's mains on a set with an image that cannot be read: stopped, skipped, stored."""

import shutil
import signal
from itertools import islice

import numpy as np
import pytest

from sbir import cli
from sbir.data.pairs import epoch_rows, find_pairs
from sbir.data.sources import open_source
from sbir.logs import TIMING_FIELDS, read_metrics
from sbir.types import UserError
from tests.refusals import cut, save_untrained
from tests.xmodal_caches import COMMON, config_of
from tests.xmodal_runs import KILLED, QUICK, RESTART, TINY, arguments, make_pairs, start
from xmodal import cache_teacher, stages, train_photo_student, train_sketch_student, train_teacher

pytest_plugins = ["tests.xmodal_caches"]

MAINS = {"photo": train_photo_student, "sketch": train_sketch_student}
BAD = "train/sketch/3_0.png"


def spoil(root, *files):
  for file in files:
    cut(root / file)
  return root


@pytest.fixture(scope="module")
def untrained(pairs, tmp_path_factory):
  folder = tmp_path_factory.mktemp("untrained") / "teacher"
  return save_untrained(folder, "teacher", {**COMMON, "data.dir": pairs})


@pytest.fixture
def teacher_run(untrained, tmp_path):
  """A teacher's run folder of one's own, with nothing stored."""
  return shutil.copytree(untrained, tmp_path / "teacher")


@pytest.fixture
def spoilt(pairs, tmp_path):
  return spoil(shutil.copytree(pairs, tmp_path / "spoilt"), BAD)


def index_of(root, file):
  records = open_source("manifest", "shoe304", root, "train").records
  return [record.key for record in records].index(file)


# --- in a process of its own ----------------------------------------------------------------------


def numbers_of_step(workdir, step):
  (row,) = [row for row in read_metrics(workdir) if row["step"] == step]
  return {name: value for name, value in row.items() if name not in TIMING_FIELDS}


@pytest.mark.slow
def test_a_run_that_skips_goes_on_and_says_the_path_once_and_resumed_does_the_same_step(tmp_path):
  root = make_pairs(tmp_path / "data")
  source = open_source("manifest", "shoe304", root, "train")
  rows = epoch_rows(find_pairs(source), sample_by="sketch", seed=0, epoch=1)
  broken = cut(root / source.records[rows[2, 2]].key)  # an anchor of batch 3, at which it is killed
  workdir = tmp_path / "run"
  settings = {**RESTART, "data.dir": root, "steps": 4, "eval_every": 0, "data.on_error": "skip"}
  command = arguments("teacher.py:shoe304", workdir, settings)
  killed = start("-c", KILLED.format(method="xmodal", main="train_teacher"), *command, **QUICK)
  assert killed.returncode == -signal.SIGKILL, killed.stderr
  before = numbers_of_step(workdir, 3)
  again = start("-m", "xmodal.train_teacher", *command, **QUICK)
  assert again.returncode == 0 and "resumed after step 2" in again.stderr, again.stderr
  assert numbers_of_step(workdir, 3) == before
  for said in (killed.stderr, again.stderr):
    assert said.count(str(broken)) == 1 and f"skipped: {broken}: not a readable image" in said
  assert "shoe304: 1 of 24 images cannot be read and were skipped" in again.stderr


def test_too_many_bad_images_stop_the_main_with_status_2(tmp_path, capsys):
  root = make_pairs(tmp_path / "data")
  for photo in (root / "train/photo").iterdir():
    cut(photo)
  settings = {**TINY, "data.dir": root, "data.on_error": "skip", "data.num_threads": "3"}
  words = arguments("teacher.py:shoe304", tmp_path / "run", settings)
  with pytest.raises(SystemExit) as stopped:
    cli.run(train_teacher.main, words)
  *skipped, line = capsys.readouterr().err.splitlines()
  assert stopped.value.code == 2 and line.startswith("error: shoe304: 2 ")
  assert [text.split(":")[0] for text in skipped] == ["skipped"] * 2
  assert "of 24 images cannot be read, expected at most 1 with data.on_error=skip" in line
  assert f"the first: {root}/train/photo/" in line
  assert not (tmp_path / "run").exists()


# --- with the teacher's stored vectors ------------------------------------------------------------


def given_batches(modality, teacher_run, root, workdir, monkeypatch, count=6, **changes):
  """Returns what a student's main would train on."""
  given = {}
  monkeypatch.setattr(stages, "train", lambda task, **rest: given.update(rest, task=task))
  stages._open_split.cache_clear()  # a new process would try every file anew
  MAINS[modality].main(config_of("student", root, teacher=teacher_run, **changes), str(workdir))
  return list(islice(given["batches"], count))


@pytest.mark.parametrize("bad", [BAD, "train/photo/5.png"])
@pytest.mark.parametrize("modality", MAINS)
def test_a_pair_with_a_bad_image_is_stored_as_nothing_and_never_shown(
  modality, bad, teacher_run, pairs, tmp_path, monkeypatch, capfd
):
  root = spoil(shutil.copytree(pairs, tmp_path / "spoilt"), bad)
  words = {"data__on_error": "skip", "cache__views": 2}
  arguments = (modality, teacher_run, root, tmp_path / "run", monkeypatch)
  filled = given_batches(*arguments, **words)
  assert capfd.readouterr().err.count(str(root / bad)) == 1  # by the filling
  found = given_batches(*arguments, **words)
  said = capfd.readouterr().err
  assert "complete" in said and said.count(f"skipped: {root / bad}") == 1
  for one, other in zip(filled, found, strict=True):
    assert np.isfinite(one["target"]).all()
    for name, value in one.items():
      np.testing.assert_array_equal(value, other[name])
  shown = {index for batch in filled for index in batch["sketch_index"].tolist()}
  sketches = {index_of(root, bad)} if "sketch" in bad else {index_of(root, BAD.replace("3_", "5_"))}
  assert len(shown) > 10 and not shown & sketches


def test_a_student_that_stops_uses_no_vector_that_was_stored_of_a_bad_image(
  teacher_run, spoilt, tmp_path, monkeypatch
):
  arguments = ("photo", teacher_run, spoilt, tmp_path / "run", monkeypatch)
  given_batches(*arguments, data__on_error="skip", cache__views=1)
  with pytest.raises(UserError, match=r"holds no numbers: .*set --config\.data\.on_error=skip"):
    given_batches(*arguments, data__on_error="stop", cache__views=1)


def test_filling_stops_with_the_path_by_default(teacher_run, spoilt):
  stages._open_split.cache_clear()
  with pytest.raises(UserError, match=rf"{BAD}: not a readable.*--config\.data\.on_error=skip"):
    cache_teacher.main(config_of("student", spoilt, teacher=teacher_run))


def test_a_test_split_is_measured_whole_or_not_at_all(teacher_run, pairs, tmp_path):
  root = spoil(shutil.copytree(pairs, tmp_path / "data"), BAD.replace("train", "test"))
  stages._open_split.cache_clear()
  config = config_of("student", root, teacher=teacher_run, data__on_error="skip")
  with pytest.raises(UserError, match=r"test/sketch/3_0\.png: not a readable") as stopped:
    cache_teacher.main(config)
  assert "on_error" not in str(stopped.value)


@pytest.mark.parametrize("file", ["xmodal/evaluate.py:shoe304", "pskd/evaluate.py:sketchy_mini"])
def test_an_evaluation_cannot_be_told_to_skip(file):
  with pytest.raises(UserError, match=r"data\.on_error=skip: there is no such key in the config"):
    cli.load_config(f"configs/{file}", {"data.on_error": "skip"})

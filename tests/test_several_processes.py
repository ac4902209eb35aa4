"""Trainings in two processes of two devices each, and in one: the same numbers, written once."""

import json

import numpy as np
import pytest

from sbir.logs import TIMING_FIELDS, read_metrics
from tests import pskd_runs, xmodal_runs
from tests.several import run_processes

# A rate that moves nothing: Adam would make a whole step of a gradient that is zero but for
# rounding, and rounding differs with the number of devices.
XMODAL = {
  **xmodal_runs.TINY,
  "steps": 2,
  "eval_every": 2,
  "log_every": 1,
  "optimizer.learning_rate": 1e-7,
}
PSKD = {
  **pskd_runs.TINY,
  "batch_size": 8,
  "epochs": 2,
  "warmup_epochs": 1,
  "log_every": 1,
  "eval_every": 1,
  "optimizer.lr": 1e-7,
  "optimizer.min_lr": 1e-8,
  "data.validation_classes": 2,
}
TWO = {"devices": 2, "count": 2}


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
  """(folder of XModalViT's pipeline in one process, that in two, what the two printed)."""
  folder = tmp_path_factory.mktemp("xmodal")
  settings = XMODAL | {"data.dir": xmodal_runs.make_pairs(folder / "data")}
  flags = [f"--config.{key}={value}" for key, value in settings.items()]
  run = lambda name, **words: run_processes(
    ["-m", "xmodal.pipeline", "shoe304", "--workdir", folder / name, *flags],
    **words,
    **xmodal_runs.QUICK,
  )
  run("one")
  return folder / "one", folder / "two", run("two", **TWO)


def numbers(workdir):
  return [
    {name: value for name, value in row.items() if name not in TIMING_FIELDS}
    for row in read_metrics(workdir)
  ]


def check_same_numbers(two, one):
  rows, expected = numbers(two), numbers(one)
  assert len(rows) == len(expected) > 1
  for row, other in zip(rows, expected, strict=True):
    assert row == pytest.approx(other, rel=1e-5)


@pytest.mark.slow
def test_every_number_that_xmodal_logs_is_that_of_one_process(pipelines):
  one, two, _ = pipelines
  for stage in ("teacher", "photo_student", "sketch_student"):
    check_same_numbers(two / stage, one / stage)


@pytest.mark.slow
def test_every_number_that_pskd_logs_is_that_of_one_process(tmp_path):
  classes = pskd_runs.make_classes(tmp_path / "data", photos=6, sketches=4)
  settings = PSKD | pskd_runs.of_data(classes)
  for name, words in (("one", {}), ("two", TWO)):
    command = pskd_runs.arguments("teacher.py:sketchy_mini", tmp_path / name, settings)
    run_processes(["-m", "pskd.train_teacher", *command], **words, **xmodal_runs.QUICK)
  check_same_numbers(tmp_path / "two", tmp_path / "one")
  assert "validation_map@all[voc]" in numbers(tmp_path / "two")[-1]


@pytest.mark.slow
def test_every_item_is_embedded_once_and_the_evaluation_is_that_of_one_process(pipelines):
  one, two, _ = pipelines
  found, expected = (
    json.loads((w / "evaluation" / "evaluation.json").read_text()) for w in (two, one)
  )
  assert found["queries"] == expected["queries"] and found["gallery"] == expected["gallery"]
  assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-5)


@pytest.mark.slow
def test_only_the_first_process_prints_and_shows_progress(pipelines):
  *_, ((out, errors), (silent, other)) = pipelines
  assert "package of" in out and "teacher" in errors
  assert silent == ""
  assert "parameters in" not in other and "step/s" not in other


@pytest.mark.slow
def test_what_is_written_is_whole_and_nothing_is_left_beside_it(pipelines):
  one, two, _ = pipelines

  def files(root):
    found = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    return {name for name in found if "/checkpoints/" not in name and "/cache/" not in name}

  assert files(two) == files(one)
  rows = np.load(next(two.rglob("cache/*/*.npy")), allow_pickle=False)
  assert len(rows) and np.isfinite(rows).all()

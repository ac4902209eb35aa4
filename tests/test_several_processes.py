"""A whole pipeline in two processes of two devices each, and in one: the same, written once."""

import json

import numpy as np
import pytest

from sbir.logs import TIMING_FIELDS, read_metrics
from tests.pskd_runs import TINY as PSKD_TINY
from tests.pskd_runs import make_classes, of_data
from tests.test_topologies import run_processes
from tests.xmodal_runs import QUICK, TINY, make_pairs

STAGES = {"xmodal": ("teacher", "photo_student", "sketch_student"), "pskd": ("teacher", "student")}
# A rate that moves nothing: Adam would make a whole step of a gradient that is zero but for
# rounding, and rounding differs with the number of devices.
XMODAL = {**TINY, "steps": 2, "eval_every": 2, "log_every": 1, "optimizer.learning_rate": 1e-7}
PSKD = {
  **PSKD_TINY,
  "accumulation": 1,
  "batch_size": 8,
  "epochs": 2,
  "warmup_epochs": 1,
  "log_every": 1,
  "optimizer.lr": 1e-7,
  "optimizer.min_lr": 1e-8,
  "cache.views": 2,
}


def pipeline(method, data, workdir, **words):
  """Runs a pipeline to its end; returns what each process printed."""
  name, settings = ("shoe304", XMODAL) if method == "xmodal" else ("sketchy_mini", PSKD)
  settings = settings | ({"data.dir": data} if method == "xmodal" else of_data(data))
  flags = [f"--config.{key}={value}" for key, value in settings.items()]
  command = ["-m", f"{method}.pipeline", name, "--workdir", workdir, *flags]
  return run_processes(command, **words, **QUICK)


@pytest.fixture(scope="module", params=STAGES)
def runs(request, tmp_path_factory):
  """(method, folder of one process, folder of two, what the two printed)."""
  folder, method = tmp_path_factory.mktemp(request.param), request.param
  if method == "xmodal":
    data = make_pairs(folder / "data")
  else:
    data = make_classes(folder / "data", photos=6, sketches=4)
  pipeline(method, data, folder / "one")
  printed = pipeline(method, data, folder / "two", devices=2, count=2)
  return method, folder / "one", folder / "two", printed


def numbers(workdir):
  return [
    {name: value for name, value in row.items() if name not in TIMING_FIELDS}
    for row in read_metrics(workdir)
  ]


@pytest.mark.slow
def test_every_logged_number_is_that_of_one_process(runs):
  method, one, two, _ = runs
  for stage in STAGES[method]:
    rows, expected = numbers(two / stage), numbers(one / stage)
    assert len(rows) == len(expected) > 1
    for row, other in zip(rows, expected, strict=True):
      assert row == pytest.approx(other, rel=1e-5)


@pytest.mark.slow
def test_every_item_is_embedded_once_and_the_evaluation_is_that_of_one_process(runs):
  _, one, two, _ = runs
  found, expected = (
    json.loads((w / "evaluation" / "evaluation.json").read_text()) for w in (two, one)
  )
  assert found["queries"] == expected["queries"] and found["gallery"] == expected["gallery"]
  assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-5)


@pytest.mark.slow
def test_only_the_first_process_prints_and_shows_progress(runs):
  *_, ((out, errors), (silent, other)) = runs
  assert "package of" in out and "teacher" in errors
  assert silent == ""
  assert "parameters in" not in other and "step/s" not in other


@pytest.mark.slow
def test_what_is_written_is_whole_and_nothing_is_left_beside_it(runs):
  _, one, two, _ = runs

  def files(root):
    found = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    return {name for name in found if "/checkpoints/" not in name and "/cache/" not in name}

  assert files(two) == files(one)
  rows = np.load(next(two.rglob("cache/*/*.npy")), allow_pickle=False)
  assert len(rows) and np.isfinite(rows).all()

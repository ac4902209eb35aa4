"""How a user's mistake is made and watched, through the mains; fixtures for the tests of it."""

import csv
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from sbir import cli, run_folder
from sbir.checkpoint import Checkpoints
from tests.xmodal_runs import TINY, arguments, make_pairs
from xmodal import (
  evaluate,
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
  # Of a folder not the time: a run folder's lock comes and goes.
  state = lambda path: path.is_file() and (path.stat().st_mtime_ns, path.stat().st_size)
  return {path: state(path) for path in folder.rglob("*")}


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
  shapes, _ = jax.eval_shape(
    make_task(config).init, jax.random.key(0), {"photo": images, "sketch": images}
  )
  return save_zeros(workdir, config, shapes)


def save_zeros(workdir, config, shapes):
  """Leaves a run folder whose network of `shapes` is all zeros after step 1."""
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


def rewrite(root, change):
  """Rewrites the manifest in `root`: `change(row)` returns whether a row stays, and may edit it."""
  path = root / "manifest.csv"
  with path.open(newline="") as file:
    rows = [row for row in csv.DictReader(file) if change(row)]
  with path.open("w", newline="") as file:
    writer = csv.DictWriter(file, ("path", "modality", "instance", "split"))
    writer.writeheader()
    writer.writerows(rows)


def cut(path):
  """Takes the end off a file; returns its path."""
  path.write_bytes(path.read_bytes()[:-120])
  return path

"""A tiny trained teacher and what is stored of it; a plugin: `pytest_plugins`."""

import shutil

import pytest

from sbir import cli
from tests.xmodal_runs import TINY, make_pairs
from xmodal import train_teacher

COMMON = {**TINY, "steps": "2", "eval_every": "2", "log_every": "1"}
NOTHING_RANDOM = {f"augment.{name}": "0" for name in ("flip", "scale", "shift", "gray")}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
  return make_pairs(tmp_path_factory.mktemp("pairs"))


def config_of(stage, data, **changes):
  """Returns the config of a stage; of a dotted key's name, the dots are written as "__"."""
  settings = {**COMMON, "data.dir": data, **changes}
  if stage == "student":
    settings.pop("model.fusion_depth")
  texts = {key.replace("__", "."): str(value) for key, value in settings.items()}
  return cli.load_config(f"configs/xmodal/{stage}.py:shoe304", texts)


@pytest.fixture(scope="module")
def trained_teacher(pairs, tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "teacher"
  train_teacher.main(config_of("teacher", pairs), str(folder))
  return folder


@pytest.fixture
def teacher_run(trained_teacher, tmp_path):
  """A teacher's run folder of one's own, with nothing stored."""
  return shutil.copytree(trained_teacher, tmp_path / "teacher")


def stored(root):
  """Returns every file below a folder with what would change if it were written anew."""
  files = sorted(path for path in root.rglob("*") if path.is_file())
  return {path: path.stat().st_mtime_ns for path in files}

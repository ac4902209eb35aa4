"""The teacher's stored vectors: resumed, mended, added to, made again, never out of date."""

import shutil
import signal

import numpy as np
import pytest

from sbir import cli
from sbir.data.resized import resized
from sbir.data.sources import open_source
from sbir.types import UserError
from tests.xmodal_caches import COMMON, NOTHING_RANDOM, config_of, stored
from tests.xmodal_runs import QUICK, start
from xmodal import cache_teacher, stages, teacher_cache, train_teacher
from xmodal.views import Recipe

pytest_plugins = ["tests.xmodal_caches"]

# The main, with shards of 4 rows, killed when shard {last} is about to be written.
KILLED_IN_FILL = """
import os, signal
from sbir import cli, stored_rows
from xmodal import cache_teacher
stored_rows.SHARD_ROWS = 4
write = stored_rows.StoredRows.write
def write_or_die(self, shard, rows):
  if shard == {last}:
    os.kill(os.getpid(), signal.SIGKILL)
  write(self, shard, rows)
stored_rows.StoredRows.write = write_or_die
cli.run(cache_teacher.main, has_workdir=False)
"""
RECIPE = Recipe(flip=0.5)
STUDENT = {key: text for key, text in COMMON.items() if key != "model.fusion_depth"}


def fill(teacher_run, pairs, **changes):
  config = config_of("student", pairs, **{"teacher": teacher_run, "eval_every": "0", **changes})
  return stages.cache_teacher(config)["train"]


def shards(cache):
  return sorted(cache.rows.folder.glob("*.npy"))


@pytest.mark.slow
def test_a_filling_that_was_killed_goes_on_where_it_was(teacher_run, pairs):
  changes = {"data.dir": pairs, "teacher": teacher_run, "cache.views": "2", "eval_every": "0"}
  flags = [f"--config.{key}={text}" for key, text in {**STUDENT, **changes}.items()]
  run = lambda last: start(
    "-c",
    KILLED_IN_FILL.format(last=last),
    "--config=configs/xmodal/student.py:shoe304",
    *flags,
    **QUICK,
  )
  done = run(last=5)
  assert done.returncode == -signal.SIGKILL, done.stderr
  (folder,) = (teacher_run / "cache").iterdir()
  before = stored(folder)
  assert len(list(folder.glob("*.npy"))) == 5
  done = run(last=-1)
  assert done.returncode == 0, done.stderr
  assert f"train: 2 views of 16 pairs in {folder}" in done.stdout
  after = stored(folder)
  assert len(list(folder.glob("*.npy"))) == 8
  assert {path: after[path] for path in before} == before


def test_a_damaged_shard_is_said_and_computed_again(teacher_run, pairs, capfd):
  cache = fill(teacher_run, pairs)
  rows = cache.rows.take(np.arange(cache.rows.num_rows))
  first, *others = shards(cache)
  whole = first.read_bytes()
  first.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
  kept = {path: path.stat().st_mtime_ns for path in others}
  capfd.readouterr()
  again = fill(teacher_run, pairs)
  assert "damaged shards: 1, to be filled again" in capfd.readouterr().err
  np.testing.assert_allclose(again.rows.take(np.arange(again.rows.num_rows)), rows, atol=1e-5)
  assert {path: path.stat().st_mtime_ns for path in others} == kept
  assert not again.rows.missing()


def test_more_views_add_to_those_that_are_there(teacher_run, pairs):
  two = fill(teacher_run, pairs, cache__views=2)
  before = stored(two.rows.folder)
  three = fill(teacher_run, pairs, cache__views=3)
  assert three.rows.folder == two.rows.folder
  after = stored(three.rows.folder)
  assert {path: after[path] for path in before} == before and len(shards(three)) == 3
  views = [three.fused(np.arange(8, 24), np.full(16, view)) for view in range(3)]
  assert np.abs(views[0] - views[1]).max() > 1e-3 < np.abs(views[1] - views[2]).max()


def test_students_of_other_seeds_have_other_views_and_one_if_nothing_is_random(teacher_run, pairs):
  folders = {fill(teacher_run, pairs, seed=seed).rows.folder for seed in (0, 1, 0)}
  assert len(folders) == 2
  still = [fill(teacher_run, pairs, seed=seed, **NOTHING_RANDOM) for seed in (0, 1)]
  assert still[0].rows.folder == still[1].rows.folder not in folders
  assert still[0].num_views == 1
  assert all(folder.is_dir() for folder in folders)  # nobody's is deleted for another's


def test_a_teacher_that_was_trained_on_is_asked_anew_and_its_old_vectors_go(
  teacher_run, pairs, capfd
):
  old = fill(teacher_run, pairs)
  train_teacher.main(config_of("teacher", pairs, steps=3), str(teacher_run))
  new = fill(teacher_run, pairs)
  assert new.rows.folder != old.rows.folder
  assert not old.rows.folder.exists() and new.rows.folder.is_dir()
  assert f"{old.rows.folder}: stale, removed" in capfd.readouterr().err


def test_in_a_folder_of_the_users_nothing_is_removed(teacher_run, pairs, tmp_path):
  place = {"cache__dir": tmp_path / "elsewhere"}
  old = fill(teacher_run, pairs, **place)
  train_teacher.main(config_of("teacher", pairs, steps=3), str(teacher_run))
  new = fill(teacher_run, pairs, **place)
  assert not (teacher_run / "cache").exists()
  assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {
    old.rows.folder.name,
    new.rows.folder.name,
  }


def open_cache(teacher_run, pairs):
  stages._open_split.cache_clear()  # a new process would list the files anew
  config = config_of("student", pairs, teacher=teacher_run)
  return stages.open_caches(config, stages.make_task(config))["train"]


CHANGES = {
  "a photo": lambda patch, root: (root / "train/photo/0.png").write_bytes(
    (root / "train/photo/1.png").read_bytes()
  ),
  "how numbers are made": lambda patch, root: patch.setattr(teacher_cache, "FORMAT", 99),
  "jax": lambda patch, root: patch.setattr(teacher_cache.jax, "__version__", "99"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_the_vectors_depend_on_is_what_they_are_looked_up_by(
  what, teacher_run, pairs, tmp_path, monkeypatch
):
  root = shutil.copytree(pairs, tmp_path / "data")
  before = fill(teacher_run, root).rows.folder
  assert open_cache(teacher_run, root).rows.missing() == []
  CHANGES[what](monkeypatch, root)
  found = open_cache(teacher_run, root)
  assert found.rows.folder != before and found.rows.missing()


def folder_of(data, *, size=16, fit="trim", recipe=RECIPE, seed=0, teacher="one", split="train"):
  """Returns where a cache of these would stand."""
  source = resized(open_source("manifest", "shoe304", data, split), size, fit=fit)
  of_whom = {"teacher": {"parameters": teacher}, "width": 96, "num_views": 2, "seed": seed}
  return teacher_cache.TeacherCache("root", source, recipe, **of_whom).rows.folder


@pytest.mark.parametrize(
  "change",
  [
    {"size": 24},
    {"fit": "stretch"},
    {"recipe": RECIPE._replace(flip=0.25)},
    {"recipe": RECIPE._replace(gradients=True)},
    {"seed": 1},
    {"teacher": "other"},
    {"split": "test"},
  ],
)
def test_what_was_chosen_otherwise_is_looked_up_elsewhere(change, pairs):
  assert folder_of(pairs) == folder_of(pairs) != folder_of(pairs, **change)


def test_a_main_that_only_fills_says_what_there_is_and_where(teacher_run, pairs, capsys):
  cache_teacher.main(config_of("student", pairs, teacher=teacher_run))
  train, test = capsys.readouterr().out.splitlines()
  assert train.startswith(f"train: 8 views of 16 pairs in {teacher_run / 'cache'}")
  assert test.startswith(f"test: 1 view of 16 pairs in {teacher_run / 'cache'}")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"cache.views": 0}, "cache.views=0 stores nothing, expected at least 1; add --config.cache"),
    ({"cache.views": -1}, "cache.views=-1 must be at least 0, for instance --config.cache.views=0"),
    ({"cache.dir": "/proc/self/x"}, "cannot be written: no permission in /proc/self; choose"),
    ({"teacher": ""}, "teacher='' must name a run folder; add --config.teacher=DIR"),
  ],
)
def test_what_cannot_be_filled_is_refused_in_one_line(changes, message, teacher_run, pairs, capsys):
  settings = {**STUDENT, "data.dir": pairs, "teacher": teacher_run, **changes}
  flags = [f"--config.{key}={value}" for key, value in settings.items()]
  before = stored(teacher_run)
  with pytest.raises(SystemExit) as stopped:
    cli.run(
      cache_teacher.main, ["--config=configs/xmodal/student.py:shoe304", *flags], has_workdir=False
    )
  said = capsys.readouterr().err
  assert stopped.value.code == 2 and message in said and said.splitlines()[-1].startswith("error: ")
  assert stored(teacher_run) == before


def test_a_batch_that_does_not_divide_by_the_devices_is_refused_before_filling(
  teacher_run, pairs, tmp_path, monkeypatch
):
  config = config_of("student", pairs, teacher=teacher_run, batch_size=6, mesh__fsdp=1)
  mesh = stages.make_mesh()
  four = type("FourDevices", (), {"size": 4, "local_devices": mesh.local_devices * 4})()
  monkeypatch.setattr(stages, "make_mesh", lambda **_: four)
  with pytest.raises(UserError, match="batch_size=6 must divide by 4 devices; nearest: 4 or 8"):
    stages.train_stage(config, str(tmp_path / "student"))
  assert not (teacher_run / "cache").exists() and not (tmp_path / "student").exists()

"""Saved steps that something happened to: known before use, set aside, and said."""

import json
import os
import shutil
import subprocess

import jax
import numpy as np
import pytest

from sbir import checkpoint, checksums, run_folder
from sbir.run_lock import locked
from sbir.train import set_damaged_aside
from sbir.types import UserError
from tests.toy import toy_train


@pytest.fixture(scope="module")
def eight_steps(tmp_path_factory):
  """A run folder with steps 4 and 8, and the parameters after 12."""
  folder = tmp_path_factory.mktemp("run")
  toy_train(folder / "eight", steps=8)
  straight = toy_train(folder / "straight", steps=12)
  return folder / "eight", jax.device_get(straight.params)


@pytest.fixture
def run(eight_steps, tmp_path):
  return shutil.copytree(eight_steps[0], tmp_path / "run")


def largest(folder):
  return max((path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)


def truncate(step):
  path = largest(step)
  os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(step):
  data = bytearray(largest(step).read_bytes())
  data[len(data) // 2] ^= 1
  largest(step).write_bytes(data)


def remove_a_file(step):
  largest(step).unlink()


def add_a_file(step):
  (step / "params" / "more").write_text("more")


DAMAGES = [truncate, flip_a_bit, remove_a_file, add_a_file]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_step_is_set_aside_and_the_run_goes_on_from_the_one_before(
  run, eight_steps, damage, capfd
):
  damage(run / "checkpoints" / "8")
  state = toy_train(run, steps=12)
  said = capfd.readouterr().err
  assert f"DAMAGED CHECKPOINT: step 8 of {run}" in said and "moved to" in said
  assert "resumed after step 4" in said
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params), eight_steps[1])
  assert (run / "damaged" / "8").is_dir()
  assert run_folder.saved_steps(run) == [8, 12]  # 8 was done, and saved, again


@pytest.mark.parametrize("damage", DAMAGES)
def test_who_reads_parameters_gets_those_before_and_moves_nothing(run, damage, capfd):
  damage(run / "checkpoints" / "8")
  before = checkpoint.restore_params(run, step=4)
  jax.tree.map(np.testing.assert_array_equal, checkpoint.restore_params(run), before)
  assert "DAMAGED CHECKPOINT: step 8" in capfd.readouterr().err
  assert run_folder.saved_steps(run) == [4, 8]


def test_a_run_folder_that_is_in_use_is_looked_at_by_nobody_else(run):
  """What a running training is just saving, or deleting, would look damaged."""
  truncate(run / "checkpoints" / "8")
  with locked(run), pytest.raises(UserError, match="in use by process"):
    set_damaged_aside(run)
  assert run_folder.saved_steps(run) == [4, 8] and not (run / "damaged").exists()
  set_damaged_aside(run)
  assert run_folder.saved_steps(run) == [4]


def test_when_all_are_damaged_the_run_begins_again_and_keeps_them_aside(run, eight_steps, capfd):
  for step in (4, 8):
    truncate(run / "checkpoints" / str(step))
  state = toy_train(run, steps=12)
  assert "resumed" not in capfd.readouterr().err
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params), eight_steps[1])
  assert sorted(path.name for path in (run / "damaged").iterdir()) == ["4", "8"]


def test_a_step_damaged_twice_is_kept_twice(run):
  for _ in range(2):
    truncate(run / "checkpoints" / "8")
    toy_train(run, steps=8)
  assert sorted(path.name for path in (run / "damaged").iterdir()) == ["8", "8_2"]


def test_a_step_whose_process_died_before_the_sums_were_written_is_used_if_it_can_be_read(
  run, eight_steps, capfd
):
  (run / "checksums" / "8.json").unlink()
  state = toy_train(run, steps=12)
  assert "resumed after step 8" in capfd.readouterr().err
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params), eight_steps[1])


@pytest.mark.parametrize("damage", [truncate, remove_a_file])
def test_without_sums_what_cannot_be_read_is_damaged_too(run, damage, capfd):
  (run / "checksums" / "8.json").unlink()
  damage(run / "checkpoints" / "8")
  toy_train(run, steps=12)
  assert "DAMAGED CHECKPOINT: step 8" in capfd.readouterr().err


def test_sums_are_kept_of_the_steps_that_are_there(tmp_path):
  toy_train(tmp_path, steps=14)
  assert sorted(path.name for path in (tmp_path / "checksums").iterdir()) == ["12.json", "14.json"]
  sums = json.loads((tmp_path / "checksums" / "14.json").read_text())
  assert all(len(digest) == 64 for _, digest in sums.values())
  assert checksums.damage(tmp_path, 14) == ""


@pytest.fixture
def small_disk(tmp_path):
  """A folder on a disk of two megabytes."""
  folder = tmp_path / "small"
  folder.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
  try:
    subprocess.run(mount, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError) as error:
    pytest.skip(f"no small disk can be mounted here ({error})")
  yield folder
  subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_stops_the_run_and_leaves_what_was_saved(small_disk, eight_steps):
  run = small_disk / "run"
  toy_train(run, steps=4)
  filler = small_disk / "filler"
  filler.write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize))
  with pytest.raises(UserError) as error:
    toy_train(run, steps=12)
  message = str(error.value)
  assert "the disk is full" in message or "No space left" in message
  filler.unlink()
  assert run_folder.saved_steps(run) == [4] and checksums.damage(run, 4) == ""
  state = toy_train(run, steps=12)
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params), eight_steps[1])


@pytest.mark.parametrize("is_seen_before", [True, False])
def test_a_disk_that_fills_while_a_step_is_saved_leaves_nothing_half_written(
  small_disk, monkeypatch, is_seen_before, capfd
):
  run = small_disk / "run"
  if not is_seen_before:
    monkeypatch.setattr(checkpoint.Checkpoints, "_check_room", lambda *_: None)
  batches_of = checkpoint.Checkpoints.save

  def fill_and_save(self, step, *arguments, **words):
    if step == 8:
      free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
      (small_disk / "filler").write_bytes(b"x" * (free - 4096))
    batches_of(self, step, *arguments, **words)

  monkeypatch.setattr(checkpoint.Checkpoints, "save", fill_and_save)
  with pytest.raises(UserError, match=r"checkpoint .*8 cannot be saved: the disk is full .*step 4"):
    toy_train(run, steps=12)
  assert [path.name for path in (run / "checkpoints").iterdir()] == ["4"]
  assert checksums.damage(run, 4) == ""
  assert "Traceback" not in capfd.readouterr().err

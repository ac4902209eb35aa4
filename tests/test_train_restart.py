"""Real processes, really killed: what a resumed run owes to the run that was never disturbed."""

import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from sbir import run_folder
from sbir.checkpoint import Checkpoints, read_arrays
from sbir.logs import TIMING_FIELDS, read_metrics
from tests.paths import REPO

FOUR_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}


def run_toy(workdir, *arguments, **environment):
  command = [sys.executable, "-m", "tests.toy", str(workdir), *arguments]
  environment = {**os.environ, **environment}
  return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """Run in one go, every program compiled anew."""
  workdir = tmp_path_factory.mktemp("straight")
  assert run_toy(workdir, JAX_ENABLE_COMPILATION_CACHE="false").returncode == 0
  return workdir


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
  """Killed as it made batch 11 (10 logged, 8 saved); resumed with programs from the cache."""
  workdir = tmp_path_factory.mktemp("resumed")
  cache = {
    "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  assert run_toy(workdir, "--kill-at", "11", **cache).returncode == -signal.SIGKILL
  assert [row["step"] for row in read_metrics(workdir)] == [2, 4, 6, 8, 10]
  again = run_toy(workdir, **cache)
  assert again.returncode == 0, again.stderr
  assert "resumed after step 8" in again.stderr
  return workdir


def saved(workdir, step, part):
  return read_arrays(workdir / "checkpoints" / str(step) / part)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["params", "rest"])
def test_a_resumed_run_ends_in_the_same_bits_as_the_straight_run(straight, resumed, part):
  jax.tree.map(np.testing.assert_array_equal, saved(straight, 14, part), saved(resumed, 14, part))


@pytest.mark.slow
def test_a_resumed_run_reads_the_same_batches(straight, resumed):
  position = "checkpoints/14/batches/metadata"
  assert (straight / position).read_text() == (resumed / position).read_text() != ""


@pytest.mark.slow
def test_a_resumed_run_leaves_the_same_metrics_but_for_the_clock(straight, resumed):
  def numbers(workdir):
    rows = read_metrics(workdir)
    return [{name: row[name] for name in row if name not in TIMING_FIELDS} for row in rows]

  assert numbers(straight) == numbers(resumed)
  assert [row["step"] for row in numbers(resumed)] == [2, 4, 6, 8, 10, 12, 14]


@pytest.mark.slow
def test_four_devices_train_as_one_and_one_goes_on_where_four_stopped(straight, tmp_path):
  for steps, environment in (("8", FOUR_DEVICES), ("14", {})):
    result = run_toy(tmp_path, "--steps", steps, **environment)
    assert result.returncode == 0, result.stderr
  one, four = saved(straight, 14, "params"), saved(tmp_path, 14, "params")
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, four)


def test_a_batch_that_does_not_divide_by_the_devices_is_refused(tmp_path):
  result = run_toy(tmp_path / "run", "--batch-size", "6", **FOUR_DEVICES)
  assert result.returncode == 2
  assert result.stderr == "error: batch_size=6 must divide by 4 devices; nearest: 4 or 8\n"
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("is_resumed", [False, True], ids=["straight", "resumed"])
def test_the_step_with_the_highest_score_stays_although_others_follow(tmp_path, is_resumed):
  params, rest = {"a": np.zeros(2)}, {"step": np.int32(0)}
  saves = [(2, 0.9), (4, 0.1), (5, None), (6, 0.2)]
  parts = [saves[:1], saves[1:]] if is_resumed else [saves]
  for part in parts:
    with Checkpoints(tmp_path, keep=1) as checkpoints:
      for step, score in part:
        checkpoints.save(step, params, rest, {}, score=score)
  assert run_folder.saved_steps(tmp_path) == [2, 6]

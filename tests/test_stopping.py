"""Asked to stop, a run finishes its step, saves, and goes on when it is started again."""

import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from sbir import run_folder
from sbir.checkpoint import read_arrays
from sbir.logs import TIMING_FIELDS, read_metrics
from tests.paths import REPO
from tests.several import free_port

STEPS = 40


def start(workdir, *arguments, devices=1):
  command = [sys.executable, "-m", "tests.toy", str(workdir), "--steps", str(STEPS), *arguments]
  environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)}
  return subprocess.Popen(command, cwd=REPO, env=environment, stderr=subprocess.PIPE, text=True)


def start_two(workdir, *arguments):
  port = free_port()
  several = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", "2", "--process-id"]
  return [start(workdir, *arguments, *several, str(index)) for index in range(2)]


def wait_for_step(workdir, step, process):
  """Returns when the run has logged a step; it logs every second one."""
  deadline = time.time() + 120
  while not any(row["step"] >= step for row in read_metrics(workdir)):
    assert process.poll() is None, process.stderr.read()
    assert time.time() < deadline
    time.sleep(0.02)


def finish(*processes):
  return [process.communicate(timeout=120)[1] for process in processes]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("straight")
  process = start(workdir)
  finish(process)
  assert process.returncode == 0
  return workdir


def check_same(workdir, straight):
  for part in ("params", "rest"):
    one, other = (read_arrays(w / "checkpoints" / str(STEPS) / part) for w in (workdir, straight))
    jax.tree.map(np.testing.assert_array_equal, one, other)
  rows, expected = (
    [{n: x for n, x in row.items() if n not in TIMING_FIELDS} for row in read_metrics(w)]
    for w in (workdir, straight)
  )
  assert rows == expected


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_bit_for_bit(tmp_path, straight, number):
  process = start(tmp_path, "--delay", "0.1")
  wait_for_step(tmp_path, 2, process)
  process.send_signal(number)
  (said,) = finish(process)
  assert process.returncode == 75, said
  step = run_folder.latest_step(tmp_path)
  assert 2 <= step < STEPS
  assert f"{number.name}: stopping after this step, and saving; once more stops at once" in said
  assert f"stopped after step {step} of {STEPS}, saved; run the same command again" in said
  assert "Traceback" not in said
  process = start(tmp_path)
  (said,) = finish(process)
  assert process.returncode == 0 and f"resumed after step {step}" in said
  check_same(tmp_path, straight)


@pytest.mark.slow
def test_asked_twice_a_run_stops_at_once(tmp_path):
  process = start(tmp_path, "--delay", "3")
  wait_for_step(tmp_path, 2, process)  # it sleeps while it makes the next batch
  process.send_signal(signal.SIGTERM)
  while "once more stops at once" not in process.stderr.readline():
    assert process.poll() is None
  process.send_signal(signal.SIGTERM)
  finish(process)
  assert process.returncode == -signal.SIGTERM


@pytest.mark.slow
def test_of_two_processes_one_is_asked_and_both_stop_after_the_same_step(tmp_path, straight):
  both = start_two(tmp_path, "--delay", "0.1")
  wait_for_step(tmp_path, 2, both[0])
  both[1].send_signal(signal.SIGTERM)
  said = finish(*both)
  assert [process.returncode for process in both] == [75] * 2, said
  step = run_folder.latest_step(tmp_path)
  assert 2 <= step < STEPS
  both = start_two(tmp_path)
  said = finish(*both)
  assert [process.returncode for process in both] == [0, 0], said
  assert f"resumed after step {step}" in said[0] and "resumed" not in said[1]
  one, other = (
    read_arrays(w / "checkpoints" / str(STEPS) / "params") for w in (tmp_path, straight)
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), one, other)

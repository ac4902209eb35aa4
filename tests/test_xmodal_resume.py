"""XModalViT's mains go on as if never stopped."""

import signal

import jax
import numpy as np
import pytest

from sbir.checkpoint import Checkpoints, read_arrays
from sbir.logs import TIMING_FIELDS, read_metrics
from tests.xmodal_runs import KILLED, RESTART, arguments, make_pairs, start
from xmodal import queue


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
  """(run without a pause, run killed after step 3, of which step 2 was saved)."""
  folder = tmp_path_factory.mktemp("restart")
  settings = {**RESTART, "data.dir": make_pairs(folder / "data"), "steps": 6}
  straight, resumed = folder / "straight", folder / "resumed"
  command = lambda workdir: arguments("teacher.py:shoe304", workdir, settings)
  done = start("-m", "xmodal.train_teacher", *command(straight))
  assert done.returncode == 0, done.stderr
  killed = KILLED.format(method="xmodal", main="train_teacher")
  assert start("-c", killed, *command(resumed)).returncode == -signal.SIGKILL
  assert [row["step"] for row in read_metrics(resumed)] == [1, 2, 3]
  done = start("-m", "xmodal.train_teacher", *command(resumed))
  assert done.returncode == 0, done.stderr
  assert "resumed after step 2" in done.stderr
  return straight, resumed


@pytest.fixture(scope="module")
def students(teachers, tmp_path_factory):
  """(sketch student without a pause, sketch student stopped after step 3)."""
  folder, teacher = tmp_path_factory.mktemp("restart"), teachers[0]
  settings = {**RESTART, "data.dir": teacher.parent / "data", "teacher": teacher}
  settings.pop("model.fusion_depth")
  straight, resumed = folder / "straight", folder / "resumed"
  for workdir, steps in ((straight, 6), (resumed, 3), (resumed, 6)):
    flags = arguments("student.py:shoe304", workdir, {**settings, "steps": steps})
    done = start("-m", "xmodal.train_sketch_student", *flags)
    assert done.returncode == 0, done.stderr
  return straight, resumed


@pytest.fixture(params=["teachers", "students"])
def pair_of_runs(request):
  return request.getfixturevalue(request.param)


def saved(workdir, part):
  return read_arrays(workdir / "checkpoints" / "6" / part)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["params", "rest"])
def test_a_resumed_run_ends_in_the_bits_of_the_straight_one(pair_of_runs, part):
  straight, resumed = (saved(workdir, part) for workdir in pair_of_runs)
  jax.tree.map(np.testing.assert_array_equal, straight, resumed)


@pytest.mark.slow
def test_what_is_compared_holds_optimiser_key_and_a_queue_gone_round(pair_of_runs):
  rest = saved(pair_of_runs[0], "rest")
  assert rest["step"] == 6
  assert rest.keys() >= {"opt_state", "extra", "key"}
  for name, held in rest["extra"].items():
    assert name.endswith("queue")
    assert held["ids"].min() >= 0 and held["next"] == 6 * 8 % 12


@pytest.mark.slow
def test_a_resumed_run_has_seen_the_same_data_and_logged_the_same_numbers(pair_of_runs):
  rows = [
    [{name: row[name] for name in row if name not in TIMING_FIELDS} for row in read_metrics(run)]
    for run in pair_of_runs
  ]
  assert rows[0] == rows[1]
  assert [row["step"] for row in rows[0]] == [1, 2, 3, 4, 5, 6]
  assert [row["step"] for row in rows[0] if "test_acc@1" in row] == [3, 6]
  positions = [(workdir / "checkpoints/6/batches/metadata").read_text() for workdir in pair_of_runs]
  assert positions[0] == positions[1] != ""


def test_an_empty_queue_can_be_saved_and_restored(tmp_path):
  rest = {"extra": {"queue": queue.start(jax.random.key(0), 0, 4)}, "step": np.int32(1)}
  rest = jax.tree.map(jax.numpy.asarray, rest)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, {"w": jax.numpy.ones(2)}, rest, {})
    shapes = jax.eval_shape(lambda: ({"w": jax.numpy.ones(2)}, rest))
    restored = checkpoints.restore(1, *shapes)[1]
  assert jax.tree.map(lambda leaf: leaf.shape, restored) == jax.tree.map(lambda x: x.shape, rest)

"""Who learns what in each task, and that four devices make no difference."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.paths import REPO
from tests.xmodal_tiny import (
  make_batch,
  make_student,
  make_teacher,
  quick_jit,
  run_steps,
  start,
  student_task,
  teacher_task,
  two_steps_of_both,
  unit,
)
from xmodal import losses

WEIGHTS = {"xaqc": 2.0, "distance": 3.0, "angle": 5.0}
TASKS = {
  "teacher": lambda: teacher_task(),
  "symmetric teacher": lambda: teacher_task(symmetric=True),
  "teacher of both sketches": lambda: teacher_task(symmetric=True, both_sketches=True),
  "photo student": lambda: student_task(start(teacher_task())[0], "photo", **WEIGHTS),
  "sketch student": lambda: student_task(start(teacher_task())[0], "sketch", **WEIGHTS),
  "released sketch student": lambda: student_task(
    start(teacher_task())[0], "sketch", target="photo"
  ),
}


@functools.cache
def outcome(name):
  """Returns the loss, what else it returns, and the largest gradient of all it is given."""
  task, batch = TASKS[name](), make_batch(dtype=np.float32)
  params, extra = start(task, seed=1)
  given = {"extra": extra, "frozen": task.frozen(None, None), **batch}

  def loss_of(given):
    images = {entry: given[entry] for entry in batch}
    return task.loss(params, given["extra"], given["frozen"], images, jax.random.key(0))

  run = quick_jit(jax.value_and_grad(loss_of, has_aux=True, allow_int=True))
  (loss, out), grads = run(given)
  return loss, out, {entry: largest(grads[entry]) for entry in given if entry != "id"}


def largest(grads):
  floats = [x for x in jax.tree.leaves(grads) if x.dtype == jnp.float32]
  return max((float(np.abs(x).max()) for x in floats), default=0.0)


@pytest.mark.parametrize(
  ("task", "learns_from"),
  [
    ("teacher", {"photo", "sketch"}),  # the anchor; sketch_positive is in the keys alone
    ("symmetric teacher", {"photo", "sketch", "sketch_positive"}),
    ("photo student", {"photo"}),
    ("sketch student", {"sketch", "sketch_positive"}),
  ],
)
def test_a_task_learns_from_its_queries_and_not_from_keys_queue_or_teacher(task, learns_from):
  *_, grads = outcome(task)
  assert {name for name, size in grads.items() if size > 1e-6} == learns_from
  assert all(size == 0.0 for name, size in grads.items() if name not in learns_from)


def test_a_teacher_of_both_sketches_does_not_care_which_is_the_anchor():
  task, batch = TASKS["teacher of both sketches"](), make_batch(dtype=np.float32)
  params, extra = start(task, seed=1)
  loss_of = quick_jit(lambda batch: task.loss(params, extra, {}, batch, jax.random.key(0))[0])
  swapped = {**batch, "sketch": batch["sketch_positive"], "sketch_positive": batch["sketch"]}
  assert float(loss_of(batch)) == pytest.approx(float(loss_of(swapped)), rel=1e-5)
  assert float(loss_of(batch)) != pytest.approx(float(outcome("symmetric teacher")[0]), rel=1e-5)


@pytest.mark.parametrize(
  ("task", "branch"), [("photo student", 0), ("sketch student", 1), ("released sketch student", 0)]
)
def test_a_students_key_is_the_fused_vector_of_the_branch_it_is_given(task, branch):
  pushed = outcome(task)[1].extra["queue"]
  expected = fused_with("sketch")[branch]
  np.testing.assert_allclose(pushed.keys[: len(expected)], unit(expected), atol=1e-5)
  np.testing.assert_array_equal(pushed.ids[: len(expected)], make_batch()["id"])


def test_a_photo_students_terms_are_those_of_the_method():
  points, targets = embedded("photo student", "photo"), fused_with("sketch")[0]
  assert_terms("photo student", points, targets, points, targets)


def test_a_sketch_students_angles_are_those_of_both_sketches_of_each_pair():
  anchor, positive = (embedded("sketch student", n) for n in ("sketch", "sketch_positive"))
  targets = [fused_with(name)[1] for name in ("sketch", "sketch_positive")]
  both = np.concatenate([anchor, positive])
  assert_terms("sketch student", anchor, targets[0], both, np.concatenate(targets))


def assert_terms(name, points, targets, angle_points, angle_targets):
  loss, out, _ = outcome(name)
  keys = start(TASKS[name](), seed=1)[1]["queue"]
  expected = {
    "xaqc": losses.xaqc(unit(points), unit(targets), make_batch()["id"], keys),
    "xmrd_distance": losses.xmrd_distance(points, targets),
    "xmrd_angle": losses.xmrd_angle(angle_points, angle_targets),
  }
  expected = {term: float(value) for term, value in expected.items()}
  found = {term: float(value) for term, value in out.metrics.items()}
  assert found == pytest.approx(expected, rel=1e-4)
  total = sum(w * e for w, e in zip(WEIGHTS.values(), expected.values(), strict=True))
  assert float(loss) == pytest.approx(total, rel=1e-4)


def view(name):
  return 2 * make_batch(dtype=np.float32)[name] - 1  # as published: (x - .5) / .5


@functools.cache
def run_of(model):
  return quick_jit(lambda params, *images: model.apply({"params": params}, *images))


def fused_with(sketch):
  """Returns the teacher's z_p and z_s of the photos and these sketches."""
  params = start(teacher_task())[0]
  return [np.asarray(z) for z in run_of(make_teacher())(params, view("photo"), view(sketch))]


def embedded(task, image):
  """Returns what the student makes of these images, before it is normalised."""
  return np.asarray(run_of(make_student())(start(TASKS[task](), seed=1)[0], view(image)))


def test_three_student_steps_leave_the_teacher_as_it_was():
  teacher_params, _ = start(teacher_task())
  task = student_task(teacher_params)
  state, frozen, _ = run_steps(task, 3)
  jax.tree.map(np.testing.assert_array_equal, frozen, teacher_params)
  fresh, _ = start(task, seed=1)
  moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.params, fresh)
  assert all(jax.tree.leaves(moved))


@pytest.mark.slow
def test_four_devices_train_teacher_and_student_as_one_does(tmp_path):
  # Programs that are compiled in less time and run in more give the same numbers.
  flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
  command = [sys.executable, "-m", "tests.xmodal_tiny", str(tmp_path / "four.npz")]
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
  subprocess.run(command, cwd=REPO, env=environment, check=True)
  one, four = two_steps_of_both(), dict(np.load(tmp_path / "four.npz"))
  assert (one.pop("num_devices"), four.pop("num_devices")) == (1, 4)
  assert set(one) == set(four)
  for name, value in one.items():
    np.testing.assert_allclose(four[name], value, rtol=1e-5, atol=1e-5, err_msg=name)

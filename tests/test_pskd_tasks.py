"""What PSKD's two stages minimise, who learns in them, and that micro-batches change nothing."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pskd import losses
from pskd.prototypes import correlation_matrix, prototypes_of
from pskd.tasks import Batching, StudentTask
from pskd.views import plain_view
from sbir.accumulate import accumulated, split
from tests.paths import REPO
from tests.pskd_tiny import (
  AS_IT_IS,
  PLAIN,
  make_batch,
  make_net,
  random_params,
  recipe,
  run_steps,
  student_task,
  teacher_task,
)
from tests.xmodal_tiny import quick_jit

KEY = jax.random.key(0)
QUICKLY = "--xla_backend_optimization_level=0"
NO_ILA = {"ila": 0.0}


def outcome(task, batch, key=KEY):
  """Returns the loss, the metrics, and the gradients by parameters and by what is frozen."""

  def loss_of(params, frozen):
    loss, out = task.loss(params, {}, frozen, batch, key)
    return loss, out.metrics

  run = quick_jit(jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True))
  (loss, metrics), grads = run(random_params(task.model), task.frozen(key, batch))
  return float(loss), {name: float(value) for name, value in metrics.items()}, *grads


def terms(task, params, images, labels):
  """Returns {term: (weight, value)} of one micro-batch, each term as the method defines it."""
  view = plain_view(images, PLAIN)
  out = task.model.apply({"params": params}, view)
  named = {"ce": losses.smoothed_cross_entropy(out.logits, labels)}
  if not isinstance(task, StudentTask):
    return {"ce": (1.0, named["ce"])}
  logits = task.teacher.apply({"params": task.teacher_params}, view).logits
  matrix = correlation_matrix(prototypes_of(params), clip_negative=task.clip_negative)
  targets = losses.selective_targets(logits, labels, matrix if task.correlation else None)
  named["skd"] = losses.selective_distillation(out.logits, targets)
  named["ila"] = losses.instance_adaptive(
    prototypes_of(params), out.bottleneck, labels, group=task.ila_group
  )
  return {name: (getattr(task, name), value) for name, value in named.items()}


def by_hand(task, batch, of_photos):
  """Returns the loss and its gradient where photos have the share `of_photos`, all in one go."""

  def loss_of(params):
    of = lambda name: sum(
      weight * value
      for weight, value in terms(task, params, batch[name], batch[f"{name}_label"]).values()
    )
    return of_photos * of("photo") + (1 - of_photos) * of("sketch")

  loss, grads = quick_jit(jax.value_and_grad(loss_of))(random_params(task.model))
  return float(loss), grads


def assert_same(ours, theirs):
  assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * max(np.abs(b).max(), 1))
  jax.tree.map(close, ours[1], theirs[1])


# --- photos, sketches and micro-batches -----------------------------------------------------------

STAGES = {"teacher": teacher_task, "student": functools.partial(student_task, **NO_ILA)}
SPLIT, WHOLE = Batching(8, 2), Batching(1, 1)


@functools.cache
def of_stage(stage, batching):
  """Returns the task, a batch and the outcome."""
  task, batch = STAGES[stage](batching), make_batch(8, 8 // batching.skt_factor)
  return task, batch, outcome(task, batch)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("batching", "of_photos"), [(SPLIT, 2 / 3), (WHOLE, 1 / 2)], ids=str)
def test_the_step_is_the_gradient_of_the_weighted_mean_in_one_go(stage, batching, of_photos):
  task, batch, (loss, _, grads, _) = of_stage(stage, batching)
  assert_same((loss, grads), by_hand(task, batch, of_photos))


def test_with_instance_learning_too_if_its_groups_are_the_same_samples():
  batch = make_batch(8, 8)
  loss, _, grads, _ = outcome(student_task(Batching(4, 1), ila_group=2), batch)
  rows = np.arange(8).reshape(2, 4).T.ravel()  # micro-batch i holds rows i and i + 4
  alike = {name: value[rows] for name, value in batch.items()}
  assert_same((loss, grads), by_hand(student_task(ila_group=2), alike, 1 / 2))
  other, _, _, _ = outcome(student_task(ila_group=2), batch)
  assert abs(other - loss) > 1e-3


def test_rows_of_a_micro_batch_are_as_far_apart_as_there_are_micro_batches():
  parts = np.asarray(split(jnp.arange(8), 4))
  assert parts.tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_an_evaluation_of_the_loss_alone_is_that_which_is_differentiated():
  task, batch, (expected, *_) = of_stage("student", SPLIT)
  alone = quick_jit(lambda params: task.loss(params, {}, task.teacher_params, batch, KEY)[0])
  assert float(alone(random_params(task.model))) == pytest.approx(expected, rel=1e-6)


def test_accumulated_gradients_are_those_of_the_plain_mean():
  draw = np.random.default_rng(0)
  params = {"w": draw.normal(size=(3, 2)), "b": draw.normal(size=2)}
  micro_batches = {"x": draw.normal(size=(4, 5, 3)), "y": draw.normal(size=(4, 5, 2))}

  def loss_of(params, batch):
    error = jnp.tanh(batch["x"] @ params["w"] + params["b"]) - batch["y"]
    return jnp.mean(error**2), {"largest": jnp.abs(error).max()}

  def ours(params):
    loss, metrics = accumulated(loss_of, params, micro_batches)
    return 3 * loss**2 + 7 * jax.lax.stop_gradient(metrics["largest"]), metrics

  def plain(params):
    one_by_one = [loss_of(params, {n: x[i] for n, x in micro_batches.items()}) for i in range(4)]
    loss = sum(loss for loss, _ in one_by_one) / 4
    largest = sum(metrics["largest"] for _, metrics in one_by_one) / 4
    return 3 * loss**2 + 7 * jax.lax.stop_gradient(largest), {"largest": largest}

  found, expected = (
    quick_jit(jax.value_and_grad(function, has_aux=True))(params) for function in (ours, plain)
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_eight_micro_batches_need_a_fraction_of_the_memory_of_one():
  def memory(accumulation):
    task, batch = teacher_task(Batching(accumulation, 1), model=make_net()), make_batch(64, 64)
    loss_of = lambda params, batch: task.loss(params, {}, {}, batch, KEY)[0]
    program = quick_jit(jax.grad(loss_of)).lower(random_params(task.model), batch).compile()
    return program.memory_analysis().temp_size_in_bytes

  assert memory(8) < memory(1) / 3


@pytest.mark.parametrize("stage", STAGES)
def test_every_step_draws_its_views_anew_and_one_key_draws_the_same(stage):
  batch = make_batch(4, 2)
  task = STAGES[stage](Batching(2, 2), recipe(**AS_IT_IS | {"flip": 0.5}))
  params, frozen = random_params(task.model), task.frozen(KEY, batch)
  loss_of = quick_jit(lambda key: task.loss(params, {}, frozen, batch, key)[0])
  drawn = [float(loss_of(jax.random.key(seed))) for seed in (1, 1, 2, 3)]
  assert drawn[0] == drawn[1]
  assert len(set(drawn)) > 1


# --- who learns -----------------------------------------------------------------------------------


def test_three_student_steps_leave_the_teacher_as_it_was():
  task = student_task(Batching(2, 2))
  before = jax.tree.map(np.copy, task.teacher_params)
  state, frozen, _ = run_steps(task, [make_batch(seed=seed) for seed in range(3)])
  jax.tree.map(np.testing.assert_array_equal, frozen, before)
  jax.tree.map(np.testing.assert_array_equal, task.teacher_params, before)
  fresh = random_params(task.model, seed=1)
  moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), state.params, fresh)
  assert all(jax.tree.leaves(moved))


def test_no_gradient_reaches_the_teacher():
  *_, (*_, of_teacher) = of_stage("student", WHOLE)
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(of_teacher))


def test_distillation_moves_prototypes_as_if_their_correlation_were_a_constant():
  task, batch = student_task(ce=0.0, ila=0.0), make_batch(8, 8)
  params = random_params(task.model)
  constant = np.array(correlation_matrix(prototypes_of(params)))

  def loss_of(params):
    total = 0.0
    for name in ("photo", "sketch"):
      view = plain_view(batch[name], PLAIN)
      logits = task.teacher.apply({"params": task.teacher_params}, view).logits
      targets = losses.selective_targets(logits, batch[f"{name}_label"], constant)
      student_logits = task.model.apply({"params": params}, view).logits
      total += losses.selective_distillation(student_logits, targets) / 2
    return total

  loss, _, grads, _ = outcome(task, batch)
  expected, of_params = quick_jit(jax.value_and_grad(loss_of))(params)
  assert_same((loss, grads), (float(expected), of_params))
  assert np.abs(prototypes_of(grads)).max() > 1e-3


# --- what the switches do -------------------------------------------------------------------------

SWITCHES = {
  "published": {},
  "weighted": {"skd": 2.0, "ce": 3.0, "ila": 5.0},
  "plain distillation": {"correlation": False},
  "clipped": {"clip_negative": True},
  "no distillation": {"skd": 0.0},
  "no cross-entropy": {"ce": 0.0},
  "no instance learning": NO_ILA,
  "groups": {"ila_group": 2},
}


@functools.cache
def switched(name):
  """Returns the loss, the metrics and whether the teacher is asked, for one of SWITCHES."""
  batch, task = make_batch(8, 8), student_task(**SWITCHES[name])
  run = quick_jit(lambda frozen: task.loss(random_params(task.model), {}, frozen, batch, KEY))
  loss, out = run(task.teacher_params)
  other, _ = run(random_params(task.teacher, seed=8))
  return float(loss), {n: float(v) for n, v in out.metrics.items()}, float(other) != float(loss)


@pytest.mark.parametrize("name", SWITCHES)
def test_the_loss_is_the_weighted_sum_of_the_terms_that_are_on(name):
  batch, task = make_batch(8, 8), student_task(**SWITCHES[name])
  values = quick_jit(
    lambda params: [terms(task, params, batch[n], batch[f"{n}_label"]) for n in ("photo", "sketch")]
  )(random_params(task.model))
  loss, metrics, _ = switched(name)
  means = {term: np.mean([float(part[term][1]) for part in values]) for term in values[0]}
  weights = {term: float(weight) for term, (weight, _) in values[0].items()}
  assert loss == pytest.approx(sum(weights[term] * means[term] for term in means), rel=1e-5)
  on = {term: value for term, value in means.items() if weights[term] or term == "ce"}
  assert metrics == pytest.approx(on | {"accuracy": metrics["accuracy"]}, rel=1e-5)


def test_every_switch_makes_another_loss():
  assert len({round(switched(name)[0], 5) for name in SWITCHES}) == len(SWITCHES)


@pytest.mark.parametrize("name", SWITCHES)
def test_the_teacher_is_asked_only_where_there_is_distillation(name):
  assert switched(name)[2] == (name != "no distillation")


def test_accuracy_is_the_share_of_photos_and_sketches_whose_largest_logit_is_right():
  task, batch, (_, metrics, *_) = of_stage("teacher", WHOLE)
  params = random_params(task.model)
  apply = quick_jit(lambda images: task.model.apply({"params": params}, plain_view(images, PLAIN)))
  right = [
    np.argmax(apply(batch[name]).logits, axis=1) == batch[f"{name}_label"]
    for name in ("photo", "sketch")
  ]
  assert metrics == {"accuracy": pytest.approx(np.mean(right))}


def test_an_embedding_is_the_unit_fusion_token_of_what_the_batch_holds():
  task = teacher_task()
  params, images = random_params(task.model), make_batch()["sketch"]
  found = quick_jit(task.embed)(params, {"sketch": images})
  assert set(found) == {"sketch"}
  fusion = task.model.apply({"params": params}, plain_view(images, PLAIN)).fusion
  unit = fusion / np.linalg.norm(fusion, axis=1, keepdims=True)
  np.testing.assert_allclose(found["sketch"], unit, atol=1e-5)


# --- devices --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_four_devices_train_a_student_as_one_does(tmp_path):
  # Programs that are compiled in less time and run in more give the same numbers.
  processes = {
    num: subprocess.Popen(
      [sys.executable, "-m", "tests.pskd_tiny", str(tmp_path / f"{num}.npz")],
      cwd=REPO,
      env={**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={num} {QUICKLY}"},
    )
    for num in (1, 4)
  }
  assert [process.wait(600) for process in processes.values()] == [0, 0]
  one, four = (dict(np.load(tmp_path / f"{num}.npz")) for num in processes)
  assert (one.pop("num_devices"), four.pop("num_devices")) == (1, 4)
  assert set(one) == set(four)
  for name, value in one.items():
    np.testing.assert_allclose(four[name], value, rtol=1e-5, atol=1e-5, err_msg=name)

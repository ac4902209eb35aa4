"""PSKD against numbers computed with the authors' published code (PSKD@a505f9f)."""

import ast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pskd import losses
from pskd.model import Head, TwoTokenNet, TwoTokenViT, released_positions
from pskd.optimizer import with_tables
from pskd.pretrained import convert_released
from pskd.prototypes import correlation_matrix
from pskd.tasks import Batching, StudentTask
from sbir import mesh, trees
from sbir.optim import cosine_table, tabled
from sbir.step import TrainState, make_train_step
from tests.paths import GOLDENS, needs_shared

pytestmark = needs_shared
FORMS = ["plain_pos", "dino_pos"]


@pytest.fixture(scope="module")
def golden():
  with jax.default_matmul_precision("highest"):
    yield dict(np.load(GOLDENS / "pskd_a.npz"))


@pytest.fixture(scope="module")
def sizes(golden):
  return ast.literal_eval(str(golden["config"]))


def network(sizes, form):
  backbone = TwoTokenViT(
    sizes["dim"],
    sizes["depth"],
    sizes["num_heads"],
    sizes["patch_size"],
    resample_positions=form == "dino_pos",
  )
  return TwoTokenNet(
    backbone, Head(sizes["num_classes"], sizes["head_hidden"], sizes["bottleneck"])
  )


def params_of(golden, sizes, whose):
  prefix = f"{whose}/"
  entries = {n.removeprefix(prefix): x for n, x in golden.items() if n.startswith(prefix)}
  side = sizes["image_size"]
  fresh = jax.eval_shape(
    lambda: network(sizes, "plain_pos").init(jax.random.key(0), jnp.zeros((1, side, side, 3)))
  )["params"]
  loaded = convert_released(entries, num_heads=sizes["num_heads"], what="golden").params
  return trees.merge(fresh, loaded, what="golden")


def images(golden, name):
  return golden[name].transpose(0, 1, 3, 4, 2)


@pytest.fixture(scope="module")
def outputs(golden, sizes):
  """Returns {(network, form): Output} for the first micro-batch of photos."""
  photos = images(golden, "photo")[0, : sizes["micro_batch"]]
  return {
    (whose, form): network(sizes, form).apply({"params": params_of(golden, sizes, whose)}, photos)
    for whose in ("student", "teacher")
    for form in FORMS
  }


def close(ours, theirs, tolerance=1e-5):
  np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize(("form", "suffix"), [("plain_pos", "_plain_pos"), ("dino_pos", "")])
@pytest.mark.parametrize("token", ["dist", "fusion"])
def test_tokens(outputs, golden, form, suffix, token):
  close(getattr(outputs["student", form], token), golden[f"{token}_token{suffix}"])


def test_effective_positions(golden):
  ours = released_positions(golden["student/backbone.pos_embed"])
  close(ours, golden["pos_embed_effective"])
  assert np.abs(ours - golden["student/backbone.pos_embed"]).max() > 0.001


def test_logits_and_bottleneck(outputs, golden):
  close(outputs["student", "dino_pos"].logits, golden["logits"])
  close(outputs["student", "dino_pos"].bottleneck, golden["bottleneck"])
  close(outputs["teacher", "dino_pos"].logits, golden["teacher_logits"])


def test_correlation(golden):
  close(correlation_matrix(golden["student/head_fusion.fc.weight"]), golden["correlation"])


def test_the_three_losses(golden, sizes):
  labels = golden["photo_label"][0, : sizes["micro_batch"]]
  targets = losses.selective_targets(golden["teacher_logits"], labels, golden["correlation"])
  close(losses.selective_distillation(golden["logits"], targets), golden["skd"])
  close(losses.smoothed_cross_entropy(golden["logits"], labels), golden["ls_ce"])
  prototypes = golden["student/head_fusion.fc.weight"]
  close(losses.instance_adaptive(prototypes, golden["bottleneck"], labels), golden["ila"])


def in_our_order(rows, num):
  """Returns rows, of `num` micro-batches one after another, as our striding micro-batches them."""
  return rows.reshape(num, -1, *rows.shape[1:]).swapaxes(0, 1).reshape(rows.shape)


def batches(golden, sizes):
  """Yields the batches of the trace, images as floats in [0, 1] where the view leaves them."""
  accumulation = sizes["accumulation"]
  nums = {"photo": accumulation, "sketch": accumulation // sizes["skt_factor"]}
  for step in range(3):
    yield {
      name + suffix: in_our_order(rows[step], nums[name])
      for name in nums
      for suffix, rows in (
        ("", images(golden, name)),
        ("_label", golden[f"{name}_label"].astype(np.int32)),
      )
    }


def test_schedules_exactly(golden):
  rates = cosine_table(5e-4, 1e-6, 80, warmup_steps=20)
  np.testing.assert_array_equal(rates, golden["lr_schedule"])
  np.testing.assert_array_equal(cosine_table(0.04, 0.4, 80), golden["wd_schedule"])
  stage1 = cosine_table(1e-3, 1e-6, 50, warmup_steps=50)
  np.testing.assert_array_equal(stage1, golden["lr_schedule_stage1"])


@pytest.mark.parametrize("form", FORMS)
def test_three_steps_of_the_published_optimiser(golden, sizes, form, monkeypatch):
  monkeypatch.setattr("pskd.tasks.training_view", lambda key, images, recipe, size: images)
  model = network(sizes, form)
  student = params_of(golden, sizes, "student")
  task = StudentTask(
    model,
    model,
    params_of(golden, sizes, "teacher"),
    recipe=None,
    image_size=sizes["image_size"],
    batching=Batching(sizes["accumulation"], sizes["skt_factor"]),
    smoothing=0.1,
    ila_group=0,
    correlation=True,
    clip_negative=False,
    skd=1.0,
    ce=1.0,
    ila=1.0,
  )
  rates, decays = tabled(golden["trace_lrs"]), tabled(golden["trace_wds"])
  clips = golden["trace_clip"]
  state = TrainState(np.int32(0), student, None, {}, jax.random.key(0))
  opt_state, found = None, []
  optimizers = {
    clip: with_tables(rates, decays, backbone_lr=0.1, clip_grad=float(clip)) for clip in set(clips)
  }
  steps = {clip: make_train_step(task, each, mesh.make_mesh()) for clip, each in optimizers.items()}
  for clip, batch in zip(clips, batches(golden, sizes), strict=True):
    opt_state = optimizers[clip].init(student) if opt_state is None else opt_state
    step = steps[clip]
    state = mesh.put_replicated(state._replace(opt_state=opt_state), mesh.make_mesh())
    frozen = task.frozen(jax.random.key(0), batch)
    state, metrics = step(state, frozen, batch)
    opt_state = state.opt_state
    found.append(metrics["loss"])
  close(np.array(found), golden[f"trace_losses_{form}"], 1e-4)
  photos = images(golden, "photo")[0, : sizes["micro_batch"]]
  logits = model.apply({"params": state.params}, photos).logits
  close(logits, golden[f"trace_logits_{form}"], 1e-4)

"""PSKD's AdamW: rates and decays as published, four groups, each tensor clipped by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pskd.optimizer import make_optimizer, with_tables
from sbir.optim import clip_each, cosine_table, decay_mask, tabled

STEPS = 4
PARAMS = {
  "backbone": {"norm": {"scale": (3,)}, "fusion_token": (1, 1, 3), "fc": {"kernel": (3, 2)}},
  "head": {"classifier": {"kernel": (2, 4), "bias": (4,)}},
}
PUBLISHED = {
  "lr": 1e-3,
  "min_lr": 1e-6,
  "backbone_lr": 0.1,
  "weight_decay": 0.04,
  "weight_decay_end": 0.4,
  "clip_grad": 3.0,
}


def drawn(seed):
  draw = np.random.default_rng(seed)
  is_shape = lambda entry: isinstance(entry, tuple)
  return jax.tree.map(lambda shape: draw.normal(size=shape), PARAMS, is_leaf=is_shape)


GRADIENTS = [drawn(seed) for seed in range(1, 1 + STEPS)]
for row in GRADIENTS:
  row["head"]["classifier"]["kernel"] *= 10  # of all tensors this one is clipped


def run(optimizer, gradients=GRADIENTS):
  """Returns the parameters after an update by each of the gradients."""
  params = jax.tree.map(jnp.float32, drawn(0))
  state, update = optimizer.init(params), jax.jit(optimizer.update)
  for row in gradients:
    updates, state = update(jax.tree.map(jnp.float32, row), state, params)
    params = optax.apply_updates(params, updates)
  return params


def adamw(param, gradients, rates, decays, *, share, clip):
  """The published update of one tensor, written out in float64."""
  first = second = np.zeros_like(param)
  for step, (grad, rate, decay) in enumerate(zip(gradients, rates, decays, strict=True), start=1):
    if clip:
      grad = grad * min(1.0, clip / (np.linalg.norm(grad) + 1e-6))
    first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
    adam = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    param = param - share * rate * (adam + (decay * param if param.ndim > 1 else 0))
  return param


@pytest.mark.parametrize("clip", [3.0, 0.0], ids=["clipped", "not clipped"])
def test_four_updates_are_those_of_the_published_optimiser_written_out(clip):
  optimizer = make_optimizer(steps=STEPS, warmup_steps=2, **PUBLISHED | {"clip_grad": clip})
  line, turn = [0, 1e-3], 0.5 * (1 + np.cos(np.pi * np.arange(2) / 2))
  rates = [*line, *(1e-6 + (1e-3 - 1e-6) * turn)]
  decays = 0.4 + (0.04 - 0.4) * 0.5 * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS))

  def expected(path, param, *gradients):
    share = 0.1 if path[0].key == "backbone" else 1.0
    return adamw(param, gradients, rates, decays, share=share, clip=clip)

  by_hand = jax.tree_util.tree_map_with_path(expected, drawn(0), *GRADIENTS)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
  jax.tree.map(close, run(optimizer), by_hand)


def test_the_backbone_moves_a_tenth_as_far():
  moved = run(with_tables(0.1, 0.0, backbone_lr=0.1, clip_grad=0), GRADIENTS[:1])
  far = jax.tree.map(lambda a, b: np.abs(a - b).mean(), moved, drawn(0))
  assert all(x == pytest.approx(0.01, rel=1e-3) for x in jax.tree.leaves(far["backbone"]))
  assert all(x == pytest.approx(0.1, rel=1e-3) for x in jax.tree.leaves(far["head"]))


def test_tokens_and_matrices_decay_and_vectors_do_not():
  still = jax.tree.map(np.zeros_like, GRADIENTS[0])
  moved = run(with_tables(0.1, 0.5, backbone_lr=0.1, clip_grad=3.0), [still])
  left = jax.tree.map(lambda a, b: float(np.mean(a / b)), moved, drawn(0))
  assert left["backbone"]["norm"]["scale"] == left["head"]["classifier"]["bias"] == 1.0
  assert left["backbone"]["fusion_token"] == pytest.approx(1 - 0.1 * 0.1 * 0.5, rel=1e-5)
  assert left["backbone"]["fc"]["kernel"] == pytest.approx(1 - 0.1 * 0.1 * 0.5, rel=1e-5)
  assert left["head"]["classifier"]["kernel"] == pytest.approx(1 - 0.1 * 0.5, rel=1e-5)


def test_what_is_a_vector_is_told_by_its_shape():
  assert decay_mask({"bias": np.ones(3), "pos_embed": np.ones((1, 5, 3))}) == {
    "bias": False,
    "pos_embed": True,
  }


def test_each_tensor_is_clipped_by_its_own_norm():
  grads = {
    "large": jnp.float32([[6, 0], [0, 8]]),
    "small": jnp.float32([0.6, 0.8]),
    "zero": jnp.zeros(2),
  }
  clipped, _ = clip_each(3.0).update(grads, clip_each(3.0).init(grads))
  np.testing.assert_allclose(clipped["large"], [[1.8, 0], [0, 2.4]], rtol=1e-5)
  np.testing.assert_array_equal(clipped["small"], grads["small"])
  np.testing.assert_array_equal(clipped["zero"], 0.0)


def test_the_published_rates_of_the_student():
  """50 epochs of 244 steps, five of them warm-up."""
  rates = cosine_table(5e-4, 1e-6, 12_200, warmup_steps=1220)
  assert len(rates) == 12_200 and rates[0] == 0.0
  assert rates[1219] == rates.max() == 5e-4
  assert rates[-1] == pytest.approx(1.00001e-6, rel=1e-6)


def test_the_published_rates_of_the_teacher_rise_to_the_end():
  rates = cosine_table(1e-3, 1e-6, 610, warmup_steps=610)
  assert rates[0] == 0.0 and rates[-1] == 1e-3
  assert rates[1] == pytest.approx(1.642e-6, rel=1e-3)
  np.testing.assert_allclose(np.diff(rates), rates[1], rtol=1e-9)


def test_weight_decay_rises_from_the_first_value_towards_the_last():
  decays = cosine_table(0.04, 0.4, 100)
  assert decays[0] == pytest.approx(0.04) and decays[50] == pytest.approx(0.22)
  assert (np.diff(decays) > 0).all() and 0.3999 < decays[-1] < 0.4


def test_a_table_is_read_at_its_step_and_stays_at_its_end():
  schedule = tabled(np.array([3.0, 1.0, 2.0]))
  assert [float(schedule(step)) for step in range(5)] == [3, 1, 2, 2, 2]

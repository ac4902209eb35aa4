import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from sbir.optim import decay_mask, make_optimizer, make_schedule
from sbir.types import UserError

PARAMS = {"kernel": np.array([[1.0, -2.0], [0.5, 3.0]]), "bias": np.array([1.0, -1.0])}
GRADS = {"kernel": np.array([[0.1, 0.2], [-0.3, 0.4]]), "bias": np.array([0.5, -0.25])}


def run(name, num_steps=1, grads=GRADS, **options):
  options = {"learning_rate": 0.1, "weight_decay": 0.0, "steps": 100, **options}
  optimizer = make_optimizer(name, **options)
  params = {key: jnp.asarray(value, jnp.float32) for key, value in PARAMS.items()}
  grads = {key: jnp.asarray(value, jnp.float32) for key, value in grads.items()}
  opt_state = optimizer.init(params)
  for _ in range(num_steps):
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = {key: params[key] + updates[key] for key in params}
  return params


def torch_adam(param, grad, num_steps, rate, decay):
  """Adam as torch.optim.Adam(weight_decay=decay) documents it, in float64."""
  first = second = np.zeros_like(param)
  for step in range(1, num_steps + 1):
    g = grad + decay * param
    first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
    mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
    param = param - rate * mean / (np.sqrt(square) + 1e-8)
  return param


@pytest.mark.parametrize("name", ["kernel", "bias"])
def test_adam_l2_adds_the_decay_to_the_gradient_of_every_parameter(name):
  ours = run("adam_l2", num_steps=5, weight_decay=0.3)
  expected = torch_adam(PARAMS[name], GRADS[name], 5, 0.1, 0.3)
  np.testing.assert_allclose(ours[name], expected, rtol=1e-5)


def test_adamw_decays_matrices_beside_adam_and_spares_vectors():
  without, decayed = run("adamw"), run("adamw", weight_decay=0.5)
  shrunk = without["kernel"] - 0.1 * 0.5 * PARAMS["kernel"]
  np.testing.assert_allclose(decayed["kernel"], shrunk, rtol=1e-5)
  np.testing.assert_array_equal(decayed["bias"], without["bias"])


def test_tokens_and_positions_are_decayed_and_norm_scales_are_not():
  params = {"token": jnp.ones((1, 1, 8)), "pos": jnp.ones((1, 5, 8)), "scale": jnp.ones(8)}
  assert decay_mask(params) == {"token": True, "pos": True, "scale": False}


def test_clipping_bounds_the_gradient_that_adam_sees():
  huge = {name: 1e6 * grad for name, grad in GRADS.items()}
  first_moment_only = {"b1": 0.0, "b2": 0.0, "eps": 1.0}
  moved = run("adamw", grads=huge, clip_norm=1e-3, **first_moment_only)
  total = np.sqrt(sum(np.sum((moved[name] - PARAMS[name]) ** 2) for name in PARAMS))
  assert total == pytest.approx(0.1 * 1e-3, rel=1e-2)


def test_the_exponential_schedule_falls_once_an_epoch():
  rate = make_schedule(
    "exponential", learning_rate=1.0, steps=100, decay_rate=0.5, steps_per_epoch=3
  )
  assert [float(rate(step)) for step in range(7)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_the_cosine_schedule_climbs_to_its_peak_and_ends_at_nothing():
  rate = make_schedule("cosine", learning_rate=1.0, steps=14, warmup_steps=4)
  values = [float(rate(step)) for step in range(15)]
  np.testing.assert_allclose(values[:5], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)
  assert all(a > b for a, b in itertools.pairwise(values[4:]))
  assert values[9] == pytest.approx(0.5) and values[14] == pytest.approx(0.0, abs=1e-7)


def test_a_constant_rate_can_be_warmed_up_too():
  rate = make_schedule("constant", learning_rate=2.0, steps=10, warmup_steps=1)
  assert [float(rate(step)) for step in range(3)] == [1.0, 2.0, 2.0]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"name": "adagrad"}, "optimizer='adagrad' is unknown; choose one of adam_l2, adamw"),
    ({"schedule": "step"}, "schedule='step' is unknown; choose one of constant, exponential"),
    ({"warmup_steps": 100}, "warmup_steps=100 must lie between 0 and steps=100"),
  ],
)
def test_what_is_not_offered_is_refused(change, message):
  options = {"name": "adamw", "learning_rate": 0.1, "weight_decay": 0.0, "steps": 100}
  with pytest.raises(UserError, match=message):
    make_optimizer(**(options | change))

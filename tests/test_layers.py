"""Layers with a backward pass of our own give what Flax's give, values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir.nn import attention
from sbir.nn.attention import attend
from sbir.nn.layers import LayerNorm, gelu, layer_norm, per_token
from tests.xmodal_tiny import quick_jit

ROWS = jax.random.normal(jax.random.key(0), (3, 5, 8))


def assert_same(ours, theirs, *arguments, tolerance=1e-5):
  """Compares values and the gradients of a sum with uneven weights, by every argument."""
  (out, grads), (expected, other) = (values_and_gradients(f, *arguments) for f in (ours, theirs))
  np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)
  for grad, expected in zip(grads, other, strict=True):
    np.testing.assert_allclose(grad, expected, rtol=tolerance, atol=10 * tolerance)


def values_and_gradients(function, *arguments):
  """Compiled as one program: operation by operation takes half a minute of compiling."""

  @quick_jit
  def run(*arguments):
    out, pull = jax.vjp(function, *arguments)
    return out, pull((jnp.arange(out.size, dtype=out.dtype) % 7 - 3).reshape(out.shape))

  return run(*arguments)


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_gelu_is_the_exact_one(size):
  assert_same(gelu, lambda x: nn.gelu(x, approximate=False), size * ROWS)


def test_gelu_in_half_precision_is_exact_but_for_rounding():
  x = jnp.linspace(-4, 4, 161).astype(jnp.bfloat16)
  exact, pull = jax.vjp(lambda x: nn.gelu(x, approximate=False), x.astype(jnp.float32))
  ours, pull_ours = jax.vjp(gelu, x)
  (slope,), (slope_ours,) = pull(jnp.ones_like(exact)), pull_ours(jnp.ones_like(ours))
  for one, other in ((ours, exact), (slope_ours, slope)):
    assert one.dtype == jnp.bfloat16
    np.testing.assert_allclose(one.astype(jnp.float32), other, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("epsilon", [1e-6, 1e-5, 1.0])
def test_layer_norm_is_that_of_flax(epsilon):
  norm = nn.LayerNorm(epsilon=epsilon)
  scale, bias = 1 + ROWS[0, 0], ROWS[0, 1]
  theirs = lambda x, scale, bias: norm.apply({"params": {"scale": scale, "bias": bias}}, x)
  assert_same(lambda *a: layer_norm(*a, epsilon), theirs, 3 + 2 * ROWS.reshape(15, 8), scale, bias)


def test_layer_norm_stays_exact_where_the_mean_is_far_larger_than_the_spread():
  x = 1000 + ROWS.reshape(15, 8)
  exact = np.asarray(x, np.float64)
  exact = (exact - exact.mean(-1, keepdims=True)) / exact.std(-1, keepdims=True)
  out, _ = jax.vjp(lambda x: layer_norm(x, jnp.ones(8), jnp.zeros(8), 1e-6), x)
  np.testing.assert_allclose(out, exact, atol=2e-3)


def test_the_layer_norm_has_the_parameters_of_flax_and_its_output_dtype():
  module, theirs = LayerNorm(epsilon=1e-6, dtype=jnp.bfloat16), nn.LayerNorm()
  params = module.init(jax.random.key(0), ROWS)
  shapes = lambda tree: jax.tree.map(jnp.shape, tree)
  assert shapes(params) == shapes(theirs.init(jax.random.key(0), ROWS))
  assert module.apply(params, ROWS).dtype == jnp.bfloat16


def test_per_token_is_the_layer_of_every_token():
  kernel = ROWS[:2, 0].T
  assert_same(
    lambda x, w: per_token(lambda rows: rows @ w, x),
    lambda x, w: jnp.einsum("bnd,de->bne", x, w),
    ROWS,
    kernel,
  )


def heads_of(num_heads, mask=None):
  split = lambda x: x.reshape(*x.shape[:2], num_heads, -1)

  def theirs(query, key, value):
    heads = split(query), split(key), split(value)
    return jax.nn.dot_product_attention(*heads, mask=mask).reshape(query.shape)

  return theirs


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_attention_is_that_of_jax(num_heads):
  query, key, value = 3 * ROWS[:, :2], 2 * ROWS + 1, ROWS**2
  assert_same(lambda *a: attend(*a, num_heads), heads_of(num_heads), query, key, value)


@pytest.mark.parametrize("num_queries", [1, 2, 5])
@pytest.mark.parametrize("num_keys", [4, 5])
def test_the_fused_kernel_gets_even_lengths_and_gives_the_same(num_queries, num_keys):
  heads = lambda x: x.reshape(*x.shape[:2], 2, -1)
  query, key, value = (heads(x) for x in (3 * ROWS, 2 * ROWS + 1, ROWS**2))
  arguments = query[:, :num_queries], key[:, :num_keys], value[:, :num_keys]
  seen = []

  def fused(*arguments):
    even = lambda *a, **k: seen.append([x.shape[1] for x in a]) or whole(*a, **k)
    whole = jax.nn.dot_product_attention
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(jax.nn, "dot_product_attention", even)
      return attention._fused(*arguments, kernel="xla")

  assert_same(fused, jax.nn.dot_product_attention, *arguments)
  assert all(length % 2 == 0 for lengths in seen for length in lengths)


def test_attention_looks_only_where_it_may():
  keep = jnp.array([[True, False, True, True, False]] * 2 + [[False] * 4 + [True]])
  ours = lambda *a: attend(*a, 2, keep)
  theirs = heads_of(2, keep[:, None, None, :])
  assert_same(ours, theirs, ROWS[:, :3], ROWS + 1, ROWS**2)
  changed = jnp.where(keep[..., None], ROWS, 1e6)
  np.testing.assert_array_equal(ours(ROWS, changed, changed), ours(ROWS, ROWS, ROWS))


def test_attention_in_half_precision_has_its_softmax_in_single():
  query, key, value = (x.astype(jnp.bfloat16) for x in (8 * ROWS, 8 * ROWS, ROWS))
  out = attend(query, key, value, 2)
  exact = attend(*(x.astype(jnp.float32) for x in (query, key, value)), 2)
  assert out.dtype == jnp.bfloat16
  np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=0.02)


def test_attention_survives_scores_that_overflow():
  out, grads = jax.value_and_grad(lambda x: attend(x, x, x, 2).sum())(1e3 * ROWS)
  assert np.isfinite(out) and np.isfinite(grads).all()

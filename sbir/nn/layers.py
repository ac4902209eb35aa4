"""Layers written for their backward pass: the numbers and parameters of Flax's, in less time.

What each gains is in benchmarks/RESULTS.md.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Kept = tuple[Array, Array, Array, Array]  # x, scale, mean, 1 / deviation


def per_token(
  layer: Callable[[Array], Array], tokens: Float[Array, "b n d"]
) -> Float[Array, "b n e"]:
  """Returns `layer`, a map of rows, of every token: one matrix of b * n rows, not b of n.

  The gradient of the layer's weights is then one product too; of b matrices XLA on the CPU makes a
  training step 7 % longer.
  """
  rows = layer(tokens.reshape(-1, tokens.shape[-1]))
  return rows.reshape(*tokens.shape[:-1], rows.shape[-1])


@jax.custom_vjp
def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """Returns x * Phi(x), the exact (erf) GELU, as PyTorch computes it; only `x` is kept for the
  backward pass.

  By erf, where jax.nn.gelu has erfc: the same to 5e-7, and several times faster, on the CPU and on
  a GPU. Within, all is float32: of a negative x, bfloat16 would leave nothing of 1 + erf(x).
  """
  exact = x.astype(jnp.float32)
  return (exact * _share_below(exact)).astype(x.dtype)


def _share_below(x: Array) -> Array:
  """Returns Phi(x), the share of a standard normal distribution below x."""
  return 0.5 * (1 + jax.lax.erf(x * np.float32(np.sqrt(0.5))))


def _gelu_forward(x: Array) -> tuple[Array, Array]:
  return gelu(x), x


def _gelu_backward(x: Array, grad: Array) -> tuple[Array]:
  # The barrier: else erf(x) of the forward pass is stored for this one, an array as large as x.
  exact = jax.lax.optimization_barrier(x).astype(jnp.float32)
  density = jnp.exp(-0.5 * exact * exact) * np.float32(np.sqrt(0.5 / np.pi))
  slope = _share_below(exact) + exact * density
  return ((grad.astype(jnp.float32) * slope).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)


class LayerNorm(nn.Module):
  """Flax's LayerNorm over the last axis, computed in float32, of a result in `dtype`."""

  epsilon: float
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
    bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
    norm = lambda rows: layer_norm(rows, scale, bias, self.epsilon, self.dtype)
    # As rows: of more axes XLA lays out some with the batch last, and on a GPU every pass is slow.
    return per_token(norm, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def layer_norm(
  x: Float[Array, "r d"],
  scale: Float[Array, "d"],
  bias: Float[Array, "d"],
  epsilon: float,
  dtype: jnp.dtype = jnp.float32,
) -> Float[Array, "r d"]:
  """Returns (x - mean) / sqrt(variance + epsilon) * scale + bias of each row.

  `x` is kept for the backward pass as it comes, of each row its mean and deviation beside it.
  Flax's own where no gradient is taken: exporters know it as one operation.
  """
  norm = nn.LayerNorm(epsilon=epsilon, parent=None)
  out = norm.apply({"params": {"scale": scale, "bias": bias}}, x.astype(jnp.float32))
  return out.astype(dtype)


def _layer_norm_forward(
  x: Array, scale: Array, bias: Array, epsilon: float, dtype: jnp.dtype
) -> tuple[Array, Kept]:
  # The barrier: else what is added up before is added up again for each of the passes, or its
  # float32 form is written out.
  exact = jax.lax.optimization_barrier(x).astype(jnp.float32)
  mean = exact.mean(axis=-1, keepdims=True)
  variance = jnp.mean((exact - mean) ** 2, axis=-1, keepdims=True)
  inverse = jax.lax.rsqrt(variance + epsilon)
  return ((exact - mean) * inverse * scale + bias).astype(dtype), (x, scale, mean, inverse)


def _layer_norm_backward(
  epsilon: float, dtype: jnp.dtype, kept: Kept, grad: Array
) -> tuple[Array, Array, Array]:
  x, scale, mean, inverse = kept
  grad = grad.astype(jnp.float32)
  standard, scaled = (x.astype(jnp.float32) - mean) * inverse, grad * scale
  along = jnp.mean(scaled * standard, axis=-1, keepdims=True)
  of_x = inverse * (scaled - scaled.mean(axis=-1, keepdims=True) - standard * along)
  return of_x.astype(x.dtype), (grad * standard).sum(axis=0), grad.sum(axis=0)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)

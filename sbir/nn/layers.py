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
  """Returns x * Phi(x), the exact (erf) GELU. Only `x` is kept for the backward pass."""
  return nn.gelu(x, approximate=False)


def _gelu_forward(x: Array) -> tuple[Array, Array]:
  return gelu(x), x


def _gelu_backward(x: Array, grad: Array) -> tuple[Array]:
  below = 0.5 * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype)))
  density = jnp.exp(-0.5 * x * x) * np.sqrt(0.5 / np.pi).astype(x.dtype)
  return (grad * (below + x * density),)


gelu.defvjp(_gelu_forward, _gelu_backward)


class LayerNorm(nn.Module):
  """Flax's LayerNorm over the last axis, computed in float32, of a result in `dtype`."""

  epsilon: float
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
    bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
    return layer_norm(x.astype(jnp.float32), scale, bias, self.epsilon).astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(
  x: Float[Array, "... d"], scale: Float[Array, "d"], bias: Float[Array, "d"], epsilon: float
) -> Float[Array, "... d"]:
  """Returns (x - mean) / sqrt(variance + epsilon) * scale + bias along the last axis.

  Flax's own where no gradient is taken: exporters know it as one operation.
  """
  norm = nn.LayerNorm(epsilon=epsilon, parent=None)
  return norm.apply({"params": {"scale": scale, "bias": bias}}, x)


def _layer_norm_forward(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Kept]:
  mean = x.mean(axis=-1, keepdims=True)
  variance = jnp.mean((x - mean) ** 2, axis=-1, keepdims=True)
  inverse = jax.lax.rsqrt(variance + epsilon)
  return (x - mean) * inverse * scale + bias, (x, scale, mean, inverse)


def _layer_norm_backward(epsilon: float, kept: Kept, grad: Array) -> tuple[Array, Array, Array]:
  x, scale, mean, inverse = kept
  standard, scaled = (x - mean) * inverse, grad * scale
  along = jnp.mean(scaled * standard, axis=-1, keepdims=True)
  of_x = inverse * (scaled - scaled.mean(axis=-1, keepdims=True) - standard * along)
  rows = tuple(range(x.ndim - 1))
  return of_x, (grad * standard).sum(axis=rows), grad.sum(axis=rows)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)

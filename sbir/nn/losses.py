"""Loss pieces that both methods use."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def l2_normalise(vectors: Float[Array, "b d"]) -> Float[Array, "b d"]:
  """Returns the vectors with length 1. A zero vector stays zero, and its gradient is finite."""
  squared = jnp.sum(vectors**2, axis=-1, keepdims=True)
  return vectors / jnp.sqrt(jnp.maximum(squared, 1e-24))


def smooth_l1(difference: Float[Array, "..."]) -> Float[Array, "..."]:
  """Returns x^2 / 2 where |x| < 1 and |x| - 1/2 elsewhere, entry by entry (beta 1)."""
  size = jnp.abs(difference)
  return jnp.where(size < 1.0, 0.5 * difference**2, size - 0.5)

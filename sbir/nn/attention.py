"""Multi-head attention: one function for the arithmetic, one layer for self-attention."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def attend(
  query: Float[Array, "b q d"],
  key: Float[Array, "b k d"],
  value: Float[Array, "b k d"],
  num_heads: int,
  keep: Bool[Array, "b k"] | None = None,
) -> Float[Array, "b q d"]:
  """Returns softmax(query key^T / sqrt(d / heads)) value, head by head, heads side by side again.

  Where `keep` is False the key is not looked at; every row of `keep` needs at least one True.
  The softmax runs in float32 whatever the inputs are.
  """
  split = lambda x: x.reshape(*x.shape[:2], num_heads, -1)
  mask = None if keep is None else keep[:, None, None, :]
  out = jax.nn.dot_product_attention(split(query), split(key), split(value), mask=mask)
  return out.reshape(query.shape)


class SelfAttention(nn.Module):
  """Self-attention with one fused query-key-value projection, biased, as in timm."""

  num_heads: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Float[Array, "b n d"], num_out: int | None = None
  ) -> Float[Array, "b m d"]:
    """Returns what the first `num_out` tokens (None: all) have gathered from all."""
    width = tokens.shape[-1]
    qkv = nn.Dense(3 * width, dtype=self.dtype, name="qkv")(tokens)
    query, key, value = jnp.split(qkv, 3, axis=-1)
    mixed = attend(query[:, :num_out], key, value, self.num_heads)
    return nn.Dense(width, dtype=self.dtype, name="out")(mixed)

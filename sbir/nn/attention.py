"""Multi-head attention: one function for the arithmetic, one layer for self-attention."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sbir.nn.layers import per_token


def attend(
  query: Float[Array, "b q d"],
  key: Float[Array, "b k d"],
  value: Float[Array, "b k d"],
  num_heads: int,
  keep: Bool[Array, "b k"] | None = None,
) -> Float[Array, "b q d"]:
  """Returns softmax(query key^T / sqrt(d / heads)) value, head by head, heads side by side again.

  Where `keep` is False the key is not looked at; every row of `keep` needs at least one True.
  The softmax runs in float32 whatever the inputs are. On a GPU bfloat16 runs in cuDNN's fused
  kernel; on the CPU all runs in `_head_by_head`, which is faster there (benchmarks/RESULTS.md).
  """
  split = lambda x: x.reshape(*x.shape[:2], num_heads, -1)
  heads = split(query), split(key), split(value)
  mask = None if keep is None else keep[:, None, None, :]
  if jax.default_backend() == "cpu":
    out = _head_by_head(*heads, mask)
  else:
    fits = _fits_cudnn(heads[0], mask)
    out = _fused(*heads) if fits else jax.nn.dot_product_attention(*heads, mask=mask)
  return out.reshape(query.shape)


def attention_weights(
  query: Float[Array, "b q d"], key: Float[Array, "b k d"], num_heads: int
) -> Float[Array, "b h q k"]:
  """Returns the softmax by which `attend` mixes the values, in float32: to look at, not to train.

  What trains never holds them all; so they are computed a second time where they are asked for.
  """
  query, key = (x.reshape(*x.shape[:2], num_heads, -1) for x in (query, key))
  scores = jnp.einsum("bqhe,bkhe->bhqk", query, key, preferred_element_type=jnp.float32)
  return jax.nn.softmax(scores * query.shape[-1] ** -0.5, axis=-1)


def _head_by_head(
  query: Float[Array, "b q h e"],
  key: Float[Array, "b k h e"],
  value: Float[Array, "b k h e"],
  mask: Bool[Array, "b 1 1 k"] | None,
) -> Float[Array, "b q h e"]:
  """Returns the same with each head's rows side by side in memory, and divided by the softmax's sum
  after the values are mixed: e numbers a query instead of k."""
  query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
  scores = jnp.einsum("bhqe,bhke->bhqk", query, key, preferred_element_type=jnp.float32)
  scores = scores * query.shape[-1] ** -0.5
  if mask is not None:
    scores = jnp.where(mask, scores, -jnp.inf)
  # A constant taken from all scores of a query changes nothing, so its gradient is not needed.
  weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
  mixed = jnp.einsum("bhqk,bhke->bhqe", weights.astype(value.dtype), value)
  out = mixed / weights.sum(axis=-1, keepdims=True).astype(value.dtype)
  return jnp.swapaxes(out, 1, 2)


def _fused(
  query: Float[Array, "b q h e"],
  key: Float[Array, "b k h e"],
  value: Float[Array, "b k h e"],
  kernel: str = "cudnn",
) -> Float[Array, "b q h e"]:
  """Returns the same from one fused kernel.

  In training jax 0.10 and 0.11 refuse odd lengths there (the placeholder of a bias that is not
  given is taken for one), so both are made even and the added key is masked; the added query's row
  is dropped, and with it its gradient.
  """
  num_queries, num_keys = query.shape[1], key.shape[1]
  if num_queries % 2 == num_keys % 2 == 0:
    return jax.nn.dot_product_attention(query, key, value, implementation=kernel)
  even = [jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (query, key, value)]
  counts = [jnp.full(query.shape[0], n, jnp.int32) for n in (even[0].shape[1], num_keys)]
  lengths = dict(zip(("query_seq_lengths", "key_value_seq_lengths"), counts, strict=True))
  out = jax.nn.dot_product_attention(*even, **lengths, implementation=kernel)
  return out[:, :num_queries]


def _fits_cudnn(query: Float[Array, "b q h e"], mask: Bool[Array, "b 1 1 k"] | None) -> bool:
  """Returns whether cuDNN's fused attention takes these: half precision on a GPU of compute
  capability 8 or above (Ampere), heads of up to 128 numbers, no mask."""
  if jax.default_backend() != "gpu" or query.dtype != jnp.bfloat16 or mask is not None:
    return False
  capability = getattr(jax.local_devices()[0], "compute_capability", "")  # such as "9.0"; not AMD's
  is_able = capability.replace(".", "").isdigit() and float(capability) >= 8
  return is_able and query.shape[-1] % 8 == 0 and query.shape[-1] <= 128


class SelfAttention(nn.Module):
  """Self-attention with one fused query-key-value projection, biased, as in timm.

  Its weights are sown as "weights" into the collection "intermediates" if that is mutable; else
  they are not computed, nor even traced.
  """

  num_heads: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Float[Array, "b n d"], num_out: int | None = None
  ) -> Float[Array, "b m d"]:
    """Returns what the first `num_out` tokens (None: all) have gathered from all."""
    width = tokens.shape[-1]
    qkv = per_token(nn.Dense(3 * width, dtype=self.dtype, name="qkv"), tokens)
    query, key, value = jnp.split(qkv, 3, axis=-1)
    query = query[:, :num_out]
    if self.is_mutable_collection("intermediates"):
      self.sow("intermediates", "weights", attention_weights(query, key, self.num_heads))
    mixed = attend(query, key, value, self.num_heads)
    return per_token(nn.Dense(width, dtype=self.dtype, name="out"), mixed)

"""The first-in-first-out key queue of the contrastive losses, as pure functions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sbir.nn.losses import l2_normalise
from sbir.types import Key


class Queue(NamedTuple):
  """A ring buffer of the last `k` keys.

  Source: MoCo (arXiv:1911.05722) as XModalViT uses it. The released code skips a push when k does
  not divide by the batch and can overrun on a short batch; modulo indices do neither.
  """

  keys: Float[Array, "k d"]  # unit vectors
  ids: Int[Array, "k"]  # instance of each key; -1 for the random keys it starts with
  next: Int[Array, ""]  # where the next push starts


def start(key: Key, size: int, width: int) -> Queue:
  """Returns a queue of `size` random unit vectors that belong to no instance."""
  keys = l2_normalise(jax.random.normal(key, (size, width)))
  return Queue(keys, jnp.full(size, -1, jnp.int32), jnp.int32(0))


def push(queue: Queue, keys: Float[Array, "b d"], ids: Int[Array, "b"]) -> Queue:
  """Returns the queue with `keys` in place of its oldest entries. No gradient reaches `keys`.

  Of a batch larger than the queue, the last keys stay; a queue of size 0 stays empty.
  """
  size = queue.keys.shape[0]
  if size == 0:
    return queue
  kept, pushed = jax.lax.stop_gradient(keys[-size:]), keys.shape[0]
  where = (queue.next + pushed - kept.shape[0] + jnp.arange(kept.shape[0])) % size
  return Queue(
    queue.keys.at[where].set(kept),
    queue.ids.at[where].set(ids[-size:]),
    (queue.next + pushed) % size,
  )

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xmodal_tiny import quick_jit, start_queue
from xmodal import queue

push = quick_jit(queue.push)


@functools.cache
def empty(size):
  return jax.device_get(queue.start(jax.random.key(size), size, 2))


def oldest_first(state):
  """Returns the ids in the order they were pushed."""
  return np.roll(np.asarray(state.ids), -int(state.next)).tolist()


def keys_of(ids):
  return np.stack([np.asarray(ids), -np.asarray(ids)], axis=1).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
  size=st.sampled_from([1, 4, 6]),
  batches=st.lists(st.sampled_from([1, 3, 7]), min_size=1, max_size=8),
)
def test_the_queue_holds_exactly_the_last_keys_in_order(size, batches):
  """Whether batches divide the queue, do not, or are larger; few sizes, as each pair compiles."""
  state, seen = empty(size), [-1] * size
  for batch in batches:
    ids = np.arange(batch, dtype=np.int32) + len(seen)
    state = push(state, keys_of(ids), ids)
    seen += ids.tolist()
  assert oldest_first(state) == seen[-size:]
  was_pushed = np.asarray(state.ids) >= 0
  np.testing.assert_array_equal(state.keys[was_pushed], keys_of(state.ids)[was_pushed])
  np.testing.assert_array_equal(state.keys[~was_pushed], empty(size).keys[~was_pushed])


def test_a_queue_of_size_zero_stays_empty():
  state = queue.push(empty(0), keys_of([1, 2]), np.int32([1, 2]))
  assert state.keys.shape == (0, 2) and int(state.next) == 0


def test_the_queue_starts_with_different_unit_vectors_of_no_instance():
  state = empty(5)
  np.testing.assert_allclose(np.linalg.norm(state.keys, axis=1), 1.0, rtol=1e-6)
  assert len(np.unique(state.keys.round(4), axis=0)) == 5
  assert (state.ids == -1).all() and int(state.next) == 0


def test_no_gradient_reaches_the_keys_that_are_pushed():
  total = lambda keys: jnp.sum(queue.push(start_queue(keys_of([1, 2])), keys, np.arange(3)).keys)
  np.testing.assert_array_equal(jax.grad(total)(jnp.ones((3, 2))), 0.0)

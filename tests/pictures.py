"""Small images, and what the tests of augmentation share to look at them."""

import jax.numpy as jnp
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

SIDE = 8
SEEDS = st.integers(0, 2**31 - 1)
few = settings(max_examples=20, deadline=None)


def noise(b=3, side=SIDE, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.random((b, side, side, 3)), jnp.float32)


def near(actual, expected, atol=1e-6):
  np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)

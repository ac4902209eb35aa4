"""DINO's head by itself: exact GELU between its layers, unit vectors out of it."""

import math

import jax
import numpy as np

from sbir.nn.dino_head import DinoHead


def gelu(x):
  return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def test_the_head_is_three_layers_with_exact_gelu_between_them_of_length_one():
  draw = np.random.default_rng(0)
  layers = {
    f"fc{i}": {"kernel": draw.normal(size=shape), "bias": draw.normal(size=shape[1])}
    for i, shape in enumerate([(4, 6), (6, 6), (6, 3)], start=1)
  }
  x = tokens = draw.normal(size=(5, 4))
  for name in ("fc1", "fc2", "fc3"):
    x = x @ layers[name]["kernel"] + layers[name]["bias"]
    x = x if name == "fc3" else gelu(x)
  params = jax.tree.map(np.float32, layers)
  with jax.default_matmul_precision("highest"):
    ours = DinoHead(6, 3).apply({"params": params}, tokens.astype(np.float32))
  expected = x / np.linalg.norm(x, axis=-1, keepdims=True)
  np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)

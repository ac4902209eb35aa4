"""Positional embeddings on another grid than the one they were trained on."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

DINO_EXCESS = 0.1  # added to the side by its interpolate_pos_encoding, against rounding
SHARPNESS = -0.75  # of the cubic kernel: PyTorch's; jax.image.resize has -0.5


def bicubic_matrix(num_in: int, num_out: int, scale: float) -> Float[np.ndarray, "out in"]:
  """Returns the weights of bicubic interpolation along one axis, as PyTorch does it.

  Output i lies at input (i + 0.5) / `scale` - 0.5; beyond the ends the end's value counts. `scale`
  is the factor as it was asked for, which PyTorch (since 1.6) uses even where num_in times it is
  not num_out. No smoothing where it shrinks.

  Source: torch.nn.functional.interpolate(mode="bicubic", align_corners=False).
  """
  place = (np.arange(num_out) + 0.5) / scale - 0.5
  first = np.floor(place).astype(int) - 1
  matrix = np.zeros((num_out, num_in))
  for k in range(4):
    weight = _cubic(np.abs(place - (first + k)))
    np.add.at(matrix, (np.arange(num_out), np.clip(first + k, 0, num_in - 1)), weight)
  return matrix


def resample(
  positions: Float[Array, "1 n d"], matrix: Float[np.ndarray, "m s"]
) -> Float[Array, "1 k d"]:
  """Returns the positions of a square grid (n = s * s, by row) resampled along both axes by
  `matrix`; linear in `positions`, so the gradient passes."""
  side, width = matrix.shape[1], positions.shape[-1]
  grid = positions.reshape(side, side, width)
  matrix = jnp.asarray(matrix, positions.dtype)
  return jnp.einsum("ai,bj,ijd->abd", matrix, matrix, grid).reshape(1, -1, width)


def resample_grid(
  positions: Float[np.ndarray, "1 n d"], num_tokens: int, side: int, *, excess: float = 0.0
) -> Float[np.ndarray, "1 k d"]:
  """Returns positions for a grid of `side` x `side` patches, on the host; the first `num_tokens`
  stay as they are, the others must be those of a square grid, by row.

  With an `excess` the factor is not side / old side but (side + excess) / old side: DINO's is .1.

  Source: torch.nn.functional.interpolate(size=(side, side), mode="bicubic", align_corners=False).
  """
  old = math.isqrt(positions.shape[1] - num_tokens)
  if old == side and not excess:
    return positions
  matrix = bicubic_matrix(old, side, (side + excess) / old)
  grid = positions[0, num_tokens:].reshape(old, old, -1).astype(np.float64)
  resampled = np.einsum("ai,bj,ijd->abd", matrix, matrix, grid, optimize=True)
  patches = resampled.reshape(1, side * side, -1).astype(positions.dtype)
  return np.concatenate([positions[:, :num_tokens], patches], axis=1)


def _cubic(distance: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
  """Returns Keys' cubic kernel at distances of 0 to 2."""
  a, x = SHARPNESS, distance
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
  return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

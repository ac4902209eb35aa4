"""What of an image counts: how much nearer to another it is with a part than without it."""

from collections.abc import Callable
from itertools import product

import numpy as np
from jaxtyping import Float, UInt8

MAX_CELLS = 8  # a side: each cell costs an embedding of every image


def what_counts(
  squares: UInt8[np.ndarray, "b s s 3"],
  embed: Callable[[UInt8[np.ndarray, "n s s 3"]], Float[np.ndarray, "n d"]],
  other: Float[np.ndarray, "b d"],
  cells: int,
) -> Float[np.ndarray, "b c c"]:
  """Returns how far the cosine of each image and its `other` vector falls when a cell is hidden.

  The image is divided into `cells` (MAX_CELLS at most) a side. A hidden cell has the image's median
  colour: that of the paper, of a sketch. `embed` and `other` give unit vectors. Below 0 where an
  image is nearer without the cell.

  Source: the occlusion maps of Zeiler and Fergus 2014 (arXiv:1311.2901), section 4.2.
  """
  cells = min(cells, MAX_CELLS)
  edges = np.linspace(0, squares.shape[1], cells + 1).round().astype(int)
  plain = np.median(squares, axis=(1, 2)).astype(np.uint8)[:, None, None]
  hidden = np.repeat(squares[:, None], cells * cells, axis=1)
  for cell, (row, column) in enumerate(product(range(cells), repeat=2)):
    rows, columns = slice(*edges[row : row + 2]), slice(*edges[column : column + 2])
    hidden[:, cell, rows, columns] = plain
  without = embed(hidden.reshape(-1, *squares.shape[1:])).reshape(*hidden.shape[:2], -1)
  whole = (embed(squares) * other).sum(axis=1)
  falls = whole[:, None] - np.einsum("bcd,bd->bc", without, other)
  return falls.reshape(-1, cells, cells)

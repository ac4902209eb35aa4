"""What a search engine for embeddings must be able to do, and how equal scores are put in order."""

from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

EXACT_UP_TO = 200_000  # photos; more are searched through a graph (HNSW), which may miss some
MOST_FOUND = 16_384  # of one query: Milvus answers with no more


class Gallery(Protocol):
  """Vectors by whole-number ids, asked for those nearest to others.

  What is under an id never changes, so that an engine that lags behind is never wrong: it may lack
  ids, or hold some that are gone.
  """

  kind: str  # how it searches: "exact", "hnsw", "codes", "milvus"
  is_shared: bool  # with other processes, as a server's: what one of them writes all find

  @property
  def width(self) -> int:
    """How long the vectors are."""
    ...

  @property
  def num(self) -> int:
    """How many there are."""
    ...

  def ids(self) -> Int[np.ndarray, "g"]:
    """Returns the ids of all, in any order."""
    ...

  def add(self, ids: Int[np.ndarray, "n"], vectors: Float[np.ndarray, "n d"]) -> None:
    """Adds vectors of length 1."""
    ...

  def remove(self, ids: Int[np.ndarray, "n"]) -> None:
    """Removes those that are there."""
    ...

  def search(
    self, vectors: Float[np.ndarray, "q d"], k: int
  ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """Returns (scores, ids) of the k nearest, best first, equal scores by their ids.

    With fewer than k vectors there are fewer columns; id -1 is none. Scores are inner products, to
    the rounding of float32, or of codes minus the number of bits that differ.
    """
    ...

  def close(self) -> None:
    """Lets go of what it holds open."""
    ...


def best_first(
  scores: Float[np.ndarray, "q n"], ids: Int[np.ndarray, "q n"], k: int
) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
  """Returns the k best of each row: falling scores, then rising ids; id -1, none, comes last."""
  scores = np.where(ids < 0, -np.inf, scores)
  order = np.lexsort((ids, -scores), axis=1)[:, :k]
  return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)

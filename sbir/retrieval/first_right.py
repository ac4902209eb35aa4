"""Where the first right item comes when several are right."""

import numpy as np
from jaxtyping import Float, Int, Shaped

AT_ONCE = 256  # queries


def first_right_ranks(
  query: Float[np.ndarray, "q d"],
  gallery: Float[np.ndarray, "g d"],
  query_label: Shaped[np.ndarray, "q"],
  gallery_label: Shaped[np.ndarray, "g"],
) -> Int[np.ndarray, "n"]:
  """Returns the rank (from 1) by cosine of the first gallery item with the query's label.

  Queries without one are left out. A wrong item that scores the same counts against.
  """
  query, gallery = (
    x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (query, gallery)
  )
  ranks = []
  for start in range(0, len(query), AT_ONCE):
    rows = slice(start, start + AT_ONCE)
    is_right = query_label[rows, None] == gallery_label
    scores = query[rows] @ gallery.T
    best = np.where(is_right, scores, -np.inf).max(axis=1, keepdims=True)
    before = ((scores >= best) & ~is_right).sum(axis=1)
    ranks.append(1 + before[is_right.any(axis=1)])
  return np.concatenate(ranks)


def chance_of_first(num_right: Int[np.ndarray, "q"], size: int) -> Float[np.ndarray, "g"]:
  """Returns, for K = 1 .. size, the chance that one of the first K of a random order is right, as
  the mean over queries, of which each has `num_right` right items."""
  counts, how_many = np.unique(num_right[num_right > 0], return_counts=True)
  found = np.zeros(size)
  for right, queries in zip(counts, how_many, strict=True):
    wrong_next = np.maximum(size - right - np.arange(size), 0) / (size - np.arange(size))
    found += queries * (1 - np.cumprod(wrong_next))
  return found / how_many.sum()

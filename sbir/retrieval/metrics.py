"""Retrieval quality as pure functions of ranks; every published convention under its own name.

Category retrieval (average precision, precision) counts the gallery items with the query's label;
instance retrieval (ranks, acc@k) looks for the one photo a sketch was drawn from.
For a query, r_j says whether the j-th ranked item is relevant, R = sum r, prec(j) = (r_1 + ... +
r_j) / j, N is the size of the gallery.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped

from sbir.retrieval.ranking import (
  Hits,
  check_distance,
  hits_in_order,
  prepare,
  rank_hits,
  score_blocks,
)
from sbir.types import UserError

# Scores closer than this are equal for instance retrieval. Coarser than the step of the rankings: a
# collapsed float32 network leaves cosines of 1 - 5e-15, and that noise must not look like skill.
EQUAL_WITHIN = 1e-12

__all__ = [
  "acc_at_k",
  "average_precision",
  "bootstrap_interval",
  "hits_in_order",
  "instance_counts",
  "instance_ranks",
  "mean_over_queries",
  "per_class_mean",
  "precision_at_k",
  "rank_hits",
  "rank_percentile",
]


def average_precision(
  hits: Hits, k: int | None = None, *, interpolated: bool = False, denominator: str = "R"
) -> Float[np.ndarray, "q"]:
  """Returns sum_j r_j prec(j) over the first k places (None: all), divided by the denominator.

  `denominator`: "R", "min" for min(k, R), or "hits" for the relevant items among the first k.
  Plain: items of equal score enter together, as in scikit-learn. `interpolated` (VOC): prec(j) is
  replaced by the best precision at j or later within the first k; equal scores stay in gallery
  order. nan for a query without relevant items; with "hits", 0 where there are no hits.

  Source: SAKE's and ZSE-SBIR's evaluators (interpolated, "min"), SEM-PCYC's (plain, "hits").
  """
  k = _check_k(hits, k)
  rank, is_inside = hits.rank[:, :k], hits.rank[:, :k] <= k
  found = np.arange(1, rank.shape[1] + 1)
  if interpolated or hits.threshold is hits.rank:
    precision = np.where(is_inside, found / rank, 0.0)
  else:
    threshold = np.minimum(hits.threshold[:, :k], k)
    precision = np.where(is_inside, _count_up_to(rank, threshold) / threshold, 0.0)
  if interpolated:
    # Between two hits precision falls, so the best later precision is reached at a hit.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
  num_hits = is_inside.sum(axis=1)
  if denominator not in ("R", "min", "hits"):
    raise UserError(f"denominator={denominator!r} must be 'R', 'min' or 'hits'")
  if denominator == "hits":
    return precision.sum(axis=1) / np.maximum(num_hits, 1)
  divisor = hits.num_relevant if denominator == "R" else np.minimum(hits.num_relevant, k)
  return _divide(precision.sum(axis=1), divisor)


def precision_at_k(hits: Hits, k: int, *, denominator: str = "N") -> Float[np.ndarray, "q"]:
  """Returns the share of relevant items among the first min(k, N) or, with "R", min(k, R).

  With "R", nan for a query without relevant items. Equal scores stay in gallery order.

  Source: SAKE and SEM-PCYC ("N"), ZSE-SBIR ("R").
  """
  if denominator not in ("N", "R"):
    raise UserError(f"denominator={denominator!r} must be 'N' or 'R'")
  k = _check_k(hits, k)
  cut = np.minimum(hits.num_relevant, k) if denominator == "R" else np.full(len(hits.rank), k)
  return _divide((hits.rank[:, :k] <= cut[:, None]).sum(axis=1), cut)


def instance_ranks(
  query: Shaped[np.ndarray, "q d"],
  gallery: Shaped[np.ndarray, "g d"],
  target: Int[np.ndarray, "q"],
  *,
  distance: str = "cosine",
) -> Int[np.ndarray, "q"]:
  """Returns the 1-based rank of gallery[target[i]] for query i; ties count against it.

  Rank = items strictly better + other items equal + 1, so constant embeddings rank last, not first.
  "Equal" means within EQUAL_WITHIN. `distance`: "cosine" or "euclidean".

  Raises: UserError on non-finite embeddings, wrong shapes or a target outside the gallery.
  """
  return instance_counts(query, gallery, target, distance=distance)[0]


def instance_counts(
  query: Shaped[np.ndarray, "q d"],
  gallery: Shaped[np.ndarray, "g d"],
  target: Int[np.ndarray, "q"],
  *,
  distance: str = "cosine",
) -> tuple[Int[np.ndarray, "q"], Int[np.ndarray, "q"]]:
  """Returns the ranks of `instance_ranks`, and how many other items each right one ties with."""
  check_distance(distance)
  embedded = prepare(query, gallery)
  target = _check_target(target, len(query), len(gallery))
  ranks, ties = np.empty(len(target), np.int64), np.empty(len(target), np.int64)
  for rows, scores in score_blocks(embedded, (distance,)):
    scores = scores[distance]
    own = np.take_along_axis(scores, target[rows, None], axis=1)
    ranks[rows] = np.count_nonzero(scores >= own - EQUAL_WITHIN, axis=1)
    ties[rows] = ranks[rows] - np.count_nonzero(scores > own + EQUAL_WITHIN, axis=1) - 1
  return ranks, ties


def acc_at_k(ranks: Int[np.ndarray, "q"], k: int) -> float:
  """Returns the share of queries whose own photo is among the first k."""
  if k < 1:
    raise UserError(f"k={k} must be at least 1")
  return float(np.mean(_check_ranks(ranks) <= k))


def rank_percentile(
  ranks: Int[np.ndarray, "q"], num_gallery: int | Int[np.ndarray, "q"]
) -> Float[np.ndarray, "q"]:
  """Returns the share of the other photos that each right photo beats: 1 is first, 0 last.

  Chance is 0.5. Take the mean and the median over queries. A gallery of one gives 1.
  """
  ranks, num_gallery = _check_ranks(ranks), np.asarray(num_gallery)
  if (ranks > num_gallery).any():
    raise UserError(f"rank {ranks.max()} is outside a gallery of {num_gallery.max()}")
  return np.where(num_gallery > 1, (num_gallery - ranks) / np.maximum(num_gallery - 1, 1), 1.0)


def mean_over_queries(values: Float[np.ndarray, "q"]) -> float:
  """Returns the mean of the queries that count (nan: left out); nan if none does."""
  counted = values[~np.isnan(values)]
  return float(counted.mean()) if len(counted) else float("nan")


def per_class_mean(
  values: Float[np.ndarray, "q"], label: Shaped[np.ndarray, "q"]
) -> dict[int | str, float]:
  """Returns {label: mean of its queries}, in sorted order; nan values are left out."""
  values, label = np.asarray(values, float), np.asarray(label)
  if values.shape != label.shape:
    raise UserError(f"{len(values)} values and {len(label)} labels; expected one label a query")
  return {name: mean_over_queries(values[label == name]) for name in np.unique(label).tolist()}


def bootstrap_interval(
  values: Shaped[np.ndarray, "q"], seed: int = 0, num: int = 1000, level: float = 0.95
) -> tuple[float, float]:
  """Returns the bootstrap interval (low, high) of the mean: queries are redrawn `num` times.

  nan values are left out. The queries are the population: it says nothing about other seeds.
  (nan, nan) if no value is left.
  """
  values = np.asarray(values, np.float64)
  values = values[~np.isnan(values)]
  if len(values) == 0:
    return float("nan"), float("nan")
  rng = np.random.default_rng(seed)
  at_once = max(1, 4_000_000 // len(values))
  counts = [min(at_once, num - start) for start in range(0, num, at_once)]
  means = [values[rng.integers(len(values), size=(n, len(values)))].mean(axis=1) for n in counts]
  low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def _count_up_to(rank: np.ndarray, threshold: np.ndarray) -> np.ndarray:
  """Returns, for each threshold, how many ranks of its row do not exceed it."""
  step = max(rank.max(), threshold.max()) + 1  # puts the sorted rows one behind the other
  offset = np.arange(len(rank))[:, None] * step
  flat = (rank + offset).ravel()
  counts = np.searchsorted(flat, (threshold + offset).ravel(), side="right")
  return counts.reshape(rank.shape) - np.arange(len(rank))[:, None] * rank.shape[1]


def _divide(numerator: np.ndarray, divisor: np.ndarray) -> np.ndarray:
  """Returns numerator / divisor, nan where the divisor is 0."""
  return np.where(divisor > 0, numerator / np.maximum(divisor, 1), np.nan)


def _check_k(hits: Hits, k: int | None) -> int:
  if k is not None and k < 1:
    raise UserError(f"k={k} must be at least 1")
  return hits.num_gallery if k is None else min(k, hits.num_gallery)


def _check_ranks(ranks: np.ndarray) -> np.ndarray:
  ranks = np.asarray(ranks)
  if ranks.ndim != 1 or len(ranks) == 0 or ranks.min() < 1:
    raise UserError(f"ranks of shape {ranks.shape}: expected one rank, 1 or more, for each query")
  return ranks


def _check_target(target: np.ndarray, num_queries: int, num_gallery: int) -> np.ndarray:
  target = np.asarray(target)
  if target.shape != (num_queries,) or target.dtype.kind not in "iu":
    raise UserError(
      f"target is {target.dtype}{list(target.shape)}; "
      f"expected {num_queries} whole numbers, the place of each query's photo in the gallery"
    )
  outside = np.flatnonzero((target < 0) | (target >= num_gallery))
  if len(outside):
    raise UserError(
      f"target[{outside[0]}]={target[outside[0]]} is outside a gallery of {num_gallery}"
    )
  return target.astype(np.int64)

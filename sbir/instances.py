"""Instance retrieval measured from embeddings and ids, whoever made them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int, Shaped

from sbir.protocols import PROTOCOLS, Trial, trials
from sbir.retrieval.metrics import acc_at_k, bootstrap_interval, instance_counts, rank_percentile
from sbir.retrieval.ranking import nearest
from sbir.types import UserError

TOP = 10  # how many of the nearest photos are kept for each query
CUTS = (1, 5, 10)


@dataclass(frozen=True)
class InstanceReport:
  """How well sketches find their own photos; all shares are fractions.

  `queries` and `gallery` count what the protocol used: under "released" the gallery is one batch.
  """

  protocol: str
  distance: str
  queries: int
  gallery: int
  dim: int
  metrics: dict[str, float]  # acc@K; mean_ and median_rank_percentile (1: all others beaten)
  intervals: dict[str, tuple[float, float]]  # bootstrap 95 % of the means, over queries
  chance: dict[str, float]
  ties: int  # queries whose own photo scores the same as another photo
  warnings: list[str]
  ranks: Int[np.ndarray, "q"] = field(repr=False)  # 1-based, ties counted against
  query_rows: Int[np.ndarray, "q"] = field(repr=False)  # rows of the query embeddings given
  target_rows: Int[np.ndarray, "q"] = field(repr=False)  # rows of the gallery embeddings given
  nearest_rows: Int[np.ndarray, "q 10"] = field(repr=False)  # -1 where the gallery is smaller
  query_names: tuple[str, ...] = field(repr=False)
  gallery_ids: tuple[str, ...] = field(repr=False)  # of the whole gallery given, by row

  def summary(self) -> dict:
    """Returns the report as plain numbers and words, ready for JSON."""
    return {
      "protocol": self.protocol,
      "protocol_text": PROTOCOLS[self.protocol],
      "distance": self.distance,
      "queries": self.queries,
      "gallery": self.gallery,
      "dim": self.dim,
      "metrics": self.metrics,
      "intervals": {name: list(interval) for name, interval in self.intervals.items()},
      "chance": self.chance,
      "ties": self.ties,
      "warnings": self.warnings,
    }


def evaluate_instances(
  query: Shaped[np.ndarray, "q d"],
  gallery: Shaped[np.ndarray, "g d"],
  query_ids: Sequence[str] | Shaped[np.ndarray, "q"],
  gallery_ids: Sequence[str] | Shaped[np.ndarray, "g"],
  *,
  protocol: str = "full",
  distance: str = "cosine",
  cuts: Sequence[int] = CUTS,
  query_names: Sequence[str] | None = None,
  gallery_category: Sequence[str] | None = None,
  seed: int = 0,
) -> InstanceReport:
  """Returns how often a sketch finds its own photo, the one with the same id.

  `protocol`: "full" (every sketch against all photos; the default and the standard), "released" or
  "one_per_class" (see `protocols`; random choices from `seed`). `query_names` (default: the ids)
  name the queries in the CSV. The bootstrap redraws queries one by one.

  Raises: UserError on non-finite embeddings, ids that do not fit, repeat or lead nowhere.
  """
  photo_row = _photo_rows(query_ids, gallery_ids, len(query), len(gallery))
  names = [str(name) for name in (query_ids if query_names is None else query_names)]
  if len(names) != len(query):
    raise UserError(f"{len(names)} query names for {len(query)} queries; expected one each")
  parts = trials(protocol, photo_row, len(gallery), category=gallery_category, seed=seed)
  query, gallery = np.asarray(query), np.asarray(gallery)
  runs = [_run_trial(query, gallery, trial, distance) for trial in parts]
  ranks, ties, nearest_rows = (np.concatenate(column) for column in zip(*runs, strict=True))
  sizes = np.concatenate([np.full(len(t.query_rows), len(t.gallery_rows)) for t in parts])
  metrics, intervals, chance = _figures(ranks, sizes, cuts, seed)
  num_tied = int((ties > 0).sum())
  return InstanceReport(
    protocol=protocol,
    distance=distance,
    queries=len(ranks),
    gallery=int(sizes.max()),
    dim=query.shape[1],
    metrics=metrics,
    intervals=intervals,
    chance=chance,
    ties=num_tied,
    warnings=_warnings(num_tied, sizes, protocol),
    ranks=ranks,
    query_rows=np.concatenate([trial.query_rows for trial in parts]),
    target_rows=np.concatenate([trial.gallery_rows[trial.target] for trial in parts]),
    nearest_rows=nearest_rows,
    query_names=tuple(names),
    gallery_ids=tuple(str(name) for name in gallery_ids),
  )


def best_typical_worst(ranks: Int[np.ndarray, "q"], num: int = 3) -> Int[np.ndarray, "n"]:
  """Returns the places of `num` of the best, `num` middle and `num` of the worst ranks, in order.

  No query comes twice; fewer come back if there are fewer queries.
  """
  order = np.argsort(ranks, kind="stable")
  middle = max(0, (len(order) - num) // 2)
  picked = np.concatenate([order[:num], order[middle : middle + num], order[-num:]])
  _, first = np.unique(picked, return_index=True)
  return picked[np.sort(first)]


def _run_trial(
  query: np.ndarray, gallery: np.ndarray, trial: Trial, distance: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  asked, photos = query[trial.query_rows], gallery[trial.gallery_rows]
  ranks, ties = instance_counts(asked, photos, trial.target, distance=distance)
  top = trial.gallery_rows[nearest(asked, photos, TOP, distance=distance)]
  return ranks, ties, np.pad(top, ((0, 0), (0, TOP - top.shape[1])), constant_values=-1)


def _figures(
  ranks: np.ndarray, sizes: np.ndarray, cuts: Sequence[int], seed: int
) -> tuple[dict, dict, dict]:
  """Returns (metrics, intervals, chance); `sizes` is the size of each query's gallery."""
  percentile = rank_percentile(ranks, sizes)
  metrics = {f"acc@{k}": acc_at_k(ranks, k) for k in cuts}
  intervals = {f"acc@{k}": bootstrap_interval(ranks <= k, seed) for k in cuts}
  chance = {f"acc@{k}": float(np.minimum(k / sizes, 1).mean()) for k in cuts}
  metrics["mean_rank_percentile"] = float(percentile.mean())
  metrics["median_rank_percentile"] = float(np.median(percentile))
  intervals["mean_rank_percentile"] = bootstrap_interval(percentile, seed)
  chance |= {"mean_rank_percentile": 0.5, "median_rank_percentile": 0.5}
  return metrics, intervals, chance


def _warnings(num_tied: int, sizes: np.ndarray, protocol: str) -> list[str]:
  notes = []
  if num_tied:
    notes.append(
      f"{num_tied} of {len(sizes)} sketches score their own photo like another: counted against"
    )
  if protocol == "released" and sizes.min() < sizes.max():
    notes.append(f"the last batch holds {sizes.min()} photos only, so its task is easier")
  return notes


def _photo_rows(
  query_ids: Sequence, gallery_ids: Sequence, num_queries: int, num_gallery: int
) -> np.ndarray:
  """Returns the gallery row of each query's own photo."""
  for name, ids, count in (
    ("query", query_ids, num_queries),
    ("gallery", gallery_ids, num_gallery),
  ):
    if len(ids) != count:
      raise UserError(f"{len(ids)} {name} ids for {count} {name} embeddings; expected one each")
  row_of: dict[str, int] = {}
  for row, name in enumerate(gallery_ids):
    if row_of.setdefault(str(name), row) != row:
      raise UserError(f"gallery id {name!s} comes twice; expected one photo an id")
  lost = sorted({str(name) for name in query_ids} - row_of.keys())
  if lost:
    raise UserError(
      f"{len(lost)} query ids are not in the gallery (first: {lost[0]}); "
      "expected the id of each sketch's own photo"
    )
  return np.array([row_of[str(name)] for name in query_ids])

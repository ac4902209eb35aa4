"""All category metrics in one pass over the rankings, under their full names and as published.

Full names: map@all[plain], map@all[voc], map@K[min|hits|R,plain|voc], prec@K[N], prec@K[R].
The same embeddings give different figures under each line of work's own evaluator, so a preset
says exactly which of them it prints.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from sbir.retrieval.metrics import average_precision, mean_over_queries, precision_at_k
from sbir.retrieval.ranking import (
  Embedded,
  Hits,
  Order,
  check_distance,
  hits_in_order,
  prepare,
  quantise,
  score_blocks,
  sort_scores,
)
from sbir.types import UserError

CUTS = (10, 50, 100, 200)
TOP = 10  # how many of the nearest items are kept for each query


@dataclass(frozen=True)
class Preset:
  """What one line of work prints as mAP@all, mAP@k and Prec@k."""

  distance: str
  interpolated: bool
  map_denominator: str  # "min", "hits" or "R"; "hits" counts a query without relevant items as 0
  precision_denominator: str  # "N" or "R"


PRESETS = {
  "sake": Preset("cosine", True, "min", "N"),  # SAKE, TVT, PSKD
  "zse": Preset("euclidean", True, "min", "R"),  # ZSE-SBIR
  "sempcyc": Preset("euclidean", False, "hits", "N"),  # SEM-PCYC
}


@dataclass(frozen=True)
class CategoryReport:
  """Means over queries, and the values of every query behind them (nan: left out of the mean)."""

  queries: int
  gallery: int
  dim: int
  distance: str  # of `metrics`; each preset uses its own
  metrics: dict[str, float]
  presets: dict[str, dict[str, float]]
  ties: int  # queries for which two gallery items score the same under `distance`
  warnings: list[str]
  per_query: dict[str, Float[np.ndarray, "q"]] = field(repr=False)
  preset_per_query: dict[str, dict[str, Float[np.ndarray, "q"]]] = field(repr=False)
  query_label: Shaped[np.ndarray, "q"] = field(repr=False)  # as given
  gallery_label: Shaped[np.ndarray, "g"] = field(repr=False)
  num_relevant: Int[np.ndarray, "q"] = field(repr=False)  # gallery items with the query's label
  # Of the nearest gallery items under `distance`: rows, and whether the label is the query's.
  nearest_rows: Int[np.ndarray, "q 10"] = field(repr=False)  # -1 where the gallery is smaller
  nearest_is_right: Bool[np.ndarray, "q 10"] = field(repr=False)

  def summary(self) -> dict:
    """Returns what `python -m sbir.evaluate --json` prints: no arrays, None for nan."""
    return {
      "queries": self.queries,
      "gallery": self.gallery,
      "dim": self.dim,
      "metrics": _without_nan(self.metrics),
      "presets": {name: _without_nan(values) for name, values in self.presets.items()},
      "ties": self.ties,
      "warnings": self.warnings,
    }


def category_metrics(hits: Hits, cuts: Sequence[int] = CUTS) -> dict[str, Float[np.ndarray, "q"]]:
  """Returns every metric of every query under its full name."""
  values = {}
  for form, is_voc in (("plain", False), ("voc", True)):
    values[f"map@all[{form}]"] = average_precision(hits, interpolated=is_voc)
    for k in cuts:
      for name in ("min", "hits", "R"):
        values[f"map@{k}[{name},{form}]"] = average_precision(
          hits, k, interpolated=is_voc, denominator=name
        )
  for k in cuts:
    for name in ("N", "R"):
      values[f"prec@{k}[{name}]"] = precision_at_k(hits, k, denominator=name)
  return values


def preset_metrics(
  hits: Hits, preset: Preset, cuts: Sequence[int] = CUTS
) -> dict[str, Float[np.ndarray, "q"]]:
  """Returns map@all, map@K and prec@K of every query as `preset` defines them."""
  values = {}
  for name, k in [("all", None), *((str(k), k) for k in cuts)]:
    values[f"map@{name}"] = average_precision(
      hits, k, interpolated=preset.interpolated, denominator=preset.map_denominator
    )
  for k in cuts:
    values[f"prec@{k}"] = precision_at_k(hits, k, denominator=preset.precision_denominator)
  return values


def evaluate_categories(
  query: Shaped[np.ndarray, "q d"],
  gallery: Shaped[np.ndarray, "g d"],
  query_label: Shaped[np.ndarray, "q"],
  gallery_label: Shaped[np.ndarray, "g"],
  *,
  cuts: Sequence[int] = CUTS,
  distance: str = "cosine",
  presets: Sequence[str] = tuple(PRESETS),
) -> CategoryReport:
  """Returns all metrics under `distance` and the chosen presets, each under its own distance.

  Works through blocks of queries: memory does not grow with their number. Labels are whole numbers
  or names.

  Raises: UserError on non-finite embeddings, shapes or labels that do not fit, unknown names.
  """
  check_distance(distance)
  check_choices(presets, cuts)
  embedded = prepare(query, gallery)
  preset_distance = {name: PRESETS[name].distance for name in presets}
  return report_of_rankings(
    _rankings(embedded, tuple({distance, *preset_distance.values()})),
    query_label,
    gallery_label,
    counts=(len(query), len(gallery)),
    dim=embedded.query.shape[1],
    distance=distance,
    preset_distance=preset_distance,
    cuts=cuts,
    notes=_notes(embedded),
  )


def report_of_rankings(
  rankings: Iterator[tuple[slice, str, Order]],
  query_label: Shaped[np.ndarray, "q"],
  gallery_label: Shaped[np.ndarray, "g"],
  *,
  counts: tuple[int, int],
  dim: int,
  distance: str,
  preset_distance: Mapping[str, str],
  cuts: Sequence[int] = CUTS,
  notes: Sequence[str] = (),
) -> CategoryReport:
  """Returns the report of rankings that come as (block of queries, distance, order), in order.

  `counts` says how many queries and gallery items there are; `notes` join the warnings.
  """
  query_code, gallery_code = _label_codes(query_label, gallery_label, *counts)
  blocks, preset_blocks, tops = [], {name: [] for name in preset_distance}, []
  for rows, used, (order, tied_with_next) in rankings:
    is_right = gallery_code[order] == query_code[rows, None]
    hits = hits_in_order(is_right, tied_with_next)
    for name in preset_distance:
      if preset_distance[name] == used:
        preset_blocks[name].append(preset_metrics(hits, PRESETS[name], cuts))
    if used == distance:
      blocks.append(category_metrics(hits, cuts))
      top = order[:, :TOP].copy(), is_right[:, :TOP].copy()  # copies: the block is large
      tops.append((hits.is_tied, hits.num_relevant, *top))
  per_query = _joined(blocks)
  preset_per_query = {name: _joined(parts) for name, parts in preset_blocks.items()}
  is_tied, num_relevant, nearest, is_right = map(np.concatenate, zip(*tops, strict=True))
  beyond = ((0, 0), (0, TOP - nearest.shape[1]))
  ties = int(is_tied.sum())
  return CategoryReport(
    queries=counts[0],
    gallery=counts[1],
    dim=dim,
    distance=distance,
    metrics=_means(per_query),
    presets={name: _means(values) for name, values in preset_per_query.items()},
    ties=ties,
    warnings=[*_warnings(num_relevant, ties, cuts, counts[1]), *notes],
    per_query=per_query,
    preset_per_query=preset_per_query,
    query_label=np.asarray(query_label),
    gallery_label=np.asarray(gallery_label),
    num_relevant=num_relevant,
    nearest_rows=np.pad(nearest, beyond, constant_values=-1),
    nearest_is_right=np.pad(is_right, beyond),
  )


def check_choices(presets: Sequence[str], cuts: Sequence[int]) -> None:
  """Raises UserError on an unknown preset, or a cut below 1."""
  unknown = [name for name in presets if name not in PRESETS]
  if unknown:
    raise UserError(f"preset={unknown[0]!r} must be one of: {', '.join(PRESETS)}")
  if any(k < 1 for k in cuts):
    raise UserError(f"k={min(cuts)} must be at least 1")


def _rankings(embedded: Embedded, distances: tuple[str, ...]) -> Iterator[tuple[slice, str, Order]]:
  for rows, scores in score_blocks(embedded, distances):
    for used in distances:
      yield rows, used, sort_scores(quantise(scores.pop(used)))


def _joined(blocks: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
  return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _means(values: dict[str, np.ndarray]) -> dict[str, float]:
  return {name: mean_over_queries(of_query) for name, of_query in values.items()}


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
  return {name: None if np.isnan(value) else value for name, value in values.items()}


def _warnings(
  num_relevant: np.ndarray, ties: int, cuts: Sequence[int], num_gallery: int
) -> list[str]:
  num_queries, lost = len(num_relevant), int((num_relevant == 0).sum())
  notes = []
  if lost:
    notes.append(
      f"{lost} of {num_queries} queries have no relevant item in the gallery: left out of map and "
      "prec[R], 0 in map[hits] and prec[N]"
    )
  if ties:
    notes.append(
      f"{ties} of {num_queries} queries have gallery items of equal score: map[plain] takes them "
      "together, the others in gallery order"
    )
  return notes + [
    f"k={k} is more than the gallery of {num_gallery}" for k in cuts if k > num_gallery
  ]


def _notes(embedded: Embedded) -> list[str]:
  zeros = int((embedded.query_norm == 0).sum() + (embedded.gallery_norm == 0).sum())
  if not zeros:
    return []
  return [f"{zeros} different embeddings are all zero: their cosine with anything is 0"]


def _label_codes(
  query_label: np.ndarray, gallery_label: np.ndarray, num_queries: int, num_gallery: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns both label lists as small whole numbers that are equal where the labels are."""
  sides = {"query": (query_label, num_queries), "gallery": (gallery_label, num_gallery)}
  checked = []
  for name, (label, count) in sides.items():
    label = np.asarray(label)
    if label.shape != (count,):
      raise UserError(
        f"{name}_label has shape {label.shape}; expected one label for each of {count} embeddings"
      )
    if label.dtype.kind not in "iuUS":
      raise UserError(f"{name}_label is {label.dtype}; expected whole numbers or names")
    checked.append(label)
  if (checked[0].dtype.kind in "iu") != (checked[1].dtype.kind in "iu"):
    raise UserError(
      f"query_label is {checked[0].dtype} and gallery_label {checked[1].dtype}; "
      "expected numbers on both sides or names on both"
    )
  codes = np.unique(np.concatenate(checked), return_inverse=True)[1].astype(np.int32)
  return codes[:num_queries], codes[num_queries:]

"""What stands beside the figures of a category report: intervals, chance, and class by class."""

from typing import NamedTuple

import numpy as np

from sbir.retrieval.metrics import bootstrap_interval, mean_over_queries, per_class_mean
from sbir.retrieval.presets import CategoryReport, category_metrics
from sbir.retrieval.ranking import Hits

HEADLINES = ("map@all[voc]", "map@all[plain]", "map@200[min,voc]", "prec@100[N]", "prec@200[N]")
SHUFFLES = 20
CHANCE_TEXT = (
  f"chance: measured, not computed: the mean over {SHUFFLES} random orders of the gallery for each "
  "number of relevant items"
)


class ClassRow(NamedTuple):
  """One class of the queries: means over its queries, nan where none counts."""

  name: str
  queries: int
  gallery: int
  metrics: dict[str, float]


def headlines(report: CategoryReport) -> tuple[str, ...]:
  """Returns the names of the HEADLINES that the report has, whatever its cuts."""
  return tuple(name for name in HEADLINES if name in report.metrics)


def intervals(report: CategoryReport, seed: int = 0) -> dict[str, tuple[float, float]]:
  """Returns the bootstrap 95 % interval of each headline's mean; queries are redrawn one by one.

  It tells how far other sketches of the same classes would move the figure, not other classes.
  """
  return {name: bootstrap_interval(report.per_query[name], seed) for name in headlines(report)}


def chance(report: CategoryReport, seed: int = 0) -> dict[str, float]:
  """Returns what each headline would be if the gallery came in random order (CHANCE_TEXT).

  A ranking's figures depend on how many items are relevant, not on which, so queries with equally
  many share their random orders.
  """
  rng, names = np.random.default_rng(seed), headlines(report)
  sizes, which = np.unique(report.num_relevant, return_inverse=True)
  by_size = [_chance_of(int(size), report.gallery, names, rng) for size in sizes]
  return {
    name: mean_over_queries(np.array([values[name] for values in by_size])[which]) for name in names
  }


def class_rows(report: CategoryReport) -> list[ClassRow]:
  """Returns one row for each class among the queries, in sorted order."""
  by_class = {
    name: per_class_mean(report.per_query[name], report.query_label) for name in headlines(report)
  }
  label, first, count = np.unique(report.query_label, return_index=True, return_counts=True)
  return [
    ClassRow(
      str(name.decode() if isinstance(name, bytes) else name),
      int(num),
      int(report.num_relevant[row]),
      {metric: of_class[name] for metric, of_class in by_class.items()},
    )
    for name, row, num in zip(label.tolist(), first, count, strict=True)
  ]


def class_mean(report: CategoryReport) -> dict[str, float]:
  """Returns each headline as the mean over classes, all counting alike however many queries."""
  rows = class_rows(report)
  return {
    name: mean_over_queries(np.array([row.metrics[name] for row in rows]))
    for name in headlines(report)
  }


def best_typical_worst(report: CategoryReport, num: int = 2) -> list[tuple[str, int]]:
  """Returns ("best" | "typical" | "worst", row of the query) for `num` queries each, best first.

  By average precision (interpolated, of the whole gallery). Each is of another class where there
  are enough classes, so that one easy class does not fill the picture; queries without relevant
  items are left out, and no query comes twice.
  """
  values = report.per_query["map@all[voc]"]
  order = np.argsort(-values, kind="stable")
  order = order[: np.count_nonzero(~np.isnan(values))]  # nan is sorted to the end
  from_middle = order[np.argsort(np.abs(np.arange(len(order)) - len(order) // 2), kind="stable")]
  taken: list[int] = []
  picked: dict[str, list[int]] = {}
  for word, candidates in (("best", order), ("worst", order[::-1]), ("typical", from_middle)):
    picked[word] = _of_many_classes([row for row in candidates if row not in taken], report, num)
    taken += picked[word]
  return [
    (word, row)
    for word in ("best", "typical", "worst")
    for row in sorted(picked[word], key=lambda row: -values[row])
  ]


def _of_many_classes(candidates: list[int], report: CategoryReport, num: int) -> list[int]:
  """Returns the first `num` candidates of different classes, filled up with the first others."""
  seen: set = set()
  first = [r for r in candidates if not ((c := report.query_label[r]) in seen or seen.add(c))]
  rest = [row for row in candidates if row not in first[:num]]
  return [int(row) for row in [*first[:num], *rest][:num]]


def _chance_of(
  num_relevant: int, num_gallery: int, names: tuple[str, ...], rng: np.random.Generator
) -> dict[str, float]:
  shuffled = np.full((SHUFFLES, max(1, num_relevant)), num_gallery + 1)
  if num_relevant:
    draws = [rng.choice(num_gallery, num_relevant, replace=False) for _ in range(SHUFFLES)]
    shuffled = np.sort(np.stack(draws) + 1, axis=1)
  counts, no_ties = np.full(SHUFFLES, num_relevant), np.zeros(SHUFFLES, bool)
  cuts = sorted(
    {int(name[name.index("@") + 1 : name.index("[")]) for name in names if "all" not in name}
  )
  values = category_metrics(Hits(shuffled, shuffled, counts, no_ties, num_gallery), cuts)
  return {name: mean_over_queries(values[name]) for name in names}

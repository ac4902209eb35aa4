"""An evaluation to look at: what was found, class by class, where the network looks, the embedding
space, and prototypes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from pskd.embedding import Embedded
from sbir.category_report import class_table, headline_rows, preset_rows
from sbir.data.records import photo_indices, sketch_indices
from sbir.data.resized import ResizedSource
from sbir.html_report import Picture, Section, Table, write_html
from sbir.plots import rank_histogram
from sbir.plots_category import category_grid, class_bars, correlation_heatmap, embedding_map
from sbir.projection import project
from sbir.report_extras import (
  Look,
  Network,
  attention_section,
  draw_attention,
  draw_partial,
  gap_table,
  partial_section,
  sampled,
)
from sbir.retrieval.category_stats import (
  CHANCE_TEXT,
  best_typical_worst,
  chance,
  class_rows,
)
from sbir.retrieval.first_right import chance_of_first, first_right_ranks
from sbir.retrieval.modality_gap import modality_gap, pairs_of_class
from sbir.retrieval.presets import CategoryReport, evaluate_categories

METRIC = "map@all[voc]"
GRID, RANKS, CLASSES, PROTOTYPES, MAP = (
  "grid.png",
  "ranks.png",
  "classes.png",
  "prototypes.png",
  "map.png",
)
CAPTIONS = {
  GRID: "Sketches with the highest, middle and lowest average precision, and the ten nearest "
  "photos; those of the sketch's class are framed. Of different classes where possible.",
  RANKS: "Where the first photo of the sketch's class comes, by cosine.",
  CLASSES: "Mean average precision of the sketches of each class.",
  MAP: "t-SNE of sketches (crosses) and photos (dots) of the unseen classes.",
  PROTOTYPES: "How alike the network takes the classes it was trained on to be: the cosines of "
  "their prototypes, by which the teacher's logits are multiplied.",
}


class Evaluated(NamedTuple):
  """An evaluation, and the images it was made of."""

  report: CategoryReport
  queries: ResizedSource
  gallery: Sequence[ResizedSource]
  query: Embedded
  found_in: Embedded  # the gallery's

  def sketch(self, row: int) -> UInt8[np.ndarray, "s s 3"]:
    """Returns the image of a query."""
    return self.queries.image(sketch_indices(self.queries)[row])

  def photo(self, row: int) -> UInt8[np.ndarray, "s s 3"]:
    """Returns the image of a row of the gallery, whose parts stand one after another."""
    for part in self.gallery:
      photos = photo_indices(part)
      if row < len(photos):
        return part.image(photos[row])
      row -= len(photos)
    raise IndexError(row)


def draw(
  folder: Path,
  evaluated: Evaluated,
  correlation: Float[np.ndarray, "c c"],
  classes: Sequence[str],
  *,
  rows: int,
  seed: int,
) -> None:
  """Writes the pictures named in CAPTIONS into `folder`."""
  report, embedded = evaluated.report, (evaluated.query, evaluated.found_in)
  draw_grid(folder / GRID, evaluated, rows)
  rank_histogram(
    folder / RANKS,
    first_right_ranks(*(side.vectors for side in embedded), *(side.label for side in embedded)),
    report.gallery,
    chance=chance_of_first(report.num_relevant, report.gallery),
    what="first right photo",
  )
  by_class = class_rows(report)
  class_bars(
    folder / CLASSES,
    [row.name for row in by_class],
    {METRIC: [row.metrics[METRIC] for row in by_class]},
    chance={METRIC: chance(report)[METRIC]},
    title="Mean average precision by class",
  )
  points = project(*(side.vectors for side in embedded), seed=seed)
  label = points.labels(*(side.label for side in embedded))
  embedding_map(
    folder / MAP, points.points, label, points.is_query, title="Sketches and photos, t-SNE"
  )
  title = f"Correlation of {len(classes)} class prototypes"
  correlation_heatmap(folder / PROTOTYPES, correlation, classes, title=title)


def draw_grid(path: Path, evaluated: Evaluated, rows: int) -> None:
  """Writes the nearest photos of `rows` of the best, of the typical and of the worst sketches."""
  report = evaluated.report
  precision = report.per_query[METRIC]
  words, picked = zip(*best_typical_worst(report, rows), strict=True)
  found = [[row for row in report.nearest_rows[i] if row >= 0] for i in picked]
  category_grid(
    path,
    [evaluated.sketch(i) for i in picked],
    [[evaluated.photo(row) for row in row_of] for row_of in found],
    [report.nearest_is_right[i][: len(row_of)] for i, row_of in zip(picked, found, strict=True)],
    query_classes=[str(report.query_label[i]) for i in picked],
    result_classes=[[str(report.gallery_label[row]) for row in row_of] for row_of in found],
    labels=words,
    scores=[float(precision[i]) for i in picked],
    title=f"mAP@all[voc] {100 * report.metrics[METRIC]:.1f} %",
  )


def look(folder: Path, evaluated: Evaluated, network: Network) -> Section:
  """Writes where the network looks in a few sketches and what they found; returns its section."""
  report, looks = evaluated.report, []
  for word, row in best_typical_worst(report, 2):
    photo = evaluated.photo(report.nearest_rows[row][0])
    is_right = bool(report.nearest_is_right[row][0])
    looks.append(Look(evaluated.sketch(row), photo, is_right, word))
  draw_attention(folder, network, looks)
  return attention_section(folder)


def in_part(
  folder: Path, evaluated: Evaluated, network: Network, data: Mapping[str, Any], seed: int
) -> Section:
  """Writes what sketches find when only a part of them is drawn; returns the section of that."""
  report, gallery = evaluated.report, evaluated.found_in
  picked = sampled(report.queries, seed)
  label = evaluated.query.label[picked]

  def score(vectors: np.ndarray) -> dict[str, np.ndarray]:
    found = evaluate_categories(vectors, gallery.vectors, label, gallery.label)
    first = found.nearest_is_right[:, 0].astype(float)
    return {METRIC: found.per_query[METRIC], "first photo right": first}

  by_chance = {
    METRIC: chance(report)[METRIC],
    "first photo right": float(report.num_relevant.mean() / report.gallery),
  }
  sketches = sketch_indices(evaluated.queries)
  indices = [sketches[row] for row in picked]
  figures = draw_partial(folder, network, evaluated.queries, data, indices, score, by_chance)
  return partial_section(folder, figures, data, len(picked))


def write_page(
  folder: Path,
  evaluated: Evaluated,
  network: Network,
  about: Mapping[str, str],
  title: str,
  *,
  data: Mapping[str, Any],
  seed: int,
) -> Path:
  """Writes report.html, one file with all numbers and the pictures of `draw`; returns its path."""
  report, query, gallery = evaluated.report, evaluated.query, evaluated.found_in
  head, *published = preset_rows(report)
  class_head, *by_class = class_table(report)
  measures = Table(
    ("metric, %", "measured", "95 % interval", "class mean", "chance"),
    headline_rows(report),
    CHANCE_TEXT,
  )
  pairs = pairs_of_class(query.label, gallery.label, seed=seed)
  gap = modality_gap(query.vectors, gallery.vectors, pairs, seed=seed)
  pictures = {name: Picture(folder / name, caption) for name, caption in CAPTIONS.items()}
  return write_html(
    folder / "report.html",
    title,
    [
      Section("What was measured", [Table(("", ""), list(about.items()), num_left=2)]),
      Section(
        "How well",
        [
          measures,
          Table(head, published, "%, as each line of work prints it", 2),
          pictures[RANKS],
        ],
      ),
      Section("What is found", [pictures[GRID]]),
      Section("Class by class", [pictures[CLASSES], Table(class_head, by_class)]),
      look(folder, evaluated, network),
      in_part(folder, evaluated, network, data, seed),
      Section("The space", [pictures[MAP], gap_table(gap, "a photo of its class")]),
      Section("The prototypes", [pictures[PROTOTYPES]]),
    ],
  )

"""An evaluation to look at: what was found, class by class, prototypes, and the embedding space."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from pskd.embedding import Embedded
from sbir.category_report import class_table, headline_rows, preset_rows
from sbir.data.records import photo_indices, sketch_indices
from sbir.data.resized import ResizedSource
from sbir.html_report import Picture, Section, Table, write_html
from sbir.plots_category import category_grid, class_bars, correlation_heatmap, embedding_map
from sbir.projection import project
from sbir.retrieval.category_stats import (
  CHANCE_TEXT,
  best_typical_worst,
  chance,
  class_rows,
)
from sbir.retrieval.presets import CategoryReport

METRIC = "map@all[voc]"
GRID, CLASSES, PROTOTYPES, MAP = "grid.png", "classes.png", "prototypes.png", "map.png"
CAPTIONS = {
  GRID: "Sketches with the highest, middle and lowest average precision, and the ten nearest "
  "photos; those of the sketch's class are framed. Of different classes where possible.",
  CLASSES: "Mean average precision of the sketches of each class.",
  MAP: "t-SNE of sketches (crosses) and photos (dots) of the unseen classes.",
  PROTOTYPES: "How alike the network takes the classes it was trained on to be: the cosines of "
  "their prototypes, by which the teacher's logits are multiplied.",
}


def draw(
  folder: Path,
  report: CategoryReport,
  queries: ResizedSource,
  gallery: Sequence[ResizedSource],
  embedded: tuple[Embedded, Embedded],
  correlation: Float[np.ndarray, "c c"],
  classes: Sequence[str],
  *,
  rows: int,
  seed: int,
) -> None:
  """Writes the pictures named in CAPTIONS into `folder`."""
  draw_grid(folder / GRID, report, queries, gallery, rows)
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


def draw_grid(
  path: Path,
  report: CategoryReport,
  queries: ResizedSource,
  gallery: Sequence[ResizedSource],
  rows: int,
) -> None:
  """Writes the nearest photos of `rows` of the best, of the typical and of the worst sketches."""
  precision = report.per_query[METRIC]
  words, picked = zip(*best_typical_worst(report, rows), strict=True)
  sketches = sketch_indices(queries)
  photos = [(part, index) for part in gallery for index in photo_indices(part)]

  def photo(row: int) -> UInt8[np.ndarray, "s s 3"]:
    part, index = photos[row]
    return part.image(index)

  found = [[row for row in report.nearest_rows[i] if row >= 0] for i in picked]
  category_grid(
    path,
    [queries.image(sketches[i]) for i in picked],
    [[photo(row) for row in row_of] for row_of in found],
    [report.nearest_is_right[i][: len(row_of)] for i, row_of in zip(picked, found, strict=True)],
    query_classes=[str(report.query_label[i]) for i in picked],
    result_classes=[[str(report.gallery_label[row]) for row in row_of] for row_of in found],
    labels=words,
    scores=[float(precision[i]) for i in picked],
    title=f"mAP@all[voc] {100 * report.metrics[METRIC]:.1f} %",
  )


def write_page(folder: Path, report: CategoryReport, about: Mapping[str, str], title: str) -> Path:
  """Writes report.html, one file with all numbers and the pictures of `draw`; returns its path."""
  head, *published = preset_rows(report)
  class_head, *by_class = class_table(report)
  measures = Table(
    ("metric, %", "measured", "95 % interval", "class mean", "chance"),
    headline_rows(report),
    CHANCE_TEXT,
  )
  pictures = {name: Picture(folder / name, caption) for name, caption in CAPTIONS.items()}
  return write_html(
    folder / "report.html",
    title,
    [
      Section("What was measured", [Table(("", ""), list(about.items()), num_left=2)]),
      Section(
        "How well", [measures, Table(head, published, "%, as each line of work prints it", 2)]
      ),
      Section("What is found", [pictures[GRID]]),
      Section("Class by class", [pictures[CLASSES], Table(class_head, by_class)]),
      Section("The space", [pictures[MAP]]),
      Section("The prototypes", [pictures[PROTOTYPES]]),
    ],
  )

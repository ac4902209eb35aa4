"""An evaluation to look at: what was found, how ranks lie, where the students look, the space."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sbir import plots
from sbir.data.records import photo_indices, sketch_indices
from sbir.data.resized import ResizedSource
from sbir.html_report import Picture, Section, Table, write_html
from sbir.instances import InstanceReport, best_typical_worst
from sbir.plots_category import class_bars, embedding_map
from sbir.projection import project
from sbir.protocols import PROTOCOLS
from sbir.report import metric_rows
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
from sbir.retrieval.metrics import instance_ranks
from sbir.retrieval.modality_gap import modality_gap

GRID, RANKS, CLASSES, MAP = "grid.png", "ranks.png", "classes.png", "map.png"
CAPTIONS = {
  GRID: "Sketches with the best, the middle and the worst ranks, and the ten nearest photos. The "
  "sketch's own photo is framed; where it is not among them, it stands at the right.",
  RANKS: "Left: how many sketches have their photo among the first K. Right: where it comes.",
  CLASSES: "How often the sketches of each class find their own photo first, and among ten.",
  MAP: "t-SNE of sketches (crosses) and photos (dots) of the test split; a line joins a sketch and "
  "its photo.",
}
CUTS = (1, 10)
Vectors = Mapping[str, Float[np.ndarray, "n d"]]


class Pictures:
  """The pictures and the page of one evaluation, written into `folder`."""

  def __init__(self, folder: Path, report: InstanceReport, source: ResizedSource):
    self.folder, self.report, self.source = folder, report, source
    self.photo_of, self.sketch_of = photo_indices(source), sketch_indices(source)

  def draw_found(self, rows: int) -> Path:
    """Writes RANKS and GRID, of `rows` of the best, typical and worst; returns the grid's path."""
    report, image = self.report, self.source.image
    picked = best_typical_worst(report.ranks, rows)
    nearest = [[row for row in report.nearest_rows[i] if row >= 0] for i in picked]
    targets = report.target_rows[picked]
    places = [
      row.index(target) if target in row else None
      for row, target in zip(nearest, targets, strict=True)
    ]
    plots.rank_histogram(self.folder / RANKS, report.ranks, report.gallery)
    return plots.retrieval_grid(
      self.folder / GRID,
      [image(self.sketch_of[report.query_rows[i]]) for i in picked],
      [[image(self.photo_of[row]) for row in found] for found in nearest],
      places,
      ranks=report.ranks[picked],
      gallery_size=report.gallery,
      right=[image(self.photo_of[target]) for target in targets],
      title=f"Acc@1 {report.metrics['acc@1']:.3f}, Acc@10 {report.metrics['acc@10']:.3f}",
    )

  def found(self) -> list[Section]:
    """Returns the sections of what `draw_found` has written."""
    rows, notes = metric_rows(self.report), "\n".join(self.report.warnings)
    figures = Table(("metric, %", "measured", "95 % interval", "chance"), rows)
    pictures = {name: Picture(self.folder / name, CAPTIONS[name]) for name in (GRID, RANKS)}
    return [
      Section("How well", [figures, pictures[RANKS]], notes),
      Section("What is found", [pictures[GRID]]),
    ]

  def classes(self) -> list[Section]:
    """Writes CLASSES and returns its section; nothing of data without classes."""
    label = np.array(
      [self.source.records[self.sketch_of[i]].category for i in self.report.query_rows]
    )
    names = np.unique(label).tolist()
    if len(names) < 2:
      return []
    shares = {
      f"Acc@{k}": [float((self.report.ranks[label == name] <= k).mean()) for name in names]
      for k in CUTS
    }
    chance = {name: self.report.chance[name.lower()] for name in shares}
    class_bars(self.folder / CLASSES, names, shares, chance=chance, title="Accuracy by class")
    rows = [
      (name, str((label == name).sum()), *(f"{100 * values[i]:.1f}" for values in shares.values()))
      for i, name in enumerate(names)
    ]
    table = Table(("class", "sketches", *(f"{name}, %" for name in shares)), rows)
    return [Section("Class by class", [Picture(self.folder / CLASSES, CAPTIONS[CLASSES]), table])]

  def attention(self, network: Network) -> Section:
    """Writes where the network looks in a few sketches and in what they found first."""
    report, image, looks = self.report, self.source.image, []
    for i in best_typical_worst(report.ranks, 2):
      first = report.nearest_rows[i][0]
      sketch, photo = self.sketch_of[report.query_rows[i]], self.photo_of[first]
      is_right = bool(first == report.target_rows[i])
      looks.append(Look(image(sketch), image(photo), is_right, f"rank {report.ranks[i]}"))
    draw_attention(self.folder, network, looks)
    return attention_section(self.folder)

  def partial(
    self, network: Network, embedded: Vectors, data: Mapping[str, Any], seed: int
  ) -> Section:
    """Writes how often a sketch finds its photo when only a part of it is drawn; returns the
    section of that."""
    picked = sampled(len(self.sketch_of), seed)
    row_of = {self.source.records[i].instance: row for row, i in enumerate(self.photo_of)}
    indices = [self.sketch_of[row] for row in picked]
    target = np.array([row_of[self.source.records[i].instance] for i in indices])

    def score(vectors: np.ndarray) -> dict[str, np.ndarray]:
      ranks = instance_ranks(vectors, embedded["photo"], target)
      return {f"Acc@{k}": (ranks <= k).astype(float) for k in CUTS}

    chance = {f"Acc@{k}": min(1.0, k / len(self.photo_of)) for k in CUTS}
    figures = draw_partial(self.folder, network, self.source, data, indices, score, chance)
    return partial_section(self.folder, figures, data, len(picked))

  def space(self, embedded: Vectors, seed: int) -> Section:
    """Writes MAP and returns its section, with the modality gap."""
    query, gallery = embedded["sketch"], embedded["photo"]
    records = self.source.records
    points = project(query, gallery, seed=seed)
    label = points.labels(
      *(np.array([records[i].category for i in of]) for of in (self.sketch_of, self.photo_of))
    )
    row_of = {records[i].instance: row for row, i in enumerate(self.photo_of)}
    target = np.array([row_of[records[i].instance] for i in self.sketch_of])
    embedding_map(
      self.folder / MAP, points.points, label, points.is_query, links=points.links(target)
    )
    pairs = np.stack([np.arange(len(query)), target], axis=1)
    gap = gap_table(modality_gap(query, gallery, pairs, seed=seed), "its own photo")
    return Section("The space", [Picture(self.folder / MAP, CAPTIONS[MAP]), gap])


def write_page(
  folder: Path,
  report: InstanceReport,
  source: ResizedSource,
  embedded: Vectors,
  network: Network,
  about: Mapping[str, str],
  *,
  data: Mapping[str, Any],
  rows: int,
  seed: int,
) -> Path:
  """Writes all pictures and report.html, one file with all of them; returns its path."""
  pictures = Pictures(folder, report, source)
  pictures.draw_found(rows)
  asked = f"{report.queries} sketches, gallery of {report.gallery} photos, {report.distance}"
  protocol = f"{report.protocol}: {PROTOCOLS[report.protocol]}"
  facts = [*about.items(), ("asked", asked), ("protocol", protocol)]
  return write_html(
    folder / "report.html",
    f"{data['name']}: the very photo that was drawn",
    [
      Section("What was measured", [Table(("", ""), facts, num_left=2)]),
      *pictures.found(),
      *pictures.classes(),
      pictures.attention(network),
      pictures.partial(network, embedded, data, seed),
      pictures.space(embedded, seed),
    ],
  )

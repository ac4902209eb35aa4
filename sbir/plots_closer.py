"""Pictures of a closer look: attention beside the images, figures against the share drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from sbir.drawing import (
  ACCENT,
  INK,
  PLAIN,
  RIGHT,
  Image,
  check_same_length,
  finish_axes,
  grid_figure,
  new_figure,
  save_figure,
  show_image,
  write_beside,
)

PHOTO = "photo found"
HEADS = ("attention", "what counts", PHOTO, "attention", "what counts")  # after the sketch
CURVES = (ACCENT, "#b2182b", "#762a83")


def attention_grid(
  path: str | Path,
  rows: Sequence[Sequence[Image]],
  is_right: Sequence[bool],
  *,
  labels: Sequence[str],
) -> Path:
  """Writes one row a query, as HEADS says: its sketch, attention on it and what of it counts; then
  the photo that it found, framed if that is right, and the same of this.

  Raises: UserError if the lists do not fit together or the file cannot be written.
  """
  check_same_length(rows=rows, is_right=is_right, labels=labels)
  figure, place_axes = grid_figure(len(rows), len(HEADS), has_words=True, heads=HEADS)
  for row, images in enumerate(rows):
    write_beside(axes := place_axes(row, -1), [(labels[row], INK, 10, "bold")])
    show_image(axes, images[0], PLAIN)
    for column, image in enumerate(images[1:]):
      framed = HEADS[column] == PHOTO and is_right[row]
      show_image(place_axes(row, column), image, RIGHT if framed else PLAIN)
  return save_figure(figure, path)


def share_curves(
  path: str | Path,
  shares: Sequence[float],
  figures: Mapping[str, Sequence[tuple[float, float, float]]],
  strips: UInt8[np.ndarray, "n k s s 3"],
  *,
  chance: Mapping[str, float],
) -> Path:
  """Writes (mean, low, high) of each metric against the share of the strokes, and above it some
  sketches with as much drawn; `chance` draws a dotted line for a metric."""
  check_same_length(shares=shares, **figures)
  num = len(strips)
  figure = new_figure(7.6, 3.6 + 0.95 * num)
  grid = figure.add_gridspec(num + 1, len(shares), height_ratios=[*[0.95] * num, 3.6])
  for (row, column), image in _each(strips):
    axes = figure.add_subplot(grid[row, column])
    show_image(axes, image, PLAIN)
    axes.set_aspect("equal")
    if row == 0:
      axes.set_title(f"{100 * shares[column]:.0f} %", fontsize=9.5, color=INK)
  axes, percent = figure.add_subplot(grid[num, :]), 100 * np.asarray(shares)
  for (name, triples), colour in zip(figures.items(), CURVES, strict=False):
    mean, low, high = 100 * np.array(triples).T
    axes.fill_between(percent, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.plot(percent, mean, "o-", color=colour, markersize=4.5, linewidth=2, label=name)
    if name in chance:
      axes.axhline(100 * chance[name], color=colour, linestyle=":", linewidth=1.2)
  finish_axes(axes, "share of the sketch that is drawn, %", "%")
  axes.set_xlim(0, 103)
  most = max(high for triples in figures.values() for _, _, high in triples)
  axes.set_ylim(0, min(104, max(10, 125 * most)))  # the legend stands above low curves
  axes.set_xticks(percent)
  axes.legend(frameon=False, fontsize=9.5, loc="upper left")
  return save_figure(figure, path)


def _each(strips: np.ndarray) -> list[tuple[tuple[int, int], Any]]:
  return [((row, column), strips[row, column]) for row, column in np.ndindex(strips.shape[:2])]

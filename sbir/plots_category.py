"""Pictures of category retrieval: grids, how classes correlate, class by class, and a map."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from sbir.drawing import (
  ACCENT,
  FAINT,
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
  write_title,
)
from sbir.types import UserError

if TYPE_CHECKING:
  from matplotlib.axes import Axes

WRONG, MISSING = "#b2182b", "#e4e4e4"
DOTS = ("#f4a582", INK, RIGHT)  # of the second metric of each class, and so on
SHORT = 15  # letters of a class name that fit below a picture of a grid
# They stay apart on white for most eyes (Paul Tol's, light yellows left out); then they come again.
COLOURS = (
  "#4477aa", "#ee6677", "#228833", "#aa3377", "#ccaa22", "#66ccee",
  "#882255", "#44aa99", "#ee8866", "#332288", "#777777", "#99aa00",
)  # fmt: skip


def category_grid(
  path: str | Path,
  queries: Sequence[Image],
  results: Sequence[Sequence[Image]],
  is_right: Sequence[Sequence[bool]],
  *,
  query_classes: Sequence[str] | None = None,
  result_classes: Sequence[Sequence[str]] | None = None,
  scores: Sequence[float] | None = None,
  labels: Sequence[str] | None = None,
  title: str = "",
) -> Path:
  """Writes one row a query: its sketch, then the nearest photos, those of its class framed green.

  Classes are written below the pictures, a wrong one in red. `scores` are the queries' average
  precisions, written beside the sketch below `labels`, short words such as "best".

  Raises: UserError if the lists do not fit together or the file cannot be written.
  """
  check_same_length(
    queries=queries, results=results, is_right=is_right, query_classes=query_classes,
    result_classes=result_classes, scores=scores, labels=labels,
  )  # fmt: skip
  figure, place_axes = grid_figure(
    len(queries),
    max(len(row) for row in results),
    has_words=labels is not None or scores is not None,
    has_captions=query_classes is not None or result_classes is not None,
    title=title,
  )
  for row, (query, photos) in enumerate(zip(queries, results, strict=True)):
    axes = place_axes(row, -1)
    show_image(axes, query, PLAIN)
    lines = [(labels[row], INK, 10, "bold")] if labels is not None else []
    lines += [(f"AP {100 * scores[row]:.1f} %", INK, 10, "normal")] if scores is not None else []
    write_beside(axes, lines)
    if query_classes is not None:
      _caption(axes, query_classes[row], INK)
    for column, (photo, right) in enumerate(zip(photos, is_right[row], strict=True)):
      axes = place_axes(row, column)
      show_image(axes, photo, RIGHT if right else PLAIN)
      if result_classes is not None:
        _caption(axes, result_classes[row][column], FAINT if right else WRONG)
  return save_figure(figure, path)


def correlation_heatmap(
  path: str | Path,
  correlation: Float[np.ndarray, "c c"],
  classes: Sequence[str],
  *,
  is_grouped: bool = True,
  title: str = "",
) -> Path:
  """Writes a symmetric matrix of cosines between classes as a heat map with the classes' names.

  `is_grouped` puts similar classes side by side. The diagonal is grey; colours reach to the largest
  other value, so that weak correlations are seen. Values are written out for up to 12 classes.

  Raises: UserError unless there is one finite row and column for each of at least two classes.
  """
  correlation, num = np.asarray(correlation, float), len(classes)
  if correlation.shape != (num, num) or num < 2 or not np.isfinite(correlation).all():
    raise UserError(
      f"correlation of shape {list(correlation.shape)} for {num} classes, expected finite numbers, "
      "one row and one column for each of at least two classes"
    )
  order = _side_by_side(correlation) if is_grouped else np.arange(num)
  shown, names = correlation[np.ix_(order, order)], [classes[i] for i in order]
  others = np.where(np.eye(num, dtype=bool), np.nan, shown)
  limit = max(0.01, float(np.nanmax(np.abs(others))))
  side = float(np.clip(0.155 * num, 3.4, 16))
  figure = new_figure(side + 2.3, side + 1.7)
  axes = figure.subplots()
  axes.set_facecolor(MISSING)
  image = axes.imshow(others, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
  _name_both_axes(axes, names, size=float(np.clip(260 / num, 6.5, 10)))
  if num <= 12:
    _write_values(axes, others, limit)
  bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3.2 / side + 0.25), aspect=26, pad=0.02)
  bar.set_label("cosine of two classes' prototypes", color=INK, fontsize=9.5)
  bar.outline.set_visible(False)
  bar.ax.tick_params(colors=FAINT, labelcolor=INK, labelsize=9)
  write_title(figure, title)
  return save_figure(figure, path)


def class_bars(
  path: str | Path,
  classes: Sequence[str],
  values: Mapping[str, Sequence[float]],
  *,
  chance: Mapping[str, float] | None = None,
  title: str = "",
) -> Path:
  """Writes a bar for each class, the best first: the first of `values`; the others are dots.

  `values` are fractions by metric name, nan where a class has none; `chance` draws dotted lines.

  Raises: UserError if the lists are not of one length, or empty.
  """
  check_same_length(classes=classes, **values)
  (main, bars), *others = ((name, 100 * np.asarray(v, float)) for name, v in values.items())
  order = np.argsort(-np.nan_to_num(bars, nan=-1.0), kind="stable")
  figure = new_figure(7.2, 1.5 + 0.2 * len(order))
  axes = figure.subplots()
  places = np.arange(len(order))
  axes.barh(places, np.nan_to_num(bars[order]), height=0.72, color=ACCENT, alpha=0.85, label=main)
  for (name, dots), colour in zip(others, DOTS, strict=False):
    look = {"color": colour, "markersize": 5, "mec": "white", "clip_on": False}
    axes.plot(dots[order], places, "o", label=name, **look)
  for name, value in (chance or {}).items():
    colour = INK if name == main else DOTS[0]
    axes.axvline(100 * value, color=colour, linestyle=":", linewidth=1.4, label=f"{name}, chance")
  finish_axes(axes, "mean over the queries of the class, %", "")
  axes.set_yticks(places, [classes[i] for i in order], fontsize=8.5)
  _plain_words(axes.get_yticklabels())
  axes.tick_params(axis="y", length=0)
  axes.grid(False, axis="y")
  axes.set_xlim(0, 100)
  axes.set_ylim(len(order) - 0.4, -0.6)
  handles, words = axes.get_legend_handles_labels()
  entries = sorted(zip(words, handles, strict=True), key=lambda entry: entry[0])
  words, handles = zip(*entries, strict=True)  # a metric and its chance side by side
  columns = 2 if chance else len(values)
  figure.legend(
    handles, words, frameon=False, fontsize=9, loc="outside lower center", ncols=columns
  )
  write_title(figure, title)
  return save_figure(figure, path)


def embedding_map(
  path: str | Path,
  points: Float[np.ndarray, "n 2"],
  label: Shaped[np.ndarray, "n"],
  is_query: Bool[np.ndarray, "n"],
  *,
  links: Int[np.ndarray, "l 2"] | None = None,
  title: str = "",
) -> Path:
  """Writes points in the plane: the colour is the class, dots are photos, crosses are sketches.

  Each class is named in the middle of its points. The axes have no unit. `links` are pairs of
  points that a faint line joins.

  Raises: UserError if the lists are not of one length, or empty.
  """
  check_same_length(points=points, label=label, is_query=is_query)
  names, which = np.unique(np.asarray(label), return_inverse=True)
  width, height = np.maximum(np.ptp(points, axis=0), 1e-9)
  figure = new_figure(8.6, 0.5 + 8.6 * float(np.clip(height / width, 0.5, 1.4)))
  axes = figure.subplots()
  size = float(np.clip(9000 / len(points), 6, 40))
  colours = np.array([COLOURS[i % len(COLOURS)] for i in range(len(names))])[which]
  for ends in () if links is None else links:
    axes.plot(*points[ends].T, color=colours[ends[0]], linewidth=0.7, alpha=0.35, zorder=0)
  photos, sketches = ~np.asarray(is_query), np.asarray(is_query)
  axes.scatter(*points[photos].T, s=size, c=colours[photos], alpha=0.55, linewidths=0)
  axes.scatter(*points[sketches].T, s=2 * size, c=colours[sketches], marker="x", linewidths=1.1)
  for i, name in enumerate(names.tolist()):
    _name_group(axes, points[which == i], str(name), COLOURS[i % len(COLOURS)], len(names))
  axes.set_aspect("equal")
  axes.set_xticks([])
  axes.set_yticks([])
  for spine in axes.spines.values():
    spine.set_color(PLAIN)
  for marker, name in (("o", "photo"), ("x", "sketch")):
    axes.scatter([], [], s=30, c=INK, marker=marker, label=name)
  figure.legend(frameon=False, fontsize=10, loc="outside upper right", ncols=2)
  write_title(figure, title)
  return save_figure(figure, path)


def _caption(axes: "Axes", name: str, colour: str) -> None:
  text = name if len(name) <= SHORT else name[: SHORT - 1] + "…"
  axes.text(
    0.5, -0.05, text, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=colour,
    parse_math=False,
  )  # fmt: skip


def _side_by_side(correlation: np.ndarray) -> np.ndarray:
  """Returns an order in which each class is followed by the most similar one that is left."""
  left = correlation.copy()
  np.fill_diagonal(left, -np.inf)
  order = [int(np.argmax(left.max(axis=1)))]
  while len(order) < len(left):
    left[:, order[-1]] = -np.inf
    order.append(int(np.argmax(left[order[-1]])))
  return np.array(order)


def _name_both_axes(axes: "Axes", names: Sequence[str], *, size: float) -> None:
  places = np.arange(len(names))
  axes.set_xticks(places, names, rotation=90, fontsize=size)
  axes.set_yticks(places, names, fontsize=size)
  _plain_words([*axes.get_xticklabels(), *axes.get_yticklabels()])
  axes.tick_params(length=0, labelcolor=INK)
  for spine in axes.spines.values():
    spine.set_visible(False)


def _write_values(axes: "Axes", values: np.ndarray, limit: float) -> None:
  for (row, column), value in np.ndenumerate(values):
    if np.isfinite(value):
      colour = "white" if abs(value) > 0.6 * limit else INK
      axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)


def _name_group(axes: "Axes", points: np.ndarray, name: str, colour: str, num_groups: int) -> None:
  from matplotlib.patheffects import withStroke

  x, y = np.median(points, axis=0)
  axes.text(
    x, y, name, ha="center", va="center", fontsize=9.5 if num_groups <= 40 else 7, color=colour,
    path_effects=[withStroke(linewidth=2.5, foreground="white", alpha=0.85)], weight="bold",
    parse_math=False,
  )  # fmt: skip


def _plain_words(labels: Sequence) -> None:
  for label in labels:
    label.set_parse_math(False)  # a class may be called A$AP

"""Pictures of a run as PNG files: what was retrieved, how the ranks lie, how the loss fell.

The only file that imports matplotlib; it does so without pyplot, so no global state changes and no
display is needed.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, UInt8

from sbir.types import UserError

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

Image = UInt8[np.ndarray, "h w 3"]

RIGHT, PLAIN, INK, FAINT, ACCENT = "#1a9850", "#d5d5d5", "#333333", "#8a8a8a", "#2166ac"
DPI = 120
CELL, GAP, MARGIN = 1.1, 0.08, 0.25  # inches
LABEL, HEAD = 0.95, 0.5  # room for the words at the left and at the top
ASIDE = 0.3  # sets the sketch, and the right photo that was missed, apart from the ranking


def retrieval_grid(
  path: str | Path,
  queries: Sequence[Image],
  results: Sequence[Sequence[Image]],
  correct: Sequence[int | None],
  *,
  ranks: Sequence[int] | None = None,
  gallery_size: int | None = None,
  right: Sequence[Image] | None = None,
  labels: Sequence[str] | None = None,
  title: str = "",
) -> Path:
  """Writes one row a query: its sketch, then the nearest photos, the right one framed in green.

  `correct[i]` is the place (from 0) of the right photo in `results[i]`, None if it is not there.
  `ranks` (from 1) are written beside the sketch. With `right`, a last column shows the right photo
  of the rows that missed it. `labels` are short words for the rows, such as "best".

  Raises: UserError if the lists do not fit together or the file cannot be written.
  """
  _check_same_length(queries=queries, results=results, correct=correct, ranks=ranks, right=right)
  columns = max(len(row) for row in results)
  shows_right = right is not None and any(place is None for place in correct)
  has_words = ranks is not None or labels is not None
  figure, place_axes = _grid_figure(len(queries), columns, shows_right, has_words, title)
  for row, (query, photos, place) in enumerate(zip(queries, results, correct, strict=True)):
    sketch_axes = place_axes(row, -1)
    _show(sketch_axes, query, PLAIN)
    rank = None if ranks is None else ranks[row]
    _label_row(sketch_axes, "" if labels is None else labels[row], rank, gallery_size, place)
    for column, photo in enumerate(photos):
      _show(place_axes(row, column), photo, RIGHT if column == place else PLAIN)
    if shows_right and place is None:
      _show(place_axes(row, columns), right[row], RIGHT)
  return _save(figure, path)


def rank_histogram(
  path: str | Path,
  ranks: Int[np.ndarray, "q"],
  gallery_size: int,
  *,
  title: str = "",
) -> Path:
  """Writes two panels: Acc@K against K, and how many queries have which rank, each with chance.

  `ranks` are 1-based. Raises: UserError if there are none, or one is outside the gallery.
  """
  ranks = np.asarray(ranks)
  if len(ranks) == 0 or ranks.min() < 1 or ranks.max() > gallery_size:
    raise UserError(f"{len(ranks)} ranks: expected at least one, all in 1 .. {gallery_size}")
  figure = _figure(9.6, 3.9)
  curve, bars = figure.subplots(1, 2)
  _draw_accuracy_curve(curve, ranks, gallery_size)
  _draw_rank_bars(bars, ranks, gallery_size)
  _head(figure, title or f"Rank of the right photo: {len(ranks)} sketches, {gallery_size} photos")
  return _save(figure, path)


def loss_curve(
  path: str | Path,
  rows: Sequence[Mapping[str, float | None]],
  *,
  scores: Sequence[str] = (),
  chance: Mapping[str, float] | None = None,
  title: str = "",
) -> Path:
  """Writes the loss against the step and, if asked, the `scores` in a second panel beside it.

  `rows` are the lines of metrics.jsonl (`logs.read_metrics`). The loss is faint as logged and bold
  as a running mean. `chance` draws a dotted line for a score. A score that no row holds is left
  out, and so is any number that is null. Raises: UserError if no row has a loss.
  """
  steps, losses = _column(rows, "loss")
  if len(steps) == 0:
    raise UserError(f"{len(rows)} lines of metrics hold no loss; train for log_every steps first")
  drawn = [name for name in scores if len(_column(rows, name)[0])]
  figure = _figure(9.6 if drawn else 5.6, 3.9)
  axes = np.atleast_1d(figure.subplots(1, 2 if drawn else 1))
  _draw_loss(axes[0], steps, losses)
  for name, colour in zip(drawn, _colours(len(drawn)), strict=True):
    axes[1].plot(*_column(rows, name), "o-", color=colour, markersize=3.5, label=name)
    if chance and name in chance:
      axes[1].axhline(chance[name], color=colour, linestyle=":", linewidth=1)
  if drawn:
    _finish(axes[1], "step", "score (dotted: chance)" if chance else "score")
    axes[1].set_ylim(bottom=0)
    axes[1].legend(frameon=False, fontsize=9)
  _head(figure, title)
  return _save(figure, path)


def _draw_accuracy_curve(axes: "Axes", ranks: np.ndarray, gallery_size: int) -> None:
  cuts = np.arange(1, gallery_size + 1)
  found = np.searchsorted(np.sort(ranks), cuts, side="right") / len(ranks)
  axes.plot(cuts, 100 * cuts / gallery_size, "--", color=FAINT, linewidth=1.2, label="chance")
  axes.plot(cuts, 100 * found, color=ACCENT, linewidth=2, label="measured")
  axes.fill_between(cuts, 100 * found, 100 * cuts / gallery_size, color=ACCENT, alpha=0.08)
  cuts = [k for k in (1, 5, 10) if k <= gallery_size]
  axes.plot(cuts, [100 * found[k - 1] for k in cuts], "o", color=ACCENT, markersize=5)
  figures = [f"Acc@{k}  {100 * found[k - 1]:.1f} %" for k in cuts]
  axes.set_title("     ".join(figures), fontsize=9.5, color=INK, loc="left")
  axes.set_xscale("log")
  ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10000) if k <= gallery_size]
  ticks += [gallery_size] if gallery_size > 1.5 * ticks[-1] else []
  axes.set_xticks(ticks, [str(k) for k in ticks])
  axes.minorticks_off()
  axes.set_ylim(0, 104)
  axes.legend(frameon=False, fontsize=9, loc="center" if found[:3].max() > 0.6 else "upper left")
  _finish(axes, "K", "right photo among the first K, %")


def _draw_rank_bars(axes: "Axes", ranks: np.ndarray, gallery_size: int) -> None:
  num_bins = min(gallery_size, 25)
  edges = np.linspace(0.5, gallery_size + 0.5, num_bins + 1)
  counts, _ = np.histogram(ranks, edges)
  axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=ACCENT, edgecolor="white")
  chance, median = len(ranks) / num_bins, np.median(ranks)
  axes.axhline(chance, color=FAINT, linestyle="--", linewidth=1.2, label="chance")
  axes.axvline(median, color=INK, linewidth=1.2, label="median")
  axes.set_title(f"median rank {median:g} of {gallery_size}", fontsize=9.5, color=INK, loc="left")
  axes.set_xlim(0.5, gallery_size + 0.5)
  axes.set_ylim(0, 1.25 * max(counts.max(), chance))  # the legend stands above the bars
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.yaxis.get_major_locator().set_params(integer=True)
  axes.legend(frameon=False, fontsize=9, loc="upper right", ncols=2)
  _finish(axes, "rank of the right photo", "sketches")


def _draw_loss(axes: "Axes", steps: np.ndarray, losses: np.ndarray) -> None:
  window = max(1, len(losses) // 25)
  axes.plot(steps, losses, color=ACCENT, alpha=0.3 if window > 1 else 1, linewidth=1)
  if window > 1:
    sums = np.cumsum(np.insert(losses, 0, 0.0))
    mean = (sums[window:] - sums[:-window]) / window
    axes.plot(steps[window - 1 :], mean, color=ACCENT, linewidth=2, label=f"mean of {window} lines")
    axes.legend(frameon=False, fontsize=9)
  _finish(axes, "step", "loss")


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns (steps, values) of the rows in which `name` is a number."""
  pairs = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
  table = np.array(pairs, float).reshape(-1, 2)
  return table[:, 0], table[:, 1]


def _grid_figure(
  rows: int, columns: int, shows_right: bool, has_words: bool, title: str
) -> tuple["Figure", Any]:
  """Returns a figure and a function (row, column) -> axes; column -1 is the sketch."""
  pitch, head = CELL + GAP, HEAD + (0.35 if title else 0)
  sketch = MARGIN + (LABEL if has_words else 0)
  first = sketch + pitch + ASIDE
  width = first + columns * pitch + (ASIDE + pitch if shows_right else 0) + MARGIN - GAP
  height = head + rows * pitch + MARGIN - GAP
  figure = _figure(width, height, is_tight=False)

  def left_of(column: int) -> float:
    if column < 0:
      return sketch
    return first + column * pitch + (ASIDE if column == columns else 0)

  def place_axes(row: int, column: int) -> "Axes":
    bottom = height - head - row * pitch - CELL
    return figure.add_axes((left_of(column) / width, bottom / height, CELL / width, CELL / height))

  heads = {-1: "sketch"} | {column: str(column + 1) for column in range(columns)}
  for column, text in (heads | ({columns: "right photo"} if shows_right else {})).items():
    x, y = (left_of(column) + CELL / 2) / width, (height - head + 0.1) / height
    figure.text(x, y, text, ha="center", va="bottom", fontsize=10, color=FAINT)
  if title:
    figure.text(MARGIN / width, 1 - 0.42 / height, title, fontsize=12, color=INK, weight="bold")
  return figure, place_axes


def _label_row(
  axes: "Axes", label: str, rank: int | None, gallery_size: int | None, place: int | None
) -> None:
  lines = [(label, INK, 10, "bold")] if label else []
  if rank is not None:
    lines.append((f"rank {rank}", INK if place is None else RIGHT, 11, "normal"))
    lines += [(f"of {gallery_size}", FAINT, 9, "normal")] if gallery_size else []
  for number, (text, colour, size, weight) in enumerate(lines):
    y = 0.5 + 0.2 * ((len(lines) - 1) / 2 - number)
    axes.text(
      -0.14, y, text, transform=axes.transAxes, ha="right", va="center",
      color=colour, fontsize=size, weight=weight,
    )  # fmt: skip


def _show(axes: "Axes", image: np.ndarray, colour: str) -> None:
  axes.imshow(image, interpolation="antialiased", aspect="auto")
  axes.set_xticks([])
  axes.set_yticks([])
  for spine in axes.spines.values():
    spine.set_color(colour)
    spine.set_linewidth(3.2 if colour == RIGHT else 0.8)


def _figure(width: float, height: float, *, is_tight: bool = True) -> "Figure":
  from matplotlib.figure import Figure

  layout = "constrained" if is_tight else "none"
  return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)


def _head(figure: "Figure", title: str) -> None:
  if title:
    figure.suptitle(title, fontsize=12, color=INK, weight="bold", ha="left", x=0.01)


def _finish(axes: "Axes", x_label: str, y_label: str) -> None:
  axes.set_xlabel(x_label, color=INK)
  axes.set_ylabel(y_label, color=INK)
  axes.grid(True, color="#eeeeee", linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=9)
  for side in ("top", "right"):
    axes.spines[side].set_visible(False)
  for side in ("left", "bottom"):
    axes.spines[side].set_color(PLAIN)


def _colours(num: int) -> list[str]:
  return [(ACCENT, "#b2182b", RIGHT, "#762a83")[i % 4] for i in range(num)]


def _check_same_length(**lists: Sequence[Any] | None) -> None:
  lengths = {name: len(values) for name, values in lists.items() if values is not None}
  if len(set(lengths.values())) != 1 or 0 in lengths.values():
    text = ", ".join(f"{name}: {length}" for name, length in lengths.items())
    raise UserError(f"the grid needs one entry for each query, at least one; got {text}")


def _save(figure: "Figure", path: str | Path) -> Path:
  """Writes the PNG through a temporary neighbour, so that no reader sees half of it."""
  path = Path(path)
  unfinished = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(unfinished, format="png")
    os.replace(unfinished, path)
  except OSError as error:
    with contextlib.suppress(OSError):
      unfinished.unlink()
    raise UserError(
      f"picture {path} cannot be written ({error.strerror}); choose another folder"
    ) from None
  return path

"""Pictures of a run: which photos a sketch found, how the ranks lie, how the loss fell."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

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
  check_same_length(queries=queries, results=results, correct=correct, ranks=ranks, right=right)
  columns = max(len(row) for row in results)
  shows_right = right is not None and any(place is None for place in correct)
  has_words = ranks is not None or labels is not None
  figure, place_axes = grid_figure(
    len(queries), columns, shows_right=shows_right, has_words=has_words, title=title
  )
  for row, (query, photos, place) in enumerate(zip(queries, results, correct, strict=True)):
    sketch_axes = place_axes(row, -1)
    show_image(sketch_axes, query, PLAIN)
    rank = None if ranks is None else ranks[row]
    _label_row(sketch_axes, "" if labels is None else labels[row], rank, gallery_size, place)
    for column, photo in enumerate(photos):
      show_image(place_axes(row, column), photo, RIGHT if column == place else PLAIN)
    if shows_right and place is None:
      show_image(place_axes(row, columns), right[row], RIGHT)
  return save_figure(figure, path)


def rank_histogram(
  path: str | Path,
  ranks: Int[np.ndarray, "q"],
  gallery_size: int,
  *,
  chance: Float[np.ndarray, "g"] | None = None,
  what: str = "right photo",
  title: str = "",
) -> Path:
  """Writes two panels: Acc@K against K, and how many queries have which rank, each with chance.

  `ranks` are 1-based, of `what`. `chance` is that of finding one among the first K, for each K: by
  default that of a single right photo. With it, the second panel ends at the highest rank.
  Raises: UserError if there are none, or one is outside the gallery.
  """
  ranks = np.asarray(ranks)
  if len(ranks) == 0 or ranks.min() < 1 or ranks.max() > gallery_size:
    raise UserError(f"{len(ranks)} ranks: expected at least one, all in 1 .. {gallery_size}")
  figure = new_figure(9.6, 3.9)
  curve, bars = figure.subplots(1, 2)
  last = gallery_size if chance is None else int(ranks.max())
  chance = np.arange(1, gallery_size + 1) / gallery_size if chance is None else chance
  _draw_accuracy_curve(curve, ranks, chance, what)
  _draw_rank_bars(bars, ranks, chance, last, what)
  write_title(figure, title or f"Rank of the {what}: {len(ranks)} sketches, {gallery_size} photos")
  return save_figure(figure, path)


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
  figure = new_figure(9.6 if drawn else 5.6, 3.9)
  axes = np.atleast_1d(figure.subplots(1, 2 if drawn else 1))
  _draw_loss(axes[0], steps, losses)
  for name, colour in zip(drawn, _colours(len(drawn)), strict=True):
    axes[1].plot(*_column(rows, name), "o-", color=colour, markersize=3.5, label=name)
    if chance and name in chance:
      axes[1].axhline(chance[name], color=colour, linestyle=":", linewidth=1)
  if drawn:
    finish_axes(axes[1], "step", "score (dotted: chance)" if chance else "score")
    axes[1].set_ylim(bottom=0)
    axes[1].legend(frameon=False, fontsize=9)
  write_title(figure, title)
  return save_figure(figure, path)


def _draw_accuracy_curve(axes: "Axes", ranks: np.ndarray, chance: np.ndarray, what: str) -> None:
  gallery_size = len(chance)
  cuts = np.arange(1, gallery_size + 1)
  found = np.searchsorted(np.sort(ranks), cuts, side="right") / len(ranks)
  axes.plot(cuts, 100 * chance, "--", color=FAINT, linewidth=1.2, label="chance")
  axes.plot(cuts, 100 * found, color=ACCENT, linewidth=2, label="measured")
  axes.fill_between(cuts, 100 * found, 100 * chance, color=ACCENT, alpha=0.08)
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
  finish_axes(axes, "K", f"{what} among the first K, %")


def _draw_rank_bars(
  axes: "Axes", ranks: np.ndarray, chance: np.ndarray, last: int, what: str
) -> None:
  num_bins = min(last, 25)
  edges = np.linspace(0.5, last + 0.5, num_bins + 1)
  counts, _ = np.histogram(ranks, edges)
  axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=ACCENT, edgecolor="white")
  below = np.interp(edges - 0.5, np.arange(len(chance) + 1), [0, *chance])
  expected, median = len(ranks) * np.diff(below), np.median(ranks)
  axes.stairs(expected, edges, color=FAINT, linestyle="--", linewidth=1.2, label="chance")
  axes.axvline(median, color=INK, linewidth=1.2, label="median")
  text = f"median rank {median:g} of {len(chance)}"
  axes.set_title(text, fontsize=9.5, color=INK, loc="left")
  axes.set_xlim(0.5, last + 0.5)
  axes.set_ylim(0, 1.25 * max(counts.max(), expected.max()))  # the legend stands above the bars
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.yaxis.get_major_locator().set_params(integer=True)
  axes.legend(frameon=False, fontsize=9, loc="upper right", ncols=2)
  finish_axes(axes, f"rank of the {what}", "sketches")


def _draw_loss(axes: "Axes", steps: np.ndarray, losses: np.ndarray) -> None:
  window = max(1, len(losses) // 25)
  axes.plot(steps, losses, color=ACCENT, alpha=0.3 if window > 1 else 1, linewidth=1)
  if window > 1:
    sums = np.cumsum(np.insert(losses, 0, 0.0))
    mean = (sums[window:] - sums[:-window]) / window
    axes.plot(steps[window - 1 :], mean, color=ACCENT, linewidth=2, label=f"mean of {window} lines")
    axes.legend(frameon=False, fontsize=9)
  finish_axes(axes, "step", "loss")


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns (steps, values) of the rows in which `name` is a number."""
  pairs = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
  table = np.array(pairs, float).reshape(-1, 2)
  return table[:, 0], table[:, 1]


def _label_row(
  axes: "Axes", label: str, rank: int | None, gallery_size: int | None, place: int | None
) -> None:
  lines = [(label, INK, 10, "bold")] if label else []
  if rank is not None:
    lines.append((f"rank {rank}", INK if place is None else RIGHT, 11, "normal"))
    lines += [(f"of {gallery_size}", FAINT, 9, "normal")] if gallery_size else []
  write_beside(axes, lines)


def _colours(num: int) -> list[str]:
  return [(ACCENT, "#b2182b", RIGHT, "#762a83")[i % 4] for i in range(num)]

"""What both methods' reports show beside their figures: where the network looks, what it finds with
half a sketch, and how far apart sketches and photos lie."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from sbir.data.partial_sketch import how_revealed, partial_sketch
from sbir.data.resized import ResizedSource
from sbir.drawing import laid_over
from sbir.html_report import Picture, Section, Table
from sbir.nn.class_attention import as_maps
from sbir.plots_closer import attention_grid, share_curves
from sbir.retrieval.metrics import bootstrap_interval
from sbir.retrieval.modality_gap import ModalityGap

ATTENTION, PARTIAL = "attention.png", "partial.png"
SHARES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the strokes
MAX_SKETCHES = 120  # that are drawn in part; of the demos that takes two seconds
NUM_STRIPS = 3  # sketches that are shown as they grow

Squares = UInt8[np.ndarray, "b s s 3"]
OfSquares = Callable[[Squares], np.ndarray]


class Network(NamedTuple):
  """A network as the extras need it: functions of square images, for any number of them."""

  embed_sketches: OfSquares  # -> f32[b, d]
  sketch_attention: OfSquares  # -> f32[b, n], shares of the patches
  photo_attention: OfSquares


class Look(NamedTuple):
  """A query and what it found, to show where the network looks."""

  sketch: UInt8[np.ndarray, "s s 3"]
  photos: Sequence[UInt8[np.ndarray, "s s 3"]]
  is_right: Sequence[bool]  # of each photo
  label: str  # a word or two


def draw_attention(
  folder: Path, network: Network, looks: Sequence[Look], heads: Sequence[str]
) -> None:
  """Writes ATTENTION: each query and its photos, each beside where the network looks in it.

  `heads` are words for the photos. Every query has as many.
  """
  sketches = np.stack([look.sketch for look in looks])
  photos = np.stack([photo for look in looks for photo in look.photos])
  over = lambda images, shares: [
    laid_over(image, heat) for image, heat in zip(images, as_maps(shares), strict=True)
  ]
  on_sketch = over(sketches, network.sketch_attention(sketches))
  on_photo = iter(over(photos, network.photo_attention(photos)))
  rows = [
    [look.sketch, on_sketch[row], *(x for photo in look.photos for x in (photo, next(on_photo)))]
    for row, look in enumerate(looks)
  ]
  attention_grid(
    folder / ATTENTION,
    rows,
    [look.is_right for look in looks],
    ["attention", *(word for head in heads for word in (head, "attention"))],
    labels=[look.label for look in looks],
  )


def sampled(num: int, seed: int) -> Int[np.ndarray, "m"]:
  """Returns which of `num` queries are drawn in part: all, or MAX_SKETCHES drawn from `seed`."""
  return np.sort(np.random.default_rng(seed).permutation(num)[:MAX_SKETCHES])


def draw_partial(
  folder: Path,
  network: Network,
  source: ResizedSource,
  data: Mapping[str, Any],
  indices: Sequence[int],
  score: Callable[[Float[np.ndarray, "q d"]], Mapping[str, Float[np.ndarray, "q"]]],
  chance: Mapping[str, float],
) -> dict[str, list[tuple[float, float, float]]]:
  """Writes PARTIAL, figures of the sketches `indices` against the share of their strokes that is
  drawn; returns {metric: (mean, low, high) for each of SHARES}.

  `score` gives each metric of each query from their embeddings.
  """
  figures: dict[str, list[tuple[float, float, float]]] = {}
  strips: list[np.ndarray] = []
  for share in SHARES:
    squares = np.stack([partial_sketch(source, data, i, share) for i in indices])
    strips.append(squares[:: max(1, len(squares) // NUM_STRIPS)][:NUM_STRIPS])
    for name, values in score(network.embed_sketches(squares)).items():
      figures.setdefault(name, []).append((float(np.nanmean(values)), *bootstrap_interval(values)))
  share_curves(folder / PARTIAL, SHARES, figures, np.stack(strips, axis=1), chance=chance)
  return figures


def attention_section(folder: Path) -> Section:
  """Returns the section that shows what `draw_attention` has written."""
  text = (
    "How much the token that becomes the embedding attends to each patch in the last block: the "
    "mean over heads, red where it is most. By then the patches have exchanged what they hold. A "
    "patch of plain background that is red in every image is one where the network keeps notes (as "
    "Darcet et al. 2024, arXiv:2309.16588, found of large ViTs), not one that it finds telling."
  )
  return Section("Where it looks", [Picture(folder / ATTENTION)], text)


def partial_section(
  folder: Path,
  figures: Mapping[str, Sequence[tuple[float, float, float]]],
  data: Mapping[str, Any],
  num: int,
) -> Section:
  """Returns the section that shows what `draw_partial` has written and returned."""
  cell = lambda mean, low, high: f"{100 * mean:.1f} ({100 * low:.1f} - {100 * high:.1f})"
  rows = [(name, *(cell(*triple) for triple in triples)) for name, triples in figures.items()]
  head = ("%, with 95 % interval", *(f"{100 * share:.0f} % drawn" for share in SHARES))
  text = (
    f"What is found when only a part of a sketch is there: {how_revealed(data)}. {num} sketches, "
    "against the whole gallery."
  )
  caption = "Above: three of the sketches as they grow. Bands: 95 % intervals; dotted: chance."
  return Section("Sketches in part", [Picture(folder / PARTIAL, caption), Table(head, rows)], text)


def gap_table(gap: ModalityGap, pair: str) -> Table:
  """Returns the table of how far apart the modalities lie; `pair` says what belongs together."""
  rows = [
    ("between the mean sketch and the mean photo (modality gap)", f"{gap.gap:.3f}"),
    (f"between a sketch and {pair}", f"{gap.pair:.3f}"),
    ("between a sketch and any photo", f"{gap.other:.3f}"),
    ("gap as a share of the distance of what belongs together", f"{100 * gap.share:.0f} %"),
  ]
  caption = (
    f"Of unit vectors, so from 0 to 2; {gap.num_pairs} pairs. The modality gap is that of Liang et "
    "al. 2022 (arXiv:2203.02053). A share of 100 % would mean that sketches and photos differ by "
    "one shift alone, 0 % that the two groups have the same centre."
  )
  return Table(("distance", "mean"), rows, caption)

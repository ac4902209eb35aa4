"""What both methods' reports show beside their figures: where the network looks, what it finds with
half a sketch, and how far apart sketches and photos lie."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from sbir.data.partial_sketch import how_revealed, partial_sketches
from sbir.data.resized import ResizedSource
from sbir.drawing import laid_over
from sbir.hidden_parts import what_counts
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

  embed_sketches: OfSquares  # -> f32[b, d], unit vectors
  embed_photos: OfSquares
  sketch_attention: OfSquares  # -> f32[b, n], shares of the patches
  photo_attention: OfSquares


class Look(NamedTuple):
  """A query and the first photo it found, to show where the network looks."""

  sketch: UInt8[np.ndarray, "s s 3"]
  photo: UInt8[np.ndarray, "s s 3"]
  is_right: bool  # whether the photo is
  label: str  # a word or two


def draw_attention(folder: Path, network: Network, looks: Sequence[Look]) -> None:
  """Writes ATTENTION: each query and the photo it found, each beside where the network looks in it
  and what of it counts for the other."""
  sketches = np.stack([look.sketch for look in looks])
  photos = np.stack([look.photo for look in looks])
  of_sketch, of_photo = network.embed_sketches, network.embed_photos
  looked = [as_maps(network.sketch_attention(sketches)), as_maps(network.photo_attention(photos))]
  cells = looked[0].shape[1]
  counted = [
    what_counts(sketches, of_sketch, of_photo(photos), cells),
    what_counts(photos, of_photo, of_sketch(sketches), cells),
  ]
  columns = []
  for images, maps, falls in zip((sketches, photos), looked, counted, strict=True):
    columns += [images, _laid_over(images, maps), _laid_over(images, _scaled(falls))]
  attention_grid(
    folder / ATTENTION,
    list(zip(*columns, strict=True)),
    [look.is_right for look in looks],
    labels=[look.label for look in looks],
  )


def _laid_over(images: Squares, maps: Float[np.ndarray, "b gh gw"]) -> list[np.ndarray]:
  return [laid_over(image, heat) for image, heat in zip(images, maps, strict=True)]


def _scaled(falls: Float[np.ndarray, "b c c"]) -> Float[np.ndarray, "b c c"]:
  """Returns the falls of each image divided by its largest; what is better hidden is 0."""
  most = falls.max(axis=(1, 2), keepdims=True)
  return np.maximum(falls, 0) / np.where(most > 0, most, 1)


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
  drawn = np.stack([partial_sketches(source, data, i, SHARES) for i in indices])
  for column in range(len(SHARES)):
    for name, values in score(network.embed_sketches(drawn[:, column])).items():
      figures.setdefault(name, []).append((float(np.nanmean(values)), *bootstrap_interval(values)))
  shown = drawn[:: max(1, len(drawn) // NUM_STRIPS)][:NUM_STRIPS]
  share_curves(folder / PARTIAL, SHARES, figures, shown, chance=chance)
  return figures


def attention_section(folder: Path) -> Section:
  """Returns the section that shows what `draw_attention` has written."""
  text = (
    "Attention: how much the token that becomes the embedding attends to each patch in the last "
    "block, the mean over heads; red where it is most. By then the patches have exchanged what "
    "they hold. A patch of plain background that is red in every image is one where the network "
    "keeps notes (as Darcet et al. 2024, arXiv:2309.16588, found of large ViTs), not one it finds "
    "telling.\n"
    "What counts: how far the cosine of sketch and photo falls when that part is hidden. Each "
    "picture is red where its own map is largest."
  )
  caption = "Sketches and the photo that each found first; it is framed where it is right."
  return Section("Where it looks", [Picture(folder / ATTENTION, caption)], text)


def partial_section(
  folder: Path,
  figures: Mapping[str, Sequence[tuple[float, float, float]]],
  data: Mapping[str, Any],
  num: int,
) -> Section:
  """Returns the section that shows what `draw_partial` has written and returned."""
  cell = lambda mean, low, high: f"{100 * mean:.1f} ({100 * low:.1f} - {100 * high:.1f})"
  columns = [[cell(*triple) for triple in triples] for triples in figures.values()]
  rows = [
    (f"{100 * share:.0f} %", *row)
    for share, row in zip(SHARES, zip(*columns, strict=True), strict=True)
  ]
  head = ("drawn", *(f"{name}, % (95 % interval)" for name in figures))
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

"""How all pictures look, and how they become PNG files.

matplotlib is used without pyplot, so no global state changes and no display is needed.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from sbir.places import place
from sbir.run_folder import write_bytes
from sbir.types import UserError

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

Image = UInt8[np.ndarray, "h w 3"]

RIGHT, PLAIN, INK, FAINT, ACCENT = "#1a9850", "#d5d5d5", "#333333", "#8a8a8a", "#2166ac"
DPI = 120
CELL, GAP, MARGIN = 1.1, 0.08, 0.25  # inches
LABEL, HEAD = 0.95, 0.5  # room for the words at the left and at the top
CAPTION = 0.2  # room for a word below a picture
PALED, HEAT = 0.8, 0.75  # how much of an image stays below attention; how much that covers at most
ASIDE = 0.3  # sets the sketch, and the right photo that was missed, apart from the ranking


def grid_figure(
  rows: int,
  columns: int,
  *,
  shows_right: bool = False,
  has_words: bool = False,
  has_captions: bool = False,
  heads: Sequence[str] | None = None,
  title: str = "",
) -> tuple["Figure", Callable[[int, int], "Axes"]]:
  """Returns a figure and a function (row, column) -> axes; column -1 is the sketch.

  `shows_right` adds a column apart from the others; words stand left of the sketch, captions below
  the pictures. `heads` are words above the columns instead of their numbers.
  """
  pitch, head = CELL + GAP, HEAD + (0.35 if title else 0)
  row_pitch = pitch + (CAPTION if has_captions else 0)
  sketch = MARGIN + (LABEL if has_words else 0)
  first = sketch + pitch + ASIDE
  width = first + columns * pitch + (ASIDE + pitch if shows_right else 0) + MARGIN - GAP
  height = head + rows * row_pitch + MARGIN - GAP
  figure = new_figure(width, height, is_tight=False)

  def left_of(column: int) -> float:
    if column < 0:
      return sketch
    return first + column * pitch + (ASIDE if column == columns else 0)

  def place_axes(row: int, column: int) -> "Axes":
    bottom = height - head - row * row_pitch - CELL
    return figure.add_axes((left_of(column) / width, bottom / height, CELL / width, CELL / height))

  words = heads or [str(column + 1) for column in range(columns)]
  above = {-1: "sketch", **dict(enumerate(words))}
  for column, text in (above | ({columns: "right photo"} if shows_right else {})).items():
    x, y = (left_of(column) + CELL / 2) / width, (height - head + 0.1) / height
    figure.text(x, y, text, ha="center", va="bottom", fontsize=10, color=FAINT)
  if title:
    x, y = MARGIN / width, 1 - 0.42 / height
    figure.text(x, y, title, fontsize=12, color=INK, weight="bold", parse_math=False)
  return figure, place_axes


def show_image(axes: "Axes", image: Image, colour: str) -> None:
  """Shows an image in a frame, a thick one if the colour is RIGHT."""
  axes.imshow(image, interpolation="antialiased", aspect="auto")
  axes.set_xticks([])
  axes.set_yticks([])
  for spine in axes.spines.values():
    spine.set_color(colour)
    spine.set_linewidth(3.2 if colour == RIGHT else 0.8)


def write_beside(axes: "Axes", lines: Sequence[tuple[str, str, float, str]]) -> None:
  """Writes lines of (text, colour, size, weight) left of an image of the grid."""
  for number, (text, colour, size, weight) in enumerate(lines):
    y = 0.5 + 0.2 * ((len(lines) - 1) / 2 - number)
    axes.text(
      -0.14, y, text, transform=axes.transAxes, ha="right", va="center",
      color=colour, fontsize=size, weight=weight, parse_math=False,
    )  # fmt: skip


def laid_over(image: Image, heat: Float[np.ndarray, "gh gw"]) -> Image:
  """Returns the image, paled, under a layer of heat in 0..1: from nothing through yellow to red.

  The cells of the grid are spread smoothly over the image.
  """
  from matplotlib import colormaps

  height, width = image.shape[:2]
  heat = np.clip(_spread(_spread(heat, height).T, width).T, 0, 1)
  colour = 255 * colormaps["YlOrRd"](heat)[..., :3]
  paled = 255 - PALED * (255 - image.astype(np.float32))
  cover = HEAT * heat[..., None] ** 0.7
  return np.rint(paled + cover * (colour - paled)).astype(np.uint8)


def _spread(rows: np.ndarray, num: int) -> np.ndarray:
  """Returns `num` rows between those given, linear from middle to middle, even at the edges."""
  place = (np.arange(num) + 0.5) * len(rows) / num - 0.5
  low = np.clip(np.floor(place).astype(int), 0, len(rows) - 1)
  high, share = np.minimum(low + 1, len(rows) - 1), np.clip(place - low, 0, 1)[:, None]
  return (1 - share) * rows[low] + share * rows[high]


def new_figure(width: float, height: float, *, is_tight: bool = True) -> "Figure":
  """Returns an empty figure of a size in inches; tight: matplotlib finds room for the words."""
  from matplotlib.figure import Figure

  layout = "constrained" if is_tight else "none"
  return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)


def write_title(figure: "Figure", title: str) -> None:
  """Writes the title at the top left, if there is one."""
  if title:
    text = figure.suptitle(title, fontsize=12, color=INK, weight="bold", ha="left", x=0.01)
    text.set_parse_math(False)


def finish_axes(axes: "Axes", x_label: str, y_label: str) -> None:
  """Gives a chart its labels, a faint grid, and no frame at the top and the right."""
  axes.set_xlabel(x_label, color=INK)
  axes.set_ylabel(y_label, color=INK)
  axes.grid(True, color="#eeeeee", linewidth=0.8)
  axes.set_axisbelow(True)
  axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=9)
  for side in ("top", "right"):
    axes.spines[side].set_visible(False)
  for side in ("left", "bottom"):
    axes.spines[side].set_color(PLAIN)


def check_same_length(**lists: Sequence[Any] | None) -> None:
  """Raises UserError unless the lists that are given are of one length, at least one."""
  lengths = {name: len(values) for name, values in lists.items() if values is not None}
  if len(set(lengths.values())) != 1 or 0 in lengths.values():
    text = ", ".join(f"{name}: {length}" for name, length in lengths.items())
    raise UserError(f"the grid needs one entry for each query, at least one; got {text}")


def save_figure(figure: "Figure", path: str | Path) -> Path:
  """Writes the PNG, whole or not at all."""
  path, png = place(path), io.BytesIO()
  figure.savefig(png, format="png")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, png.getvalue())
  except OSError as error:
    raise UserError(
      f"picture {path} cannot be written ({error.strerror}); choose another folder"
    ) from None
  return path

"""Which sketches are asked against which photos: the standard protocol and the released ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from sbir.types import UserError

RELEASED_BATCH = 16  # batch size of the authors' evaluation script
PROTOCOLS = {
  "full": "every sketch against all photos",
  "released": (
    f"as in the authors' script: one random sketch per photo, gallery = the photos of its batch of "
    f"{RELEASED_BATCH}; not comparable with the full gallery"
  ),
  "one_per_class": (
    "as in the authors' Sketchy loader: one random photo per class and one random sketch of it, "
    "gallery = these photos; not comparable with the full gallery"
  ),
}


class Trial(NamedTuple):
  """One gallery and the sketches asked against it, as rows of the caller's embeddings."""

  query_rows: Int[np.ndarray, "q"]
  gallery_rows: Int[np.ndarray, "g"]
  target: Int[np.ndarray, "q"]  # place of each query's own photo in gallery_rows


def trials(
  protocol: str,
  photo_row: Int[np.ndarray, "q"],
  num_photos: int,
  *,
  category: Shaped[np.ndarray, "g"] | None = None,
  seed: int = 0,
) -> list[Trial]:
  """Returns the trials of a protocol; `photo_row` is the gallery row of each sketch's own photo.

  `category` of each photo is needed by "one_per_class" only. `seed` decides every random choice;
  "full" has none. Photos without a sketch are in the gallery of "full" only.

  Raises: UserError for an unknown protocol, or missing categories.
  """
  if protocol == "full":
    return [Trial(np.arange(len(photo_row)), np.arange(num_photos), photo_row)]
  rng = np.random.default_rng(seed)
  drawn = np.unique(photo_row)
  if protocol == "released":
    batches = [drawn[i : i + RELEASED_BATCH] for i in range(0, len(drawn), RELEASED_BATCH)]
  elif protocol == "one_per_class":
    batches = [_one_per_class(drawn, category, rng)]
  else:
    raise UserError(f"protocol={protocol!r} must be one of: {', '.join(PROTOCOLS)}")
  return [
    Trial(_one_sketch_each(batch, photo_row, rng), batch, np.arange(len(batch)))
    for batch in batches
  ]


def _one_per_class(
  drawn: np.ndarray, category: Sequence[str] | None, rng: np.random.Generator
) -> np.ndarray:
  if category is None or len(np.unique(category)) < 2:
    raise UserError("protocol='one_per_class' needs photos of 2 categories or more; use 'full'")
  of_photo = np.asarray(category)[drawn]
  return np.array([rng.choice(drawn[of_photo == name]) for name in np.unique(of_photo)])


def _one_sketch_each(
  photos: np.ndarray, photo_row: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  return np.array([rng.choice(np.flatnonzero(photo_row == photo)) for photo in photos])

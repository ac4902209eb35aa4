"""How far apart sketches and photos lie as two groups, whatever each of them shows."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

MAX_PAIRS = 20_000  # more change no digit that is shown


class ModalityGap(NamedTuple):
  """Distances between unit vectors: 0 to 2."""

  gap: float  # between the mean sketch and the mean photo
  pair: float  # of a sketch and a photo that belong together, on average
  other: float  # of a sketch and any photo, on average
  num_pairs: int

  @property
  def share(self) -> float:
    """The gap as a share of the mean pair distance, 0 to 1: 1 where all pairs differ alike."""
    return self.gap / self.pair if self.pair else 0.0


def modality_gap(
  query: Shaped[np.ndarray, "q d"],
  gallery: Shaped[np.ndarray, "g d"],
  pairs: Int[np.ndarray, "p 2"],
  *,
  seed: int = 0,
) -> ModalityGap:
  """Returns the gap of the pairs (row of the queries, row of the gallery), of which at most
  MAX_PAIRS are taken, drawn from `seed`. All vectors are made unit vectors first.

  The gap is the length of the mean difference of a pair, which is the distance of the two means;
  so it is never more than the mean length of the differences.

  Source: Liang et al. 2022 (arXiv:2203.02053), section 4.1, which has the distance of the means;
  its share of the pair distance is ours.
  """
  draw = np.random.default_rng(seed)
  if len(pairs) > MAX_PAIRS:
    pairs = pairs[draw.permutation(len(pairs))[:MAX_PAIRS]]
  sketch, photo = _unit(query)[pairs[:, 0]], _unit(gallery)[pairs[:, 1]]
  apart = sketch - photo
  lengths = lambda x: float(np.linalg.norm(x, axis=1).mean())
  other = lengths(sketch - photo[draw.permutation(len(photo))])
  return ModalityGap(float(np.linalg.norm(apart.mean(axis=0))), lengths(apart), other, len(pairs))


def pairs_of_class(
  query_label: Shaped[np.ndarray, "q"], gallery_label: Shaped[np.ndarray, "g"], *, seed: int = 0
) -> Int[np.ndarray, "p 2"]:
  """Returns pairs of a sketch and a photo of its class, up to 20 photos a sketch, drawn anew."""
  draw, pairs = np.random.default_rng(seed), []
  rows_of = {label: np.flatnonzero(gallery_label == label) for label in np.unique(query_label)}
  for row, label in enumerate(query_label):
    photos = draw.permutation(rows_of[label])[:20]
    pairs.append(np.stack([np.full(len(photos), row), photos], axis=1))
  return np.concatenate(pairs)


def _unit(vectors: np.ndarray) -> Float[np.ndarray, "n d"]:
  vectors = np.asarray(vectors, np.float64)
  norms = np.linalg.norm(vectors, axis=1, keepdims=True)
  return vectors / np.where(norms > 0, norms, 1)

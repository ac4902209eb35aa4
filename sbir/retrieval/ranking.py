"""Who comes first: scores of query against gallery, and where the relevant items land."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from sbir.types import UserError

DISTANCES = ("cosine", "euclidean")

# Matrix products of equal rows differ in their last bits with the row's place in memory (measured:
# 45 of 96 shapes), and such noise must not decide who wins. So products are taken with distinct
# rows only, and scores are rounded to 2**-45 of the longest embedding's length. Among 28 000 random
# directions in 384 dimensions about one query in 10 000 has two photos this close by chance.
SCORE_BITS = 45
BLOCK_ELEMENTS = 4_000_000  # scores held at once: 32 MB for each array of a block


class Hits(NamedTuple):
  """Where the relevant items of each query landed: all that a category metric needs.

  A row holds the ranks of one query's relevant items, rising; unused places hold num_gallery + 1.
  """

  rank: Int[np.ndarray, "q r"]  # 1-based; equal scores stay in gallery order
  threshold: Int[np.ndarray, "q r"]  # how many items score at least as much as this one
  num_relevant: Int[np.ndarray, "q"]
  is_tied: Bool[np.ndarray, "q"]  # two items of the gallery have the same score
  num_gallery: int


# The gallery places of each query's items, best first, and where an item ties with the next.
Order = tuple[Int[np.ndarray, "q g"], Bool[np.ndarray, "q g-1"]]


class Embedded(NamedTuple):
  """Checked embeddings, ready to be scored by blocks of queries."""

  query: Float[np.ndarray, "q d"]
  gallery: Float[np.ndarray, "u d"]  # distinct rows: equal photos get equal scores
  gallery_row: Int[np.ndarray, "g"] | None  # place of each photo in `gallery`; None: as it is
  query_norm: Float[np.ndarray, "q 1"]
  gallery_norm: Float[np.ndarray, "u"]


def prepare(query: Shaped[np.ndarray, "q d"], gallery: Shaped[np.ndarray, "g d"]) -> Embedded:
  """Returns both sides as float64, divided by one power of two so that no square overflows.

  Raises: UserError if a side is empty, not a matrix of finite numbers, or the widths differ.
  """
  query, gallery = as_matrix(query, "query"), as_matrix(gallery, "gallery")
  if query.shape[1] != gallery.shape[1]:
    raise UserError(
      f"query is {query.shape[1]} wide and gallery {gallery.shape[1]}; "
      "both must come from the same embedding space"
    )
  entry = _power_of_two_above(max(np.abs(query).max(), np.abs(gallery).max()))
  query, gallery = query / entry, gallery / entry  # now squares neither overflow nor vanish
  length = _power_of_two_above(max(_norms(query).max(), _norms(gallery).max()))
  query, gallery = query / length + 0.0, gallery / length + 0.0  # + 0.0 turns -0.0 into 0.0
  distinct, row = _distinct_rows(gallery)
  return Embedded(query, distinct, row, _norms(query)[:, None], _norms(distinct))


def score_blocks(
  embedded: Embedded, distances: tuple[str, ...]
) -> Iterator[tuple[slice, dict[str, Float[np.ndarray, "b g"]]]]:
  """Yields (rows, {distance: scores}) for consecutive blocks of queries; larger is nearer.

  Scores are the cosine in [-1, 1], or minus the Euclidean distance in units in which no embedding
  is longer than 1; a zero embedding has cosine 0 with everything. One matrix product serves all
  distances.
  """
  num_gallery = len(embedded.gallery if embedded.gallery_row is None else embedded.gallery_row)
  step = max(1, BLOCK_ELEMENTS // num_gallery)
  for start in range(0, len(embedded.query), step):
    rows = slice(start, min(start + step, len(embedded.query)))
    dots = embedded.query[rows] @ embedded.gallery.T
    yield rows, {name: _scores(embedded, rows, dots, name) for name in distances}


def sort_scores(scores: Shaped[np.ndarray, "q g"]) -> Order:
  """Returns the order of falling score, and where an item scores the same as the next one.

  Equal scores stay in gallery order. Whole-number scores are sorted several times faster.

  Raises: UserError on nan or inf.
  """
  scores, num_gallery = _as_scores(scores), scores.shape[1]
  bits = _place_bits(num_gallery)
  is_whole = scores.dtype.kind == "i"
  largest = max(int(scores.max(initial=0)), -int(scores.min(initial=0))) if is_whole else 0
  if is_whole and largest < 2 ** (63 - bits):
    # One sort of (score, place) packed in 63 bits is ten times faster than a stable argsort, and in
    # 31 bits, where the scores are small (Hamming distances), twice as fast again.
    packed = -scores.astype(np.int32 if largest < 2 ** (31 - bits) else np.int64)
    packed <<= bits
    packed |= np.arange(num_gallery, dtype=packed.dtype)
    packed.sort(axis=1)
    order = packed & ((1 << bits) - 1)
    packed >>= bits
    return order, packed[:, 1:] == packed[:, :-1]
  order = np.argsort(-scores, axis=1, kind="stable")
  ranked = np.take_along_axis(scores, order, axis=1)
  return order, ranked[:, 1:] == ranked[:, :-1]


def quantise(scores: Float[np.ndarray, "b g"]) -> Int[np.ndarray, "b g"]:
  """Returns embedding scores in whole steps of 2**-SCORE_BITS; overwrites `scores`.

  The steps are coarser for more than 65 536 items, so that `sort_scores` can pack them.
  """
  scores *= 2.0 ** min(SCORE_BITS, 61 - _place_bits(scores.shape[1]))
  return np.rint(scores, out=scores).astype(np.int64)


def hits_in_order(
  relevant: Bool[np.ndarray, "q g"], tied_with_next: Bool[np.ndarray, "q g-1"] | None = None
) -> Hits:
  """Returns the hits of relevance flags that are already in ranked order."""
  num_queries, num_gallery = relevant.shape
  row, place = np.nonzero(relevant)
  num_relevant = np.bincount(row, minlength=num_queries)
  slot = np.arange(len(row)) - (np.cumsum(num_relevant) - num_relevant)[row]
  rank = np.full((num_queries, max(1, num_relevant.max(initial=0))), num_gallery + 1)
  rank[row, slot] = place + 1
  threshold, is_tied = rank, np.zeros(num_queries, bool)
  if tied_with_next is not None and tied_with_next.any():
    is_tied = tied_with_next.any(axis=1)
    threshold = rank.copy()
    threshold[row, slot] = _end_of_tie(tied_with_next, num_gallery)[row, place]
  return Hits(rank, threshold, num_relevant, is_tied, num_gallery)


def rank_hits(
  scores: Shaped[np.ndarray, "q g"],
  query_label: Shaped[np.ndarray, "q"],
  gallery_label: Shaped[np.ndarray, "g"],
) -> Hits:
  """Returns where the gallery items with each query's label land when sorted by falling score."""
  order, tied_with_next = sort_scores(scores)
  return hits_in_order(gallery_label[order] == query_label[:, None], tied_with_next)


def nearest(
  query: Shaped[np.ndarray, "q d"],
  gallery: Shaped[np.ndarray, "g d"],
  k: int,
  *,
  distance: str = "cosine",
) -> Int[np.ndarray, "q k"]:
  """Returns the gallery places of the k nearest items of each query, nearest first."""
  check_distance(distance)
  blocks = score_blocks(prepare(query, gallery), (distance,))
  return np.concatenate([sort_scores(quantise(s[distance]))[0][:, :k] for _, s in blocks])


def check_distance(distance: str) -> None:
  """Raises UserError unless `distance` is one of DISTANCES."""
  if distance not in DISTANCES:
    raise UserError(f"distance={distance!r} must be one of: {', '.join(DISTANCES)}")


def as_matrix(embeddings: Shaped[np.ndarray, "n d"], name: str) -> Float[np.ndarray, "n d"]:
  """Returns embeddings as float64. Raises: UserError unless they are a matrix of finite numbers."""
  embeddings = np.asarray(embeddings)
  if embeddings.ndim != 2 or 0 in embeddings.shape:
    raise UserError(f"{name} embeddings have shape {embeddings.shape}; expected [items, width]")
  if embeddings.dtype.kind in "cSUOmM":  # bfloat16 is of kind V and converts
    raise UserError(f"{name} embeddings are {embeddings.dtype}; expected real numbers")
  matrix = embeddings.astype(np.float64)
  bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
  if len(bad):
    # NaN compares false with everything and would rank every right answer first.
    raise UserError(
      f"{name} embeddings: {len(bad)} of {len(matrix)} rows hold nan or inf (first: row {bad[0]}); "
      "expected finite numbers: look where the network diverged"
    )
  return matrix


def _place_bits(num_gallery: int) -> int:
  return max(1, (num_gallery - 1).bit_length())


def _power_of_two_above(value: float) -> float:
  """Returns a power of two, so that dividing by it changes no digit and makes no tie."""
  return 2.0 ** np.clip(np.ceil(np.log2(value)), -1000, 1000) if value > 0 else 1.0


def _norms(matrix: np.ndarray) -> np.ndarray:
  return np.sqrt(np.einsum("nd,nd->n", matrix, matrix))


def _scores(embedded: Embedded, rows: slice, dots: np.ndarray, distance: str) -> np.ndarray:
  query_norm, gallery_norm = embedded.query_norm[rows], embedded.gallery_norm
  if distance == "cosine":
    scores = dots / np.where(query_norm > 0, query_norm, 1)
    scores /= np.where(gallery_norm > 0, gallery_norm, 1)
  else:
    scores = dots * -2
    scores += query_norm**2
    scores += gallery_norm**2
    np.negative(np.sqrt(np.maximum(scores, 0, out=scores), out=scores), out=scores)
  return scores if embedded.gallery_row is None else scores[:, embedded.gallery_row]


def _end_of_tie(tied_with_next: np.ndarray, num_gallery: int) -> np.ndarray:
  """Returns, for each place in ranked order, how many items come up to the end of its tie."""
  last = np.arange(1, num_gallery + 1)
  end = np.where(np.pad(tied_with_next, ((0, 0), (0, 1))), num_gallery, last)
  return np.minimum.accumulate(end[:, ::-1], axis=1)[:, ::-1]


def _distinct_rows(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
  """Returns the distinct rows and the place of each row among them; None if all differ."""
  as_bytes = np.ascontiguousarray(matrix).view(np.dtype((np.void, matrix[0].nbytes)))[:, 0]
  _, first, place = np.unique(as_bytes, return_index=True, return_inverse=True)
  return (matrix, None) if len(first) == len(matrix) else (matrix[first], place)


def _as_scores(scores: np.ndarray) -> np.ndarray:
  if scores.dtype.kind in "iub":
    return scores.astype(np.int64, copy=False)
  scores = scores.astype(np.float64, copy=False)
  if not np.isfinite(scores).all():
    raise UserError(f"scores hold {(~np.isfinite(scores)).sum()} nan or inf; expected finite ones")
  return scores

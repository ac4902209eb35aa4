"""Retrieval by binary codes: how many bits differ, and the category report of such rankings."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from sbir.retrieval import ranking
from sbir.retrieval.presets import (
  CUTS,
  PRESETS,
  CategoryReport,
  check_choices,
  report_of_rankings,
)
from sbir.types import UserError

WORD = 8  # bytes compared at once


def hamming_scores(
  query: UInt8[np.ndarray, "q bytes"], gallery: UInt8[np.ndarray, "g bytes"]
) -> Int[np.ndarray, "q g"]:
  """Returns minus the number of bits that differ; larger is nearer.

  Raises: UserError unless both are packed codes (`itq.encode`) of equal length.
  """
  query, gallery = _words(query, "query"), _words(gallery, "gallery")
  if query.shape[1] != gallery.shape[1]:
    raise UserError(
      f"query codes are {query.shape[1]} words long and gallery codes {gallery.shape[1]}; "
      "encode both with one coder"
    )
  scores = np.zeros((len(query), len(gallery)), np.int16)
  for word in range(query.shape[1]):
    scores -= np.bitwise_count(query[:, word, None] ^ gallery[None, :, word])
  return scores


def evaluate_codes(
  query: UInt8[np.ndarray, "q bytes"],
  gallery: UInt8[np.ndarray, "g bytes"],
  query_label: Shaped[np.ndarray, "q"],
  gallery_label: Shaped[np.ndarray, "g"],
  *,
  cuts: Sequence[int] = CUTS,
  presets: Sequence[str] = tuple(PRESETS),
) -> CategoryReport:
  """Returns the report of `evaluate_categories` for packed codes; all presets by Hamming distance.

  Codes have far more items than distances, so nearly everything ties: plain average precision
  takes equal distances together, as scikit-learn does, all else takes them in gallery order.

  Raises: UserError on codes or labels that do not fit, or unknown names.
  """
  check_choices(presets, cuts)
  query, gallery = _checked(query, "query"), _checked(gallery, "gallery")
  return report_of_rankings(
    _rankings(query, gallery),
    query_label,
    gallery_label,
    counts=(len(query), len(gallery)),
    dim=8 * query.shape[1],
    distance="hamming",
    preset_distance=dict.fromkeys(presets, "hamming"),
    cuts=cuts,
  )


def _rankings(query: np.ndarray, gallery: np.ndarray) -> Iterator[tuple[slice, str, ranking.Order]]:
  step = max(1, ranking.BLOCK_ELEMENTS // len(gallery))
  for start in range(0, len(query), step):
    rows = slice(start, min(start + step, len(query)))
    yield rows, "hamming", ranking.sort_scores(hamming_scores(query[rows], gallery))


def _words(codes: np.ndarray, name: str) -> np.ndarray:
  """Returns packed codes as 64-bit words, filled up with zeros, which never differ."""
  codes = _checked(codes, name)
  padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % WORD)))
  return np.ascontiguousarray(padded).view(np.uint64)


def _checked(codes: np.ndarray, name: str) -> np.ndarray:
  codes = np.asarray(codes)
  if codes.dtype != np.uint8 or codes.ndim != 2 or 0 in codes.shape:
    raise UserError(
      f"{name} codes are {codes.dtype}{list(codes.shape)}, expected uint8 of shape [items, bytes]; "
      "pack bits with np.packbits(bits, axis=1)"
    )
  return codes

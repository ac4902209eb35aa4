"""Binary codes of embeddings: principal components, turned so that rounding to bits loses little.

Iterative quantisation (Gong and Lazebnik, CVPR 2011) as the zero-shot papers use it for the rows
they call "64 bits".
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from sbir.retrieval.ranking import as_matrix
from sbir.types import UserError

WAYS = ("training", "transductive", "released")
FEWEST, MOST = 16, 256  # bits
ITERATIONS = 50
SEED = 50  # both as in the evaluators of SEM-PCYC, TVT and PSKD


class Coder(NamedTuple):
  """Turns embeddings into bits: bit j is whether (x - mean) @ directions[:, j] is above 0."""

  mean: Float[np.ndarray, "d"]
  directions: Float[np.ndarray, "d bits"]


def encode_pair(
  query: Shaped[np.ndarray, "q d"],
  gallery: Shaped[np.ndarray, "g d"],
  *,
  bits: int,
  fit: str = "training",
  training: Shaped[np.ndarray, "n d"] | None = None,
  seed: int = SEED,
) -> tuple[UInt8[np.ndarray, "q bytes"], UInt8[np.ndarray, "g bytes"]]:
  """Returns the packed codes of both sides. Embeddings should not be normalised.

  `fit` says from what the codes are learnt:
    training      mean, components and rotation from `training` embeddings, one mean for both sides
    transductive  components and rotation from the queries that are then measured, each side centred
                  by its own mean: what SEM-PCYC, TVT and PSKD report; it sees the test set
    released      the same with a slip of their code, kept for parity (see `itq_rotation`)

  Raises: UserError on an unknown way, embeddings or bits that do not fit, or missing `training`.
  """
  if fit not in WAYS:
    raise UserError(f"fit={fit!r} must be one of: {', '.join(WAYS)}")
  if (fit == "training") != (training is not None):
    raise UserError(
      f"fit={fit} with {'no' if training is None else len(training)} training embeddings; give "
      "them for fit=training, and only then"
    )
  query, gallery = as_matrix(query, "query"), as_matrix(gallery, "gallery")
  if training is not None:
    coder = fit_codes(training, bits, seed=seed)
    return encode(coder, query), encode(coder, gallery)
  coder = fit_codes(query, bits, seed=seed, is_released=fit == "released")
  return encode(coder, query), encode(coder._replace(mean=gallery.mean(axis=0)), gallery)


def fit_codes(
  embeddings: Shaped[np.ndarray, "n d"],
  bits: int,
  *,
  iterations: int = ITERATIONS,
  seed: int = SEED,
  is_released: bool = False,
) -> Coder:
  """Returns the coder of `embeddings`: their mean, and their rotated principal components.

  Raises: UserError unless `bits` is a multiple of 8 from 16 to 256, no wider than the embeddings,
  and below their number.
  """
  embeddings = as_matrix(embeddings, "training")
  _check_bits(bits, *embeddings.shape)
  mean = embeddings.mean(axis=0)
  components = principal_components(embeddings - mean, bits)
  projected = (embeddings - mean) @ components
  rotation = itq_rotation(projected, iterations=iterations, seed=seed, is_released=is_released)
  return Coder(mean, components @ rotation)


def encode(coder: Coder, embeddings: Shaped[np.ndarray, "n d"]) -> UInt8[np.ndarray, "n bytes"]:
  """Returns the codes, eight bits in a byte.

  Raises: UserError if the embeddings are not finite or of another width than the coder's.
  """
  embeddings = as_matrix(embeddings, "encoded")
  if embeddings.shape[1] != len(coder.directions):
    raise UserError(
      f"embeddings are {embeddings.shape[1]} wide and the coder {len(coder.directions)}; "
      "both must come from the same embedding space"
    )
  return np.packbits((embeddings - coder.mean) @ coder.directions > 0, axis=1)


def principal_components(centred: Float[np.ndarray, "n d"], num: int) -> Float[np.ndarray, "d num"]:
  """Returns the `num` directions of largest variance, as columns, largest first.

  The largest entry of each is positive, so that the signs do not depend on the library.
  """
  _, vectors = np.linalg.eigh(centred.T @ centred)
  components = vectors[:, ::-1][:, :num]
  largest = np.take_along_axis(components, np.abs(components).argmax(axis=0)[None], axis=0)
  return components * np.where(largest < 0, -1.0, 1.0)


def itq_rotation(
  projected: Float[np.ndarray, "n bits"],
  *,
  iterations: int = ITERATIONS,
  seed: int = SEED,
  is_released: bool = False,
) -> Float[np.ndarray, "bits bits"]:
  """Returns a rotation R that brings `projected` @ R near its own signs.

  Each iteration takes B, the signs, and then the best R for them (orthogonal Procrustes), so the
  error |B - projected R|^2 never grows. `is_released`: the reference takes the right factor of
  numpy's svd, which is transposed already, for the factor itself, so its R is orthogonal but not
  the best one, and its error wanders.
  """
  bits = projected.shape[1]
  rotation = np.linalg.svd(np.random.RandomState(seed).standard_normal((bits, bits)))[0]
  for _ in range(iterations):
    signs = np.where(projected @ rotation >= 0, 1.0, -1.0)
    left, _, right = np.linalg.svd(signs.T @ projected)
    rotation = (right if is_released else right.T) @ left.T
  return rotation


def _check_bits(bits: int, num: int, width: int) -> None:
  if bits % 8 or not FEWEST <= bits <= MOST:
    raise UserError(
      f"bits={bits} must be a multiple of 8 from {FEWEST} to {MOST}; the papers report 64"
    )
  if bits > width:
    raise UserError(
      f"bits={bits} is more than the {width} dimensions of the embeddings; take at most {width}"
    )
  if bits >= num:
    raise UserError(
      f"bits={bits} cannot be fitted to {num} embeddings; give more than {bits}, or fewer bits"
    )

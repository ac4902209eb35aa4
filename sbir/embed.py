"""Embeddings of many images, on the host, with the device kept busy meanwhile."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from sbir.data.padding import HostBatch
from sbir.overlap import overlapped
from sbir.progress import bar

EmbedFn = Callable[[UInt8[Array, "b h w 3"]], Float[Array, "b d"]]


def embed_images(
  embed_fn: EmbedFn,
  batches: Iterable[HostBatch],
  indices: Sequence[int],
  *,
  mesh: Mesh | None = None,
  desc: str = "embed",
  quiet: bool = False,
) -> Float[np.ndarray, "n d"]:
  """Returns the embeddings of the images `indices`, row i that of indices[i]; padding is dropped.

  `batches` are those of `data.pipeline.eval_batches` for the same indices, in any order. `embed_fn`
  should be jitted; its result is fetched only when the next batch is already under way. With a mesh
  the images are split over its devices, whatever their number. `quiet` shows no progress.
  Of several processes all are given the whole; the `batches` are their shares.

  Raises: ValueError if the batches do not hold each of `indices` exactly once.
  """
  indices = np.asarray(indices)
  rows, embed = _Rows(indices), lambda batch: embed_fn(batch["image"])
  with bar(desc, len(indices), unit="img", quiet=quiet) as progress:
    for embeddings, batch in overlapped(embed, batches, mesh):
      rows.put(embeddings, np.asarray(batch["mask"]), np.asarray(batch["index"]))
      progress.update(int(batch["mask"].sum()))
  return rows.all()


def in_batches(
  apply: Callable[[UInt8[Array, "b s s 3"]], Float[Array, "b d"]],
  squares: UInt8[np.ndarray, "n s s 3"],
  batch_size: int,
) -> Float[np.ndarray, "n d"]:
  """Returns apply(squares), batch by batch of one size (the last is filled with its last image):
  for what one process computes by itself, on its own device, and compiles once."""
  rows = np.minimum(np.arange(-(-len(squares) // batch_size) * batch_size), len(squares) - 1)
  parts = [np.asarray(apply(squares[some])) for some in rows.reshape(-1, batch_size)]
  return np.concatenate(parts)[: len(squares)]


class _Rows:
  """Collects rows that arrive in any order, and knows which are missing."""

  def __init__(self, indices: np.ndarray):
    self._order = np.argsort(indices, kind="stable")
    self._sorted = indices[self._order]
    self._is_there = np.zeros(len(indices), bool)
    self._table: np.ndarray | None = None

  def put(self, embeddings: np.ndarray, mask: np.ndarray, index: np.ndarray) -> None:
    """Stores the rows where `mask` holds; a row of padding is never looked at."""
    index, embeddings = index[mask], embeddings[mask]
    if self._table is None:
      self._table = np.empty((len(self._order), embeddings.shape[1]), np.float32)
    found = np.minimum(np.searchsorted(self._sorted, index), len(self._sorted) - 1)
    if (self._sorted[found] != index).any():
      raise ValueError(f"index {index[self._sorted[found] != index][0]} was not asked for")
    place = self._order[found]
    if self._is_there[place].any() or len(np.unique(place)) < len(place):
      raise ValueError("an index came twice; give each index once")
    self._table[place] = embeddings
    self._is_there[place] = True

  def all(self) -> np.ndarray:
    """Returns the full table, in the order asked for."""
    if self._table is None or not self._is_there.all():
      missing = len(self._is_there) - self._is_there.sum()
      raise ValueError(f"{missing} of {len(self._is_there)} images never came; expected each once")
    return self._table

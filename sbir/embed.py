"""Embeddings of many images, on the host, with the device kept busy meanwhile."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from sbir.mesh import put_batch
from sbir.progress import bar

EmbedFn = Callable[[UInt8[Array, "b h w 3"]], Float[Array, "b d"]]
IN_FLIGHT = 2  # batches on the device at once: one computes while the host makes the next one


def embed_images(
  embed_fn: EmbedFn,
  batches: Iterable[Mapping[str, np.ndarray]],
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
  Works in one process only: of several, each would see its own share.

  Raises: ValueError if the batches do not hold each of `indices` exactly once.
  """
  indices = np.asarray(indices)
  rows = _Rows(indices)
  waiting: deque[tuple[Array, np.ndarray]] = deque()
  with bar(desc, len(indices), unit="img", quiet=quiet) as progress:

    def fetch() -> None:
      on_device, kept = waiting.popleft()
      rows.put(jax.device_get(on_device), *kept)
      progress.update(int(kept[0].sum()))

    for batch in batches:
      image = _on_device(batch["image"], mesh)
      waiting.append((embed_fn(image), (np.asarray(batch["mask"]), np.asarray(batch["index"]))))
      if len(waiting) >= IN_FLIGHT:
        fetch()
    while waiting:
      fetch()
  return rows.all()


class _Rows:
  """Collects rows that arrive in any order, and knows which are missing."""

  def __init__(self, indices: np.ndarray):
    self._order = np.argsort(indices, kind="stable")
    self._sorted = indices[self._order]
    self._is_there = np.zeros(len(indices), bool)
    self._table: np.ndarray | None = None

  def put(self, embeddings: np.ndarray, mask: np.ndarray, index: np.ndarray) -> None:
    """Stores the rows where `mask` holds; a row of padding is never looked at."""
    index, embeddings = index[mask], embeddings[: len(mask)][mask]
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


def _on_device(image: np.ndarray, mesh: Mesh | None) -> Array:
  """Returns the images on the device, or split over a mesh with as many more as make it even."""
  if mesh is None:
    return jax.device_put(image)
  surplus = np.repeat(image[-1:], -len(image) % mesh.size, axis=0)
  return put_batch({"image": np.concatenate([image, surplus])}, mesh)["image"]

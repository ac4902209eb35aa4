"""One pass over many batches, with host and device busy at the same time and few batches alive."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from sbir.data.padding import HostBatch
from sbir.mesh import put_batch
from sbir.types import Batch

IN_FLIGHT = 2  # batches on the device at once: one computes while the host makes the next one


def overlapped(
  apply: Callable[[Batch], Any],
  batches: Iterable[HostBatch],
  mesh: Mesh | None = None,
  *,
  in_flight: int = IN_FLIGHT,
) -> Iterator[tuple[Any, HostBatch]]:
  """Yields (apply(batch) on the host, batch) for every batch, in order.

  `apply` should be jitted: it is called as soon as a batch is there, and its result is fetched only
  when the next one is under way, so at most `in_flight` batches are alive. With a mesh the rows are
  split over its devices, whatever their number: the last row is repeated to make it even, and the
  results, whose first axes are those of the batch, are cut back. A "mask" (of `padded`) stays on
  the host. Works in one process only: of several, each would see its own share.
  """
  if in_flight < 1:
    raise ValueError(f"in_flight={in_flight} must be at least 1")
  waiting: deque[tuple[Any, HostBatch]] = deque()
  for batch in batches:
    waiting.append((apply(_on_device(batch, mesh)), batch))
    if len(waiting) >= in_flight:
      yield _fetched(*waiting.popleft(), mesh)
  while waiting:
    yield _fetched(*waiting.popleft(), mesh)


def _on_device(batch: HostBatch, mesh: Mesh | None) -> Batch:
  """Returns what the device sees of a batch, its rows made even."""
  seen = {name: value for name, value in batch.items() if name != "mask"}
  if mesh is None:
    return jax.device_put(seen)
  return put_batch({name: _evened(value, mesh.size) for name, value in seen.items()}, mesh)


def _evened(rows: np.ndarray, num_devices: int) -> np.ndarray:
  surplus = -len(rows) % num_devices
  return np.concatenate([rows, np.repeat(rows[-1:], surplus, axis=0)]) if surplus else rows


def _fetched(result: Any, batch: HostBatch, mesh: Mesh | None) -> tuple[Any, HostBatch]:
  """Returns the result on the host, without the rows that made the batch even."""
  on_host = jax.device_get(result)
  num_rows = len(next(iter(batch.values())))
  if mesh is not None and num_rows % mesh.size:
    on_host = jax.tree.map(lambda rows: rows[:num_rows], on_host)
  return on_host, batch

"""One pass over many batches, with host and device busy at the same time and few batches alive."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from sbir import processes
from sbir.data.padding import HostBatch
from sbir.mesh import put_batch, replicated
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
  the host.

  Of several processes each brings its share of every batch, with a mask, and all are given what is
  made of all shares: the results, and beside them the columns of one number a row; rows that make a
  share even are masked, not cut.
  """
  if in_flight < 1:
    raise ValueError(f"in_flight={in_flight} must be at least 1")
  send, fetch = _sent_alone, _fetched_alone
  if mesh is not None and processes.share().count > 1:
    send, fetch = _sent_by_all, _fetched_by_all
  waiting: deque[tuple[Any, Any]] = deque()
  for batch in batches:
    waiting.append(send(apply, batch, mesh))
    if len(waiting) >= in_flight:
      yield fetch(*waiting.popleft(), mesh)
  while waiting:
    yield fetch(*waiting.popleft(), mesh)


def _sent_alone(
  apply: Callable[[Batch], Any], batch: HostBatch, mesh: Mesh | None
) -> tuple[Any, HostBatch]:
  return apply(_on_device(batch, mesh)), batch


def _on_device(batch: HostBatch, mesh: Mesh | None) -> Batch:
  """Returns what the device sees of a batch, its rows made even."""
  seen = {name: value for name, value in batch.items() if name != "mask"}
  if mesh is None:
    return jax.device_put(seen)
  return put_batch({name: _evened(value, mesh.size) for name, value in seen.items()}, mesh)


def _evened(rows: np.ndarray, num_devices: int) -> np.ndarray:
  surplus = -len(rows) % num_devices
  return np.concatenate([rows, np.repeat(rows[-1:], surplus, axis=0)]) if surplus else rows


def _fetched_alone(result: Any, batch: HostBatch, mesh: Mesh | None) -> tuple[Any, HostBatch]:
  """Returns the result on the host, without the rows that made the batch even."""
  on_host = jax.device_get(result)
  num_rows = len(next(iter(batch.values())))
  if mesh is not None and num_rows % mesh.size:
    on_host = jax.tree.map(lambda rows: rows[:num_rows], on_host)
  return on_host, batch


def _sent_by_all(
  apply: Callable[[Batch], Any], batch: HostBatch, mesh: Mesh
) -> tuple[Any, dict[str, jax.Array]]:
  num_devices = len(mesh.local_devices)
  evened = {name: _evened(rows, num_devices) for name, rows in batch.items()}
  evened["mask"][len(batch["mask"]) :] = False
  columns = {name: rows for name, rows in evened.items() if rows.ndim == 1}
  seen = put_batch({name: rows for name, rows in evened.items() if name != "mask"}, mesh)
  gather = _gather(mesh)
  return gather(apply(seen)), gather(put_batch(columns, mesh))


def _fetched_by_all(result: Any, columns: dict[str, jax.Array], mesh: Mesh) -> tuple[Any, Any]:
  return jax.device_get((result, columns))


@functools.lru_cache(maxsize=2)
def _gather(mesh: Mesh) -> Callable[[Any], Any]:
  """Returns what makes arrays whole in every process."""
  return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))

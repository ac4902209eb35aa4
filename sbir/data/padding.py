"""Batches of one size, whatever the number of items: programs compile once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from sbir.processes import WHOLE, Share
from sbir.types import UserError

HostBatch = dict[str, np.ndarray]
NUM_THREADS = 2  # which load ahead, each a batch

Item = TypeVar("Item")
Made = TypeVar("Made")


def padded(
  rows: np.ndarray,
  batch_size: int,
  load: Callable[[np.ndarray], HostBatch],
  *,
  num_threads: int = NUM_THREADS,
  share: Share = WHOLE,
) -> Iterator[HostBatch]:
  """Yields load(`batch_size` rows at a time) with a "mask", False where a row is padding: the last
  row again. Threads load ahead as in `in_order`.

  With a `share` only its part of each batch is loaded; batches are made longer until it divides.
  Raises: UserError if `batch_size` is below 1.
  """
  if batch_size < 1:
    raise UserError(f"batch_size={batch_size} must be at least 1")
  length = -(-batch_size // share.count)
  batch_size = length * share.count

  def make(start: int) -> HostBatch:
    taken = start + share.index * length + np.arange(length)
    return load(rows[np.minimum(taken, len(rows) - 1)]) | {"mask": taken < len(rows)}

  yield from in_order(make, range(0, len(rows), batch_size), num_threads)


def in_order(
  make: Callable[[Item], Made], items: Iterable[Item], num_threads: int
) -> Iterator[Made]:
  """Yields make(item) for each item, in order; with threads, up to `num_threads` + 1 of them are
  made or wait beside the one that is in use. What `make` raises is raised in its turn."""
  if not num_threads:
    yield from map(make, items)
    return
  pool = ThreadPoolExecutor(num_threads, thread_name_prefix="load")
  ahead: deque[Future[Made]] = deque()
  try:
    for item in items:
      ahead.append(pool.submit(make, item))
      if len(ahead) > num_threads:
        yield ahead.popleft().result()
    while ahead:
      yield ahead.popleft().result()
  finally:  # also if the caller stops early
    pool.shutdown(cancel_futures=True)

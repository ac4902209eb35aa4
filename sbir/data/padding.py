"""Batches of one size, whatever the number of items: programs compile once."""

from collections.abc import Callable, Iterator

import numpy as np

from sbir.types import UserError

HostBatch = dict[str, np.ndarray]


def padded(
  rows: np.ndarray, batch_size: int, load: Callable[[np.ndarray], HostBatch]
) -> Iterator[HostBatch]:
  """Yields load(`batch_size` rows at a time) with a "mask", False where a row is padding: the last
  row again. Raises: UserError if `batch_size` is below 1."""
  if batch_size < 1:
    raise UserError(f"batch_size={batch_size} must be at least 1")
  for start in range(0, len(rows), batch_size):
    taken = np.arange(start, start + batch_size)
    yield load(rows[np.minimum(taken, len(rows) - 1)]) | {"mask": taken < len(rows)}

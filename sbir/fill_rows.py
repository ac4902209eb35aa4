"""Fills stored rows from a network: only what is missing, the host and the devices busy at once."""

from collections.abc import Callable, Iterator

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from sbir import processes, progress, run_folder
from sbir.data.padding import HostBatch, padded
from sbir.overlap import overlapped
from sbir.stored_rows import StoredRows
from sbir.types import Batch


def fill(
  rows: StoredRows,
  load: Callable[[np.ndarray], HostBatch],
  compute: Callable[[Batch], Float[Array, "b ..."]],
  *,
  batch_size: int,
  mesh: Mesh,
  desc: str,
  is_void: Callable[[np.ndarray], Bool[np.ndarray, "rows"]] | None = None,
) -> None:
  """Computes and stores the shards that are missing; stopped and called again, it goes on.

  `load(numbers)` returns the host batch of these rows, `compute` their numbers; jit it. Batches are
  of one size, the last one padded, and split over the mesh. Of several processes, which must share
  the folder, the first writes.

  Rows of which `is_void(numbers)` says so, asked after they were loaded, are stored as no numbers:
  `StoredRows.take` refuses them.

  Raises: UserError if the folder cannot be written.
  """
  processes.barrier(f"before filling {desc}")  # all have seen the same shards missing
  missing = rows.missing()
  if not missing:
    progress.say(f"{desc}: complete, {rows.num_rows} rows in {rows.folder}")
    return
  run_folder.check_writable(rows.folder, "cache.dir")
  numbers = np.concatenate([rows.rows_of(shard) for shard in missing])
  done = rows.num_rows - len(numbers)
  with progress.bar(desc, rows.num_rows, initial=done, unit="row") as bar:
    batches = padded(numbers, batch_size, load, share=processes.share())

    def computed() -> Iterator[np.ndarray]:
      for result, batch in overlapped(compute, batches, mesh):
        kept = result[batch["mask"]]
        bar.update(len(kept))
        yield kept

    arriving, waiting = computed(), np.empty((0, *rows.row_shape), np.float32)
    for shard in missing:
      length = len(rows.rows_of(shard))
      while len(waiting) < length:
        waiting = np.concatenate([waiting, next(arriving)])
      if is_void is not None:
        waiting[:length][is_void(rows.rows_of(shard))] = np.nan
      rows.write(shard, waiting[:length])
      waiting = waiting[length:]
  processes.barrier(f"after filling {desc}")

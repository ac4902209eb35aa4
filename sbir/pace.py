"""How fast a training goes, and how much of its time it waits for data."""

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol

from jax.sharding import Mesh

from sbir.mesh import put_batch
from sbir.types import Batch


class Source(Protocol):
  """What gives the next host batch."""

  def __next__(self) -> Batch: ...


class Pace:
  """Measures examples per second and the share of time spent waiting for data."""

  def __init__(self) -> None:
    self._begun = self._since = time.perf_counter()
    self._examples, self._waited = 0, 0.0

  def fetch(self, batches: Source, mesh: Mesh) -> Batch:
    asked = time.perf_counter()
    batch = put_batch(next(batches), mesh)
    self._waited += time.perf_counter() - asked
    return batch

  def count(self, batch: Batch, *, restart: bool) -> None:
    """Counts one batch; `restart` forgets all so far (the first step, which compiles)."""
    if restart:
      self._since, self._examples, self._waited = time.perf_counter(), 0, 0.0
    else:
      self._examples += len(next(iter(batch.values())))

  def read(self) -> dict[str, float]:
    """Returns the numbers since the last reading, and starts afresh."""
    now = time.perf_counter()
    spent = max(now - self._since, 1e-9)
    rates = {"examples_per_second": self._examples / spent, "data_wait": self._waited / spent}
    self._since, self._examples, self._waited = now, 0, 0.0
    return {**rates, "seconds": now - self._begun}

  @contextlib.contextmanager
  def stopped(self) -> Iterator[None]:
    """Keeps the time spent inside out of the rates."""
    stopped = time.perf_counter()
    yield
    self._since += time.perf_counter() - stopped

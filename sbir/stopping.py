"""A run that is asked to stop finishes its step, saves, and says how to go on."""

import contextlib
import signal
import threading
from collections import deque
from collections.abc import Iterator
from types import FrameType

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sbir import processes, progress
from sbir.mesh import put_batch, replicated
from sbir.processes import EXIT_STOPPED

GO_ON = "run the same command again, and it goes on from there"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
VOTES_IN_FLIGHT = 2  # so that no step waits for what the others say of stopping


class Stopped(SystemExit):
  """Ends the program with EXIT_STOPPED: a signal came, all is saved."""

  def __init__(self) -> None:
    super().__init__(EXIT_STOPPED)


class Asked:
  """Whether a run was asked to stop, in this process or in any that trains with it.

  Several processes must stop after the same step, or those that go on wait for ever. So each step
  each says whether it was asked, by a sum over all devices that nobody waits for; what they said
  counts VOTES_IN_FLIGHT steps later, in all of them.
  """

  def __init__(self, mesh: Mesh):
    self._mesh = mesh
    self._name = ""
    self._votes: deque[jax.Array] = deque()
    self._sum = jax.jit(jnp.sum, out_shardings=replicated(mesh))

  def note(self, number: int, frame: FrameType | None) -> None:
    """Handles a signal: the first is noted, the next does what it always does."""
    self._name = signal.Signals(number).name
    for each in SIGNALS:
      signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
    progress.say(f"{self._name}: stopping after this step, and saving; once more stops at once")

  def after_step(self, *, is_last: bool) -> bool:
    """Returns whether to stop now; to be called once after each step, by all processes."""
    if processes.share().count == 1:
      return bool(self._name)
    own = np.full(len(self._mesh.local_devices), bool(self._name), np.int32)
    self._votes.append(self._sum(put_batch({"asked": own}, self._mesh)["asked"]))
    due = len(self._votes) if is_last else len(self._votes) - VOTES_IN_FLIGHT
    return any([int(jax.device_get(self._votes.popleft())) for _ in range(due)])


@contextlib.contextmanager
def listening(mesh: Mesh) -> Iterator[Asked]:
  """Gives an `Asked` that SIGTERM and SIGINT reach as long as it lasts; where signals cannot be had
  (not the main thread), it is never asked."""
  asked = Asked(mesh)
  if threading.current_thread() is not threading.main_thread():
    yield asked
    return
  before = {number: signal.signal(number, asked.note) for number in SIGNALS}
  try:
    yield asked
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)

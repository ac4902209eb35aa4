"""One input, watched: what came of it, how long it took, how much memory; and many, by hypothesis.

Linux alone: the peak of a process's memory is read, and set back, in /proc.
"""

import contextlib
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity

from sbir.types import UserError

ACCEPTED, REFUSED = "accepted", "refused"
GUARD = 2048  # MiB beyond what a target may take, at which the system itself says no
OURS = ("sbir", "tests")


class Finding(NamedTuple):
  """What should not have happened, and the input that does it again."""

  target: str
  what: str  # one line, the same for the same mistake
  data: bytes
  trace: str = ""


class Outcome(NamedTuple):
  """What came of an input: "accepted", "refused", or what was found."""

  what: str
  seconds: float
  memory: float  # MiB at the peak, beyond what there was before
  trace: str = ""
  shrinks: bool = False  # whether it is worth looking for a smaller input that does the same


@dataclass
class Tally:
  """What came of all inputs so far."""

  inputs: int = 0
  accepted: int = 0
  refused: int = 0
  slowest: float = 0.0
  memory: float = 0.0
  findings: dict[str, Finding] = field(default_factory=dict)


class Hang(BaseException):
  """Rung by the alarm. No Exception, for readers catch those of the libraries they call."""


def attempt(target, data: bytes, folder: Path, *, seconds: float) -> Outcome:
  """Returns what came of one input."""
  before = _reset_peak()
  start, trace, shrinks = time.perf_counter(), "", False
  try:
    with _alarm(seconds):
      target.read(data, folder)
    what = ACCEPTED
  except UserError as error:
    what = REFUSED if not _was_memory_short(error) else "asks for more memory than there is"
  except Hang:
    what, trace = f"hangs: not done after {seconds:g} s", traceback.format_exc()
  except KeyboardInterrupt:
    raise
  except BaseException as error:  # Rust's panics are no Exception
    what, trace, shrinks = _name_of(error), traceback.format_exc(), True
  took, memory = time.perf_counter() - start, _peak() - before
  if memory > target.memory and what in (ACCEPTED, REFUSED):
    what = f"takes too much memory: more than {target.memory} MiB"
  return Outcome(what, took, memory, trace, shrinks)


def limit_memory(target) -> None:
  """Lets this process take what the target may, GUARD more, and no more."""
  limit = int(_status("VmSize") + target.memory + GUARD) * 2**20
  resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class Fuzzing:
  """The inputs of one target, one after the other."""

  def __init__(
    self, target, folder: Path, *, seconds: float, before: Callable[[bytes, Tally], None]
  ):
    """`before` is told of each input before it is tried."""
    self.tally = Tally()
    self._target, self._folder, self._seconds, self._before = target, folder, seconds, before
    self._wanted = ""  # the finding that is being made smaller

  def run(self, inputs: int, seed: int, skip_bombs: int = 0) -> None:
    """Tries the bombs and `inputs` inputs; each finding once, as small as hypothesis makes it."""
    for data in self._target.bombs()[skip_bombs:]:
      self._try(data)
    goal, rounds = self.tally.inputs + inputs, 0
    while self.tally.inputs < goal and rounds < 40:
      self._round(goal - self.tally.inputs, seed + rounds)
      rounds += 1

  def _round(self, inputs: int, seed: int) -> None:
    """Tries inputs until one leads to something new, which is then made smaller."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
      max_examples=inputs,
      database=None,
      deadline=None,
      phases=(Phase.generate, Phase.shrink),
      suppress_health_check=list(HealthCheck),
      report_multiple_bugs=False,
      verbosity=Verbosity.quiet,
    )
    @hypothesis.given(self._target.inputs)
    def test(data: bytes) -> None:
      if self._try(data):
        raise _NewFindingError

    self._wanted = ""
    with contextlib.suppress(_NewFindingError, hypothesis.errors.Flaky):
      test()
    self._wanted = ""

  def _try(self, data: bytes) -> bool:
    """Returns whether this led to something new that may be made smaller."""
    self._before(data, self.tally)
    outcome = attempt(self._target, data, self._folder, seconds=self._seconds)
    if not self._wanted:
      self._count(outcome)
    if outcome.what in (ACCEPTED, REFUSED):
      return False
    if self._wanted:
      is_it = outcome.what == self._wanted
      if is_it and len(data) <= len(self.tally.findings[outcome.what].data):
        self._keep(data, outcome)
      return is_it
    if outcome.what in self.tally.findings:
      return False
    self._keep(data, outcome)
    self._wanted = outcome.what if outcome.shrinks else ""
    return outcome.shrinks

  def _keep(self, data: bytes, outcome: Outcome) -> None:
    found = Finding(self._target.name, outcome.what, data, outcome.trace)
    self.tally.findings[outcome.what] = found

  def _count(self, outcome: Outcome) -> None:
    tally = self.tally
    tally.inputs += 1
    tally.accepted += outcome.what == ACCEPTED
    tally.refused += outcome.what == REFUSED
    tally.slowest = max(tally.slowest, outcome.seconds)
    tally.memory = max(tally.memory, outcome.memory)


class _NewFindingError(Exception):
  """Tells hypothesis to look for a smaller input."""


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
  def ring(*_: object) -> None:
    raise Hang

  before = signal.signal(signal.SIGALRM, ring)
  signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again: a destructor may have swallowed it
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def _name_of(error: BaseException) -> str:
  """Returns the class of an error and the last of our own lines that it came through."""
  frames = traceback.extract_tb(error.__traceback__)
  here = [f for f in frames if Path(f.filename).parent.name in OURS or "/sbir/" in f.filename]
  last = (here or frames)[-1]
  return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def _was_memory_short(error: BaseException | None) -> bool:
  """Returns whether an error came of a MemoryError: without our limit there would be none."""
  while error is not None and not isinstance(error, MemoryError):
    error = error.__context__
  return error is not None


def _status(key: str) -> float:
  """Returns a line of /proc/self/status, in MiB."""
  with open("/proc/self/status") as file:
    return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024


def _peak() -> float:
  return _status("VmHWM")


def _reset_peak() -> float:
  with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
  return _peak()

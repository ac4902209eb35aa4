"""Runs one main as several processes on this machine, to try on a CPU what a cluster will run."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import IO, NamedTuple

from sbir.processes import EXIT_STOPPED
from sbir.submit import as_process

GRACE = 15.0  # seconds that a process has to end by itself, and again after SIGTERM
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LINE_AT_ONCE = Lock()


class Ended(NamedTuple):
  """Says that a process ended, with the status a shell would see."""

  process_id: int
  status: int


class Told(NamedTuple):
  """Says that a signal came for all processes."""

  number: int


def command_lines(program: Sequence[str], num_processes: int, port: int) -> list[list[str]]:
  """Returns what to start: `program`, a main and its arguments, once for each process."""
  coordinator = f"127.0.0.1:{port}"
  return [
    [sys.executable, "-m", *as_process(program, coordinator, num_processes, str(process_id))]
    for process_id in range(num_processes)
  ]


def environment(inherited: Mapping[str, str], devices: int, root: str) -> dict[str, str]:
  """Returns the environment of a process with `devices` CPU devices that finds our modules."""
  search = [root, *filter(None, [inherited.get("PYTHONPATH")])]
  return {
    **inherited,
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(devices),
    "PYTHONPATH": os.pathsep.join(search),
    "PYTHONUNBUFFERED": "1",  # into a pipe, Python would keep its lines for itself
  }


def free_port() -> int:
  """Returns a port of this machine that nothing listens on."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def rehearse(
  commands: Sequence[Sequence[str]], environ: Mapping[str, str], *, grace: float = GRACE
) -> int:
  """Runs all commands at once and returns 0, or the status of the first that fails.

  Their lines appear on our stdout and stderr behind "[0] ", "[1] "...; on a terminal, the first
  writes there itself. If one fails, the others are stopped; a SIGINT or SIGTERM that we get goes to
  each of them once, and they are waited for.
  """
  events: SimpleQueue[Ended | Told] = SimpleQueue()
  processes: list[subprocess.Popen] = []
  relays: list[Thread] = []
  with _signals_into(events):
    try:
      for process_id, command in enumerate(commands):
        is_shown = process_id == 0 and sys.stderr.isatty()
        process = _start(command, environ, is_shown)
        processes.append(process)
        relays += _relay(process, f"[{process_id}] ")
        _in_background(_report_end, process_id, process, events)
      return _follow(processes, events, grace)
    finally:
      for process in processes:
        _send(process, signal.SIGKILL)
      for relay in relays:
        relay.join(timeout=1.0)  # a child of a process may hold its pipe open


@contextmanager
def _signals_into(events: SimpleQueue) -> Iterator[None]:
  """Puts the signals that are to be passed on into `events`, but for those ignored, as by nohup."""
  heard = [number for number in PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN]
  before = {number: signal.signal(number, lambda n, _: events.put(Told(n))) for number in heard}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _start(command: Sequence[str], environ: Mapping[str, str], is_shown: bool) -> subprocess.Popen:
  """Starts a command; unless it is shown as it is, its stdout and stderr are pipes of text."""
  stream = None if is_shown else subprocess.PIPE
  return subprocess.Popen(
    command,
    env=environ,
    stdin=subprocess.DEVNULL,
    stdout=stream,
    stderr=stream,
    encoding="utf-8",
    errors="replace",
    start_new_session=True,  # else a Ctrl-C would reach it twice, from the terminal and from us
  )


def _relay(process: subprocess.Popen, mark: str) -> list[Thread]:
  """Starts to copy what a process writes, and returns the threads that do."""
  pairs = [(process.stdout, sys.stdout), (process.stderr, sys.stderr)]
  return [_in_background(_copy, source, sink, mark) for source, sink in pairs if source]


def _copy(source: IO[str], sink: IO[str], mark: str) -> None:
  """Writes each line of `source` behind the mark; a progress bar's carriage return ends one too."""
  start = "\r\033[K" if sink.isatty() else ""  # takes the place of the bar that process 0 draws
  for line in source:
    if line.strip():
      # Whoever reads us may have gone; the process must not stop at a full pipe for that.
      with _LINE_AT_ONCE, suppress(BrokenPipeError):
        sink.write(f"{start}{mark}{line.rstrip()}\n")
        sink.flush()


def _in_background(function: Callable[..., None], *arguments: object) -> Thread:
  thread = Thread(target=function, args=arguments, daemon=True)
  thread.start()
  return thread


def _report_end(process_id: int, process: subprocess.Popen, events: SimpleQueue) -> None:
  events.put(Ended(process_id, shell_status(process.wait())))


def shell_status(returncode: int) -> int:
  """Returns the exit status a shell shows: of a process killed by signal n (-n), 128 + n."""
  return 128 - returncode if returncode < 0 else returncode


def _follow(processes: Sequence[subprocess.Popen], events: SimpleQueue, grace: float) -> int:
  """Waits until all have ended, and returns the status of the first that failed, or 0."""
  running = dict(enumerate(processes))
  first, was_told, plan = 0, False, []  # plan: when the rest gets which signal
  while running:
    event = _next(events, plan[0][0] if plan else None)
    if event is None:
      _send_all(running.values(), plan.pop(0)[1])
    elif isinstance(event, Told):
      was_told = True
      _send_all(running.values(), event.number)
    else:
      del running[event.process_id]
      if event.status and not first:
        first = event.status
        plan = _plan(grace, may_finish=was_told or first == EXIT_STOPPED)
        if running and not was_told:
          print(f"process {event.process_id} ended first, with status {first}", file=sys.stderr)
  return first


def _plan(grace: float, may_finish: bool) -> list[tuple[float, int]]:
  """Returns when the others are stopped after a first failure; who was told to stop may finish."""
  terminate = time.monotonic() + (grace if may_finish else 0.0)
  return [(terminate, signal.SIGTERM), (terminate + grace, signal.SIGKILL)]


def _next(events: SimpleQueue, until: float | None) -> Ended | Told | None:
  """Returns the next event, or None if there is none before the time `until`."""
  try:
    return events.get(timeout=None if until is None else max(until - time.monotonic(), 0.0))
  except Empty:
    return None


def _send_all(processes: Iterable[subprocess.Popen], number: int) -> None:
  for process in processes:
    _send(process, number)


def _send(process: subprocess.Popen, number: int) -> None:
  """Sends a signal to a process that still runs; SIGKILL also to what it has started."""
  if process.poll() is None:
    with suppress(ProcessLookupError):
      if number == signal.SIGKILL:
        os.killpg(process.pid, number)
      else:
        process.send_signal(number)

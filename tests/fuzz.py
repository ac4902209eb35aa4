"""Throws damaged, invented and hostile files at everything that reads files, and watches.

  python -m tests.fuzz                          the long form: 10 000 inputs for each reader
  python -m tests.fuzz images pth --inputs 500  some readers, fewer inputs
  python -m tests.fuzz --replay runs/fuzz/pth-0123456789ab.bin

A reader may accept an input or refuse it with a UserError, one line for the user. All else is a
finding: another exception, a result that breaks what its docstring promises, a hang, memory beyond
bounds, a crash of the process. Each is made as small as hypothesis can and written to --out, and
--replay does it again, with the traceback. Exit status: 0 nothing found, 1 something, 2 a mistake.

The suite runs the short form (tests/test_fuzz.py); tests/fuzz_atheris.py has the targets tried by
atheris, which looks for inputs that reach more of our code. The same seed gives the same inputs.
Linux only.
"""

import argparse
import hashlib
import json
import mmap
import multiprocessing
import os
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sbir import progress
from sbir.types import UserError
from tests.fuzz_attempt import Finding, Fuzzing, Tally, limit_memory
from tests.fuzz_folders import FOLDERS
from tests.fuzz_index import INDEXES
from tests.fuzz_targets import READERS, Target

TARGETS = {target.name: target for target in (*READERS, *FOLDERS, *INDEXES)}
SECONDS = 5.0  # longer is a hang
GRACE = 1.0  # as many times the limit after the alarm, a reader that does not hear it is killed
RESTARTS = 10  # after crashes
SAME_CRASHES = 3  # are enough
SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # each input becomes a file
COUNT = struct.Struct("<q")
FORK = multiprocessing.get_context("fork")  # the libraries are imported once


def fuzz(target: Target, *, inputs: int, seed: int, seconds: float, quiet: bool = False) -> Tally:
  """Returns what came of the inputs of one target, each tried in a process of its own."""
  total, begun, crashes = Tally(), 0, Counter()
  with progress.bar(target.name, inputs, unit="input", quiet=quiet) as bar:
    for restart in range(RESTARTS):
      words = {"inputs": inputs - total.inputs, "seed": seed + 1000 * restart, "seconds": seconds}
      tally, crash, more = _in_a_process(target, bar, skip_bombs=begun, **words)
      begun += more
      _add(total, tally)
      if crash is None or total.inputs >= inputs:
        break
      crashes[crash.what] += 1
      if crashes[crash.what] >= SAME_CRASHES:
        break
  return total


def _in_a_process(target, bar, *, seconds, **words) -> tuple[Tally, Finding | None, int]:
  """Returns what came of the inputs up to the end or a crash, the crash, how many were begun."""
  ours, theirs = FORK.Pipe(duplex=False)
  count = mmap.mmap(-1, COUNT.size)  # shared: how many inputs were begun
  with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
    current, log = Path(folder) / "current", Path(folder) / "log"
    places = {"folder": Path(folder), "pipe": theirs, "count": count}
    child = FORK.Process(
      target=_child, args=(target,), kwargs={"seconds": seconds, **places, **words}
    )
    child.start()
    theirs.close()
    tally, what = _watch(child, ours, count, seconds, bar)
    (begun,) = COUNT.unpack(count[:])
    if what is None:
      return tally, None, begun
    trace = log.read_text(errors="replace")[-4000:]
    crash = Finding(target.name, what, current.read_bytes(), trace)
    tally.findings.setdefault(what, crash)
    return tally, crash, begun


def _watch(child, pipe, count, seconds, bar) -> tuple[Tally, str | None]:
  """Returns the child's last tally, and what ended it, if it was not done."""
  tally, seen, since, shown = Tally(), -1, time.monotonic(), 0
  while True:
    if pipe.poll(0.1):
      try:
        tally, is_done = pipe.recv()
      except EOFError:
        child.join()
        return tally, f"crashes: {_signal_name(child.exitcode)}"
      bar.update(tally.inputs - shown)
      shown = tally.inputs
      if is_done:
        child.join()
        return tally, None
    (begun,) = COUNT.unpack(count[:])
    if begun != seen:
      seen, since = begun, time.monotonic()
    elif time.monotonic() - since > seconds + max(1, GRACE * seconds):
      child.kill()
      child.join()
      return tally, "hangs, and cannot be interrupted"


def _signal_name(exitcode: int) -> str:
  return signal.Signals(-exitcode).name if exitcode < 0 else f"exit status {exitcode}"


def _child(target, *, seconds, folder, pipe, count, **words) -> None:
  """Tries the inputs; says which one before each, and how far it is now and then."""
  log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
  os.dup2(log, 2)
  place = folder / "place"
  place.mkdir()
  os.chdir(place)
  told = time.monotonic()

  def before(data: bytes, tally: Tally) -> None:
    nonlocal told
    (folder / "current").write_bytes(data)
    count[:] = COUNT.pack(COUNT.unpack(count[:])[0] + 1)
    if time.monotonic() - told > 0.5:
      told = time.monotonic()
      pipe.send((tally, False))

  fuzzing = Fuzzing(target, place, seconds=seconds, before=before)
  limit_memory(target)
  fuzzing.run(**words)
  pipe.send((fuzzing.tally, True))


def _add(total: Tally, tally: Tally) -> None:
  total.inputs += tally.inputs
  total.accepted += tally.accepted
  total.refused += tally.refused
  total.slowest = max(total.slowest, tally.slowest)
  total.memory = max(total.memory, tally.memory)
  total.findings = {**tally.findings, **total.findings}


def table(tallies: dict[str, Tally]) -> str:
  """Returns the tallies as text, a line for each target."""
  head = ("target", "inputs", "accepted", "refused", "slowest ms", "memory MiB", "findings")
  rows = []
  for name, t in tallies.items():
    most = f"{1000 * t.slowest:.0f}", f"{t.memory:.0f}"
    rows.append((name, t.inputs, t.accepted, t.refused, *most, len(t.findings)))
  line = "{:<12}" + " {:>10}" * (len(head) - 1)
  return "\n".join(line.format(*row) for row in (head, *rows))


def keep(finding: Finding, out: Path) -> Path:
  """Writes the input of a finding, named so that `replay` knows the target; returns its path."""
  out.mkdir(parents=True, exist_ok=True)
  path = out / f"{finding.target}-{hashlib.sha256(finding.data).hexdigest()[:12]}.bin"
  path.write_bytes(finding.data)
  path.with_suffix(".txt").write_text(f"{finding.what}\n{finding.trace}")
  return path


def replay(path: Path, targets: dict[str, Target]) -> str:
  """Returns what comes of a kept input: "accepted", the refusal, or a traceback."""
  name = path.name.rpartition("-")[0]
  if name not in targets:
    raise UserError(f"--replay {path}: expected TARGET-....bin, TARGET of {', '.join(targets)}")
  with tempfile.TemporaryDirectory() as folder:
    try:
      targets[name].read(path.read_bytes(), Path(folder))
    except UserError as error:
      return f"refused: {error}"
    except Exception:
      return traceback.format_exc()
  return "accepted"


def main(arguments: Sequence[str] | None = None, targets: dict[str, Target] | None = None) -> int:
  """Returns the exit status."""
  targets = targets or TARGETS
  options = _parser(targets).parse_args(arguments)
  if options.replay:
    print(replay(options.replay, targets))
    return 0
  if unknown := [name for name in options.targets if name not in targets]:
    print(f"error: no target {unknown[0]}, expected {', '.join(targets)}", file=sys.stderr)
    return 2
  tallies = {}
  for name in options.targets or targets:
    words = {"inputs": options.inputs, "seed": options.seed, "seconds": options.seconds}
    tallies[name] = fuzz(targets[name], **words, quiet=options.json)
  findings = [finding for tally in tallies.values() for finding in tally.findings.values()]
  kept = [(keep(finding, options.out), finding) for finding in findings]
  if options.json:
    print(json.dumps({name: _plain(tally) for name, tally in tallies.items()}))
  else:
    print(table(tallies))
    for path, finding in kept:
      print(f"{finding.target}: {finding.what}; --replay {path}")
  return 1 if findings else 0


def _plain(tally: Tally) -> dict[str, object]:
  return asdict(tally) | {"findings": list(tally.findings)}


def _parser(targets: dict[str, Target]) -> argparse.ArgumentParser:
  lines = "\n".join(f"  {target.name:<12} {target.what}" for target in targets.values())
  flags = argparse.ArgumentParser(
    prog="python -m tests.fuzz",
    description=f"{__doc__}\ntargets:\n{lines}",
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = flags.add_argument
  add("targets", nargs="*", metavar="TARGET", help="default: all")
  add("--inputs", type=int, default=10_000, help="for each target, beside its bombs (%(default)s)")
  add("--seed", type=int, default=0, help="another one, other inputs (%(default)s)")
  add("--seconds", type=float, default=SECONDS, help="longer is a hang (%(default)s)")
  add("--out", type=Path, default=Path("runs/fuzz"), help="where findings go (%(default)s)")
  add("--replay", type=Path, metavar="FILE", help="try one kept input again, and tell")
  add("--json", action="store_true", help="the table as JSON on stdout, no progress")
  return flags


if __name__ == "__main__":
  sys.exit(main())

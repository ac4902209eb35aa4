"""Seconds until --help of every main is there, and until the demo's first step: fresh processes.

The demo's first step is timed with a compilation cache of its own, empty the first time and warm
from then on. Python's own files are compiled, and in the system's page cache, before any turn.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.options import Options

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("sbir", "xmodal", "pskd")
DEMO = "xmodal.demo"
TARGETS = {"help": 1.5, "first_step": 8.0}


def run(options: Options) -> dict[str, Any]:
  """Returns the seconds of each main's --help, and of the demo's first step, cold and warm."""
  from benchmarks.timing import timing

  mains = find_mains()
  mains = mains[:2] if options.rehearse else mains
  taken: dict[str, list[float]] = {main: [] for main in mains}
  for turn in range(options.repeats + 1):
    for main in mains:
      seconds = _seconds([sys.executable, "-m", main, "--help"])
      if turn:  # the first is the warm-up
        taken[main].append(seconds)
  helps = {main: timing(seconds)._asdict() for main, seconds in taken.items()}
  steps = None if options.rehearse else _first_steps(options.repeats)
  return {"help": helps, "first_step": steps, "targets": TARGETS}


def as_text(result: dict) -> str:
  """Returns the result in words, with the targets."""
  from benchmarks.timing import spread

  goals, slowest = result["targets"], max(h["median"] for h in result["help"].values())
  width = max(map(len, result["help"]))
  lines = [f"startup: --help of {len(result['help'])} mains, slowest {slowest:.2f} s"]
  lines[0] += f" (target: below {goals['help']:g})"
  lines += [f"  {main:<{width}}  {spread(h, 2)} s" for main, h in result["help"].items()]
  steps = result["first_step"]
  if steps is not None:
    lines.append(
      f"  the demo's first step: {spread(steps['warm'])} s with a warm compilation cache "
      f"(target: below {goals['first_step']:g}), {steps['cold']:.1f} s with an empty one"
    )
  return "\n".join(lines)


def find_mains() -> list[str]:
  """Returns the modules that are run by name, and so take --help."""
  found = ["benchmarks"]
  for top in PACKAGES:
    for path in sorted((ROOT / top).rglob("*.py")):
      if '\nif __name__ == "__main__":\n' in path.read_text():
        found.append(".".join(path.relative_to(ROOT).with_suffix("").parts))
  return found


def _seconds(command: Sequence[str]) -> float:
  begun = time.perf_counter()
  subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
  return time.perf_counter() - begun


def _first_steps(repeats: int) -> dict[str, Any]:
  """Returns the seconds until the demo's first step, with an empty cache and with a warm one."""
  from benchmarks.timing import timing

  with tempfile.TemporaryDirectory() as folder:
    turns = [_first_step(Path(folder), turn) for turn in range(repeats + 1)]
  return {"cold": turns[0], "warm": timing(turns[1:])._asdict()}


def _first_step(folder: Path, turn: int) -> float:
  """Returns when the first step's loss is in the run folder, in seconds from the start."""
  workdir = folder / f"run_{turn}"
  log = workdir / "teacher" / "metrics.jsonl"
  command = [sys.executable, "-m", DEMO, "--workdir", str(workdir), "--config.log_every=1"]
  environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
  begun = time.perf_counter()
  quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
  process = subprocess.Popen(command, cwd=ROOT, env=environment, **quiet)
  try:
    while not (log.exists() and log.read_text().endswith("\n")):
      if process.poll() is not None:
        raise RuntimeError(f"{' '.join(command)} ended before its first step")
      time.sleep(0.01)
    return time.perf_counter() - begun
  finally:
    process.kill()
    process.wait()

"""Disturbs a real training again and again, and compares its end with that of one left alone.

python -m tests.chaos [--rounds 30] [--seed 0] [--faults kill,term,truncate,full,image]

Each round lets `python -m xmodal.train_teacher` go on to a random step, and then one of: kill -9; a
SIGTERM; kill -9 and half of a file of the newest checkpoint; a full disk (a small tmpfs, where one
can be mounted); an image of the training set overwritten with noise. What was taken away is given
back before the next round. In the end every logged number and every parameter must be, bit for
bit, what the undisturbed run has.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from sbir import checksums, cli, run_folder
from sbir.checkpoint import read_arrays
from sbir.logs import TIMING_FIELDS, read_metrics
from sbir.stopping import EXIT_STOPPED
from tests.paths import REPO
from tests.xmodal_runs import RESTART, arguments, make_pairs

FAULTS = ("kill", "term", "truncate", "full", "image")
STEPS_A_ROUND = 12
DISK_MB = 256  # for what is set aside, too: damaged steps stay
PATIENCE = 180.0  # seconds for what takes one


class Training:
  """A training of a tiny teacher in a folder, process after process."""

  def __init__(self, folder, data, steps):
    self.workdir, self.data, self.steps = folder / "run", data, steps
    settings = {**RESTART, "save_every": 5, "eval_every": 50, "steps": steps, "data.dir": data}
    settings |= {"data.cache": "none", "model.patch_size": 16}
    self._command = arguments("teacher.py:shoe304", self.workdir, settings)
    self._process = None

  def start(self):
    command = [sys.executable, "-m", "xmodal.train_teacher", *self._command]
    self._process = subprocess.Popen(
      command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )

  def wait_for(self, step):
    """Returns when a step is logged, or the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while self.logged() < step and self._process.poll() is None:
      assert time.monotonic() < deadline, f"step {step} never came"
      time.sleep(0.01)

  def wait_until_said(self, words):
    """Returns when a line with these words is on stderr; the lines before it are gone."""
    lines = []
    while not lines or words not in lines[-1]:
      lines.append(self._process.stderr.readline())
      assert lines[-1], f"{words!r} was never said: {lines}"

  def send(self, number):
    self._process.send_signal(number)

  def end(self):
    """Returns (exit status, what was said) when the process has ended."""
    said = self._process.communicate(timeout=PATIENCE)[1]
    return self._process.returncode, said

  def logged(self):
    rows = read_metrics(self.workdir)
    return rows[-1]["step"] if rows else 0

  def outcome(self):
    """Returns the logged numbers, but for the timing, and all that was saved of the last step."""
    rows = [
      {name: value for name, value in row.items() if name not in TIMING_FIELDS}
      for row in read_metrics(self.workdir)
    ]
    last = self.workdir / "checkpoints" / str(self.steps)
    return rows, [read_arrays(last / part) for part in ("params", "rest")]


def kill(training, draw):
  """Kills the process; it must not have ended by itself."""
  training.send(signal.SIGKILL)
  expect(training.end(), -signal.SIGKILL)
  return ""


def term(training, draw):
  training.send(signal.SIGTERM)
  expect(training.end(), EXIT_STOPPED, "saved; run the same command again")
  return f"saved step {run_folder.latest_step(training.workdir)}"


def truncate(training, draw):
  kill(training, draw)
  step = run_folder.latest_step(training.workdir)
  if checksums.damage(training.workdir, step or 0) is None:
    return "killed before the sums of a step were written"
  files = [p for p in (training.workdir / "checkpoints" / str(step)).rglob("*") if p.is_file()]
  path = draw.choice(sorted(path for path in files if path.stat().st_size))
  os.truncate(path, path.stat().st_size // 2)
  training.start()
  training.wait_until_said(f"DAMAGED CHECKPOINT: step {step}")
  training.send(signal.SIGKILL)
  training.end()
  return f"{path.name} of step {step}"


def full(training, draw):
  disk = training.workdir.parent
  filler, free = disk / "filler", shutil.disk_usage(disk).free
  left = draw.choice([0, 4096, 65536])
  with contextlib.suppress(OSError), filler.open("wb") as file:  # the run writes meanwhile
    file.write(bytes(max(free - left, 0)))
  try:
    expect(training.end(), cli.EXIT_USER_ERROR, "make room")
  finally:
    filler.unlink()
  return f"{free / 1e6:.0f} MB filled, {left} bytes left"


def image(training, draw):
  path = draw.choice(sorted((training.data / "train").rglob("*.png")))
  kept = path.read_bytes()
  path.write_bytes(draw.randbytes(len(kept)))
  try:
    expect(training.end(), cli.EXIT_USER_ERROR, str(path))
  finally:
    path.write_bytes(kept)
  return path.name


def expect(ended, status, words=""):
  found, said = ended
  assert found == status and words in said and "Traceback" not in said, (found, status, said)


def disturb(training, rounds, faults, seed):
  """Yields a line for each round; leaves the training finished."""
  draw = random.Random(seed)
  picked = [faults[i % len(faults)] for i in range(rounds)]
  draw.shuffle(picked)
  for number, fault in enumerate(picked):
    training.start()
    training.wait_for((number + draw.random()) * STEPS_A_ROUND)
    time.sleep(draw.random() * 0.2)
    before = training.logged()
    what = globals()[fault](training, draw)
    rows = read_metrics(training.workdir)
    loss = f"loss {rows[-1]['loss']:.6f}" if rows else "no loss yet"
    yield f"round {number + 1:>3}  step {before:>4}  {fault:<9}{loss}  {what}"
  training.start()
  expect(training.end(), 0)


def run(folder, disk, *, rounds, faults, seed, show=print):
  """Runs both trainings and raises AssertionError unless they end alike."""
  steps = rounds * STEPS_A_ROUND + 10
  data = make_pairs(folder / "data")
  alone, disturbed = (Training(place, data, steps) for place in (folder, disk))
  for line in disturb(disturbed, rounds, faults, seed):
    show(line)
  alone.start()
  expect(alone.end(), 0)
  (rows, trees), (expected_rows, expected_trees) = disturbed.outcome(), alone.outcome()
  assert rows == expected_rows
  for tree, expected in zip(trees, expected_trees, strict=True):
    jax.tree.map(np.testing.assert_array_equal, tree, expected)
  show(f"after {rounds} rounds: all {len(rows)} lines of numbers and all parameters are equal")


def mount(folder):
  """Returns whether a small disk could be mounted at a new folder."""
  folder.mkdir()
  command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
  try:
    return subprocess.run(command, capture_output=True).returncode == 0
  except OSError:
    return False


def main(argv):
  """Disturbs a training in a temporary folder."""
  flags = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  flags.add_argument("--rounds", type=int, default=30)
  flags.add_argument("--seed", type=int, default=0)
  flags.add_argument("--faults", default=",".join(FAULTS), help="which, with commas between them")
  options = flags.parse_args(argv)
  faults = options.faults.split(",")
  with tempfile.TemporaryDirectory() as folder:
    disk = Path(folder) / "disk"
    is_mounted = mount(disk)
    if not is_mounted:
      print("no small disk can be mounted here: left out 'full'")
      faults = [fault for fault in faults if fault != "full"]
    show = lambda line: print(line, flush=True)
    try:
      run(Path(folder), disk, rounds=options.rounds, faults=faults, seed=options.seed, show=show)
    finally:
      if is_mounted:
        subprocess.run(["umount", "-l", str(disk)], check=True)


if __name__ == "__main__":
  main(sys.argv[1:])

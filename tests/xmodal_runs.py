"""XModalViT's mains on a handful of pairs: the data, the settings, and how to start a process."""

import csv
import os
import shutil
import subprocess
import sys

from tests.data_folders import save_image
from tests.paths import REPO

TINY = {  # of the config shoe304
  "model.size": "nano",
  "image_size": "16",
  "batch_size": "8",
  "model.patch_size": "8",
  "model.fusion_depth": "1",
  "optimizer.warmup_steps": "0",
  "data.num_threads": "1",
}
# Everything that a run could lose is in use: both queues go round, views and drops are drawn anew.
RESTART = {
  **TINY,
  "optimizer.schedule": "constant",  # with "cosine" another number of steps is another run
  "log_every": "1",
  "save_every": "2",
  "eval_every": "3",
  "loss.queue_size": "12",
}
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # compiles in half the time
# A main of either method that is killed after its third step: `python -c KILLED.format(...)`.
KILLED = """
import os, signal
from sbir import cli, logs
from {method} import {main}
write = logs.MetricLog.write
def write_and_die(log, step, metrics):
  write(log, step, metrics)
  if step == 3:
    os.kill(os.getpid(), signal.SIGKILL)
logs.MetricLog.write = write_and_die
cli.run({main}.main)
"""
COLUMNS = ("path", "modality", "instance", "split")


def make_pairs(root, num=8, sketches=2, ending="png"):
  """Writes a manifest of `num` photos of noise and their sketches; the test split is the same."""
  rows = []
  for split in ("train", "test"):
    for i in range(num):
      names = [("photo", f"photo/{i}.{ending}")]
      names += [("sketch", f"sketch/{i}_{k}.{ending}") for k in range(sketches)]
      rows += [(f"{split}/{name}", modality, f"id{i}", split) for modality, name in names]
  for path, *_ in rows:
    same = root / path.replace("test/", "train/", 1)
    if path.startswith("train/"):
      save_image(same, size=(16, 16), seed=path)
    else:
      (root / path).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(same, root / path)
  with (root / "manifest.csv").open("w", newline="") as file:
    csv.writer(file).writerows([COLUMNS, *rows])
  return root


def arguments(config, workdir, settings):
  """Returns the command line of a main; `config` is such as "teacher.py:shoe304"."""
  flags = [f"--config.{key}={value}" for key, value in settings.items()]
  return ["--config", f"configs/xmodal/{config}", "--workdir", str(workdir), *flags]


def start(*command, **environment):
  """Runs `python ...` in a process of its own, from the repository's root, and waits for it."""
  return subprocess.run(
    [sys.executable, *map(str, command)],
    cwd=REPO,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    timeout=600,
  )

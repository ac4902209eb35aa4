"""Saved on eight devices, cut in four; gone on with on others: the numbers of the straight run."""

import shutil

import jax
import numpy as np
import pytest

from sbir import run_folder
from sbir.checkpoint import read_arrays
from sbir.logs import read_metrics
from tests.several import run_processes

EIGHT = {"devices": 8, "fsdp": 4}
WIDE = ("--width", "2048")  # 4 x 2048 numbers: enough to be cut
STEPS, SAVED = 14, 8


def run_toy(workdir, steps, *, fsdp=1, **words):
  command = ["-m", "tests.toy", workdir, "--steps", steps, "--fsdp", fsdp, *WIDE]
  return run_processes(command, **words)


@pytest.fixture(scope="module")
def on_eight(tmp_path_factory):
  """(folder of the straight run, folder of one that stopped after step 8)."""
  folder = tmp_path_factory.mktemp("on_eight")
  run_toy(folder / "straight", STEPS, **EIGHT)
  run_toy(folder / "part", SAVED, **EIGHT)
  return folder / "straight", folder / "part"


def outcome(workdir):
  parts = [read_arrays(workdir / "checkpoints" / str(STEPS) / part) for part in ("params", "rest")]
  return parts, [row["loss"] for row in read_metrics(workdir)]


def go_on(on_eight, folder, **topology):
  """Returns (what the resumed run came to, what the straight one did)."""
  straight, part = on_eight
  workdir = shutil.copytree(part, folder / "run")
  printed = run_toy(workdir, STEPS, **topology)
  assert f"resumed after step {SAVED}" in printed[0][1]
  assert run_folder.latest_step(workdir) == STEPS
  return outcome(workdir), outcome(straight)


@pytest.mark.slow
def test_on_the_same_devices_it_ends_in_the_same_bits(on_eight, tmp_path):
  (trees, losses), (expected_trees, expected_losses) = go_on(on_eight, tmp_path, **EIGHT)
  assert losses == expected_losses
  jax.tree.map(np.testing.assert_array_equal, trees, expected_trees)


@pytest.mark.slow
@pytest.mark.parametrize(
  "topology",
  [
    {"devices": 1},
    {"devices": 2, "count": 2},
    {"devices": 2, "count": 2, "fsdp": 2},
    {"devices": 4, "count": 2, "fsdp": 8},
  ],
  ids=["one device", "two processes", "two processes, two shards", "two processes, eight shards"],
)
def test_on_other_devices_it_ends_in_the_same_numbers(on_eight, tmp_path, topology):
  (trees, losses), (expected_trees, expected_losses) = go_on(on_eight, tmp_path, **topology)
  np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)

  def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

  jax.tree.map(close, trees, expected_trees)

"""The short form of `tests.chaos`: one round of each fault."""

import subprocess

import pytest

from tests import chaos


@pytest.mark.slow
def test_a_training_disturbed_in_every_way_ends_as_one_left_alone(tmp_path):
  disk, lines = tmp_path / "disk", []
  is_mounted = chaos.mount(disk)
  faults = [fault for fault in chaos.FAULTS if is_mounted or fault != "full"]
  try:
    chaos.run(tmp_path, disk, rounds=len(faults), faults=faults, seed=0, show=lines.append)
  finally:
    if is_mounted:
      subprocess.run(["umount", "-l", str(disk)], check=True)
  assert len(lines) == len(faults) + 1 and "are equal" in lines[-1]

"""The same training on one device, on many, cut over many, and in several processes."""

import numpy as np
import pytest

from tests import topologies
from tests.several import run_processes
from tests.xmodal_runs import QUICK

# name: (devices of a process, processes, shards)
TOPOLOGIES = {
  "one device": (1, 1, 1),
  "eight devices": (8, 1, 1),
  "two times four shards": (8, 1, 4),
  "two processes of two": (2, 2, 1),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
  """{topology: named numbers}."""
  folder, found = tmp_path_factory.mktemp("topologies"), {}
  for number, (name, (devices, count, fsdp)) in enumerate(TOPOLOGIES.items()):
    out = folder / f"{number}.npz"
    command = ["-m", "tests.topologies", out, "--fsdp", fsdp]
    run_processes(command, devices=devices, count=count, **QUICK)
    with np.load(out, allow_pickle=False) as arrays:
      found[name] = dict(arrays)
  return found


@pytest.mark.slow
@pytest.mark.parametrize("task", topologies.tasks())
@pytest.mark.parametrize("topology", [name for name in TOPOLOGIES if name != "one device"])
def test_five_steps_come_to_the_same_on_any_mesh(outcomes, topology, task):
  devices, count, fsdp = TOPOLOGIES[topology]
  assert outcomes[topology]["shape"].tolist() == [devices * count // fsdp, fsdp]
  one = {n: x for n, x in outcomes["one device"].items() if n.startswith(f"{task}/")}
  assert len(one) > 10 and len(one[f"{task}/losses"]) == topologies.STEPS
  assert len(set(one[f"{task}/losses"])) == topologies.STEPS
  for name, expected in one.items():
    found = outcomes[topology][name]
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), err_msg=name)

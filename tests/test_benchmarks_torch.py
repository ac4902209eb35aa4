"""The comparison with PyTorch: what is handed over, compared and told. Torch itself is not here."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import torch_side, vit_products
from benchmarks.options import Options
from benchmarks.vit import Shape
from tests.paths import REPO


@pytest.fixture
def python(tmp_path):
  """A Python that says it has torch, and runs a program's stand-in in its place."""
  path = tmp_path / "python"
  path.write_text(
    "#!/bin/sh\n[ $1 = -c ] && echo 9.9 && exit\n"
    "case $1 in *torch_products.py) name=torch_products_stand_in;; *) name=torch_stand_in;; esac\n"
    f'shift; PYTHONPATH={REPO} exec {sys.executable} -m tests.$name "$@"\n'
  )
  path.chmod(0o755)
  return path


def bench(python, folder, *names):
  options = ["--rehearse", "--repeats", "2", "--compare", "torch", "--torch-python", str(python)]
  command = [sys.executable, "-m", "benchmarks", *names, *options, "--json", f"{folder}/a.json"]
  return subprocess.run(command, cwd=REPO, capture_output=True, text=True)


@pytest.mark.slow
def test_torch_takes_turns_with_ours_from_the_same_weights(python, tmp_path):
  done = bench(python, tmp_path, "vit_forward", "vit_train")
  assert done.returncode == 0, done.stderr
  figures = json.loads((tmp_path / "a.json").read_text())
  for name in ("vit_forward", "vit_train"):
    found = figures[name]
    assert found["torch"]["version"] == "9.9"
    assert found["torch"]["differences"]["rehearsal/16 b2 float32"] < 1e-5
    assert len(found["ways"]["rehearsal/16 b2 float32 torch"]["seconds"]) == 2
    assert found["times_faster"]["rehearsal/16 b2 float32"]["median"] > 0
  assert done.stdout.count("against PyTorch 9.9 eager") == 2


@pytest.mark.slow
def test_products_are_told_one_by_one_beside_torch(python, tmp_path):
  done = bench(python, tmp_path, "vit_products")
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "a.json").read_text())["vit_products"]
  assert found["torch"]["differences"]["rehearsal/16 b2"] < 1e-5
  rows = found["products"]["rehearsal/16 b2"]
  for row in rows.values():
    assert len(row["seconds"]) == len(row["torch_seconds"]) == 2
  # nano is 48 wide, of 3 heads; 2 images of 32 px are 2 x (2 x 2 + 1) tokens.
  assert rows["fc1"]["gflop"] == pytest.approx(2e-9 * 10 * 48 * 192)
  assert rows["scores; mixing's gradient"]["gflop"] == pytest.approx(2e-9 * 2 * 3 * 5 * 5 * 16)
  assert re.search(r"1 x fc1 +\d+\.\d\d ms, +\d+ GFLOP/s; torch +\d+\.\d\d ms", done.stdout)
  assert re.search(r"all of a step: \d\.\d{3} s; torch \d\.\d{3} s", done.stdout)


def test_products_of_a_network_are_all_that_its_step_multiplies():
  shape = Shape("Ti/16", "tiny", 16, 224, 16)
  counted = sum(product.count * product.flops for product in vit_products.products(shape)) / 1e9
  assert 0.97 * 121 < counted < 121  # by XLA's count all of a step is 121


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_forward", "vit_products"])
def test_what_computes_something_else_is_not_timed(python, tmp_path, monkeypatch, name):
  monkeypatch.setenv("BEND", "1")
  done = bench(python, tmp_path, name)
  assert done.returncode == 1 and "torch computes something else" in done.stderr


def test_a_program_that_ends_is_an_error_and_not_a_wait(tmp_path):
  python = tmp_path / "python"
  python.write_text("#!/bin/sh\nexit 3\n")
  python.chmod(0o755)
  with pytest.raises(RuntimeError, match="ended with status 3"):
    torch_side.Network(python, tmp_path / "weights.npz")


def test_differences_are_shares_of_the_largest_number():
  assert torch_side.difference([100.0, 1.001], [100.0, 1.0]) == pytest.approx(1e-5)
  for wrong in (1.1, np.nan):
    with pytest.raises(AssertionError, match="torch computes something else"):
      torch_side.difference([wrong], [1.0])


def test_without_the_option_nothing_is_told_of_torch():
  assert torch_side.described(Options(), {}) is None
  assert torch_side.lines({"torch": None}) == []

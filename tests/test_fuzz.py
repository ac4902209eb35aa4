"""The short form of `python -m tests.fuzz`, and that it finds out readers broken on purpose."""

import json
import subprocess
import sys

import pytest

from tests.fuzz import TARGETS
from tests.paths import REPO

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is watched is in /proc")


def fuzzed(module, folder, *words):
  """Returns what a fuzzing tells as JSON, and its exit status."""
  command = [sys.executable, "-m", module, "--json", "--out", str(folder), *words]
  done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
  assert done.returncode in (0, 1), done.stderr
  return json.loads(done.stdout), done.returncode


@pytest.fixture(scope="module")
def short_form(tmp_path_factory):
  return fuzzed("tests.fuzz", tmp_path_factory.mktemp("found"), "--inputs", "150")[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_accepts_or_refuses_whatever_it_is_given(short_form, name):
  tally = short_form[name]
  assert tally["findings"] == []
  assert tally["inputs"] >= 150
  assert tally["accepted"] > 0 and tally["refused"] > 0, "the inputs are all of one kind"


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
  folder = tmp_path_factory.mktemp("found")
  tallies, status = fuzzed("tests.fuzz_broken", folder, "--inputs", "60", "--seconds", "0.5")
  assert status == 1
  return tallies, folder


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "found"),
  [
    ("sound", []),
    ("raising", ["IndexError at fuzz_broken.py", "KeyError at fuzz_broken.py"]),
    ("breaking_its_word", ["AssertionError at fuzz_broken.py"]),
    ("sleeping", ["hangs: not done after 0.5 s"]),
    ("deaf", ["hangs, and cannot be interrupted"]),
    ("hungry", ["takes too much memory: more than 50 MiB"]),
    ("greedy", ["asks for more memory than there is"]),
    ("crashing", ["crashes: SIGSEGV"]),
  ],
)
def test_a_broken_reader_is_found_out(broken, name, found):
  what = sorted(broken[0][name]["findings"])
  assert len(what) == len(found)
  assert all(line.startswith(start) for line, start in zip(what, found, strict=True)), what


@pytest.mark.slow
def test_a_finding_is_made_small_and_can_be_done_again(broken, tmp_path):
  kept = sorted(broken[1].glob("raising-*.bin"), key=lambda path: path.stat().st_size)
  assert [path.read_bytes() for path in kept] == [b"", b"\0\xff"]
  command = [sys.executable, "-m", "tests.fuzz_broken", "--replay", str(kept[1])]
  done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
  assert "KeyError: \"b'xff' was not thought of\"" in done.stdout

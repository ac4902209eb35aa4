"""The short form of `python -m tests.fuzz`, and that it finds out readers broken on purpose."""

import json
import subprocess
import sys

import pytest

from tests.fuzz import TARGETS
from tests.paths import REPO

NOTHING_REFUSED = ("kept_pixels", "index_engine")  # what does not fit is made anew

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is watched is in /proc")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  return tmp_path_factory.mktemp("found")


@pytest.fixture(scope="module")
def started(found):
  """Returns both fuzzings, started at once: there are two cores."""
  short = {"tests.fuzz": ("--inputs", "150"), "tests.fuzz_broken": ("--inputs", "60")}
  words = ("--json", "--out", str(found), "--seconds")
  seconds = {"tests.fuzz": "20", "tests.fuzz_broken": "0.5"}  # other tests may run beside it
  return {
    module: subprocess.Popen(
      [sys.executable, "-m", module, *words, seconds[module], *more], cwd=REPO, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    for module, more in short.items()
  }  # fmt: skip


def tallies_of(process, status):
  stdout, stderr = process.communicate()
  assert process.returncode in (0, status), stderr
  return json.loads(stdout)


@pytest.fixture(scope="module")
def short_form(started):
  return tallies_of(started["tests.fuzz"], 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_accepts_or_refuses_whatever_it_is_given(short_form, name):
  tally = short_form[name]
  assert tally["findings"] == []
  assert tally["inputs"] >= 150
  assert tally["accepted"] > 0, "no input was right"
  assert tally["refused"] > 0 or name in NOTHING_REFUSED, "no input was wrong"


@pytest.fixture(scope="module")
def broken(started):
  return tallies_of(started["tests.fuzz_broken"], 1)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "lines"),
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
def test_a_broken_reader_is_found_out(broken, name, lines):
  what = sorted(broken[name]["findings"])
  assert len(what) == len(lines)
  assert all(line.startswith(start) for line, start in zip(what, lines, strict=True)), what


@pytest.mark.slow
def test_a_finding_is_made_small_and_can_be_done_again(broken, found):
  kept = sorted(found.glob("raising-*.bin"), key=lambda path: path.stat().st_size)
  assert [path.read_bytes() for path in kept] == [b"", b"\0\x80"]
  command = [sys.executable, "-m", "tests.fuzz_broken", "--replay", str(kept[1])]
  done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
  assert "KeyError: 'was not thought of'" in done.stdout

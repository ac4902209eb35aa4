"""On the CPU, memory that a step has freed serves the next one."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from sbir import host_memory
from tests.paths import REPO

PROGRAM = """
import resource, sys
import numpy as np
from sbir import host_memory

if sys.argv[1] == "keep":
  host_memory.keep_freed()

def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.ones(2**24)  # 128 MiB, 32 768 pages of 4 KiB
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


def faults_of_second_use(word):
  command = [sys.executable, "-c", PROGRAM, word]
  done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
  return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library: nothing is done")
def test_freed_memory_is_not_asked_of_the_system_again():
  kept, plain = faults_of_second_use("keep"), faults_of_second_use("plain")
  assert kept < 100 and kept < plain / 10


HUGE_PAGES = """
import resource, sys
from sbir import host_memory

if sys.argv[1] == "keep":
  host_memory.keep_freed()

def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  b'1' * 2**27  # numpy asks for huge pages by itself
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
host_memory._share_held = lambda: 1.0
host_memory.make_room()
print(faults())
"""
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library: nothing is done")
@pytest.mark.skipif(
  not THP.exists() or "[never]" in THP.read_text(), reason="this system has no huge pages to give"
)
def test_memory_comes_in_huge_pages_at_first_and_after_it_was_given_back():
  command = [sys.executable, "-c", HUGE_PAGES]
  run = lambda word: subprocess.run([*command, word], cwd=REPO, capture_output=True, text=True)
  first, again = map(int, run("keep").stdout.split())
  assert max(first, again) < 4000  # of 4 KiB they would be 32 768
  if "[always]" not in THP.read_text():
    assert min(map(int, run("plain").stdout.split())) > 30_000


GIVEN_BACK = """
import numpy as np
from sbir import host_memory

host_memory.keep_freed()
large, small = np.ones(2**25), bytearray(100_000)  # 256 MiB, and what keeps it from the heap's end
print(host_memory._share_held())
del large
print(host_memory._share_held())
host_memory.give_back()
print(host_memory._share_held())
"""

# A main of ours: XLA's own threads allocate and free 64 MiB, 16 384 pages, in every step.
MAIN = """
import resource
from sbir import cli

def main(arguments):
  import jax
  import jax.numpy as jnp

  step = jax.jit(lambda x: jnp.sort(x[:, None] * x[None, :], axis=1)[:, -1])

  def faults(x):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(x).block_until_ready()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

  x = jnp.arange(2.0**12)
  print(min(faults(x) for _ in range(20)))

cli.tool(main)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library: nothing is done")
def test_in_a_main_a_step_finds_the_memory_of_the_one_before():
  env = {**os.environ, "JAX_PLATFORMS": "cpu"}
  command = [sys.executable, "-c", MAIN]
  done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, check=True)
  assert int(done.stdout) < 1000  # each had 16 384 where malloc was told after jax had begun


@pytest.mark.parametrize(
  ("asked", "plugins", "keeps"),
  [("cpu", True, True), (None, False, True), (None, True, False), ("cuda", False, False)],
)
def test_memory_is_kept_where_jax_will_compute_on_the_cpu(monkeypatch, asked, plugins, keeps):
  called = []
  monkeypatch.setattr(host_memory, "keep_freed", lambda: called.append(True))
  monkeypatch.setattr(host_memory.importlib.util, "find_spec", lambda _: plugins or None)
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  if asked:
    monkeypatch.setenv("JAX_PLATFORMS", asked)
  host_memory.keep_freed_on_cpu()
  assert bool(called) == keeps


@pytest.mark.parametrize(("held", "gives"), [(0.2, False), (0.5, True)])
def test_a_process_that_holds_much_gives_back(monkeypatch, held, gives):
  called = []
  monkeypatch.setattr(host_memory, "_share_held", lambda: held)
  monkeypatch.setattr(host_memory, "give_back", lambda: called.append(True))
  host_memory.make_room()
  assert bool(called) == gives


def test_what_is_given_back_is_no_longer_held():
  done = subprocess.run(
    [sys.executable, "-c", GIVEN_BACK], cwd=REPO, capture_output=True, text=True, check=True
  )
  full, kept, given = map(float, done.stdout.split())
  assert kept > 0.9 * full and given < 0.5 * full


def test_another_c_library_is_left_alone(monkeypatch):
  monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
  monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda _: pytest.fail("was called"))
  host_memory.keep_freed()

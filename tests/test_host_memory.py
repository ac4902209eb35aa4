"""On the CPU, memory that a step has freed serves the next one."""

import platform
import subprocess
import sys

import pytest

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


def test_another_c_library_is_left_alone(monkeypatch):
  from sbir import host_memory

  monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
  monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda _: pytest.fail("was called"))
  host_memory.keep_freed()

"""The most memory a process has held."""

import resource
import sys
from pathlib import Path


def peak_gb() -> float:
  """Returns the most memory this process has held."""
  status = Path("/proc/self/status")
  if status.exists():  # getrusage may still hold the peak of the process that started this one
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 2**20
  unit = 2**30 if sys.platform == "darwin" else 2**20
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

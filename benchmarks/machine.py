"""What figures depend on beside the code: the machine, its load, and the versions."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "grain", "pillow", "scikit-learn")
ROOT = Path(__file__).resolve().parent.parent


def describe(arguments: Sequence[str]) -> dict[str, object]:
  """Returns the machine and the versions as they are now; `arguments` are those of the run."""
  import jax

  return {
    "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    "command": " ".join(["python -m benchmarks", *arguments]),
    "git": _output("git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty=+edits"),
    "platform": platform.platform(),
    "processor": _processor(),
    "cpus": num_cpus(),
    "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    "devices": [device.device_kind for device in jax.devices()],
    "driver": _driver(),
    "python": platform.python_version(),
    "versions": _versions(),
  }


def num_cpus() -> int:
  """Returns how many processors this process may run on."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def as_text(machine: dict) -> str:
  """Returns the machine in four lines."""
  load = machine["load_before"]
  versions = " ".join(f"{name} {version}" for name, version in machine["versions"].items())
  devices = ", ".join(sorted(set(machine["devices"])))
  driver = f", driver {machine['driver']}" if machine["driver"] else ""
  return (
    f"{machine['date']}: {machine['command']}\n"
    f"commit {machine['git'] or 'unknown'}\n"
    f"{machine['processor']}, {machine['cpus']} cpus"
    f"{'' if load is None else f', load before {load:.1f}'}, {machine['platform']}, "
    f"device {devices}{driver}\n"
    f"python {machine['python']} {versions}"
  )


def _versions() -> dict[str, str]:
  """Returns the versions of what is installed; an accelerator's machine may have less."""
  found = {}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def _processor() -> str:
  info = Path("/proc/cpuinfo")
  lines = info.read_text().splitlines() if info.exists() else []
  names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else platform.processor() or platform.machine()


def _driver() -> str:
  """Returns the driver's version of an NVIDIA device; "" where jax uses none."""
  import jax

  if jax.default_backend() != "gpu":
    return ""
  return _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0]


def _output(*command: str) -> str:
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
  except (OSError, subprocess.TimeoutExpired) as error:
    print(f"{command[0]} does not run: {error}", file=sys.stderr)
    return ""
  return done.stdout.strip()

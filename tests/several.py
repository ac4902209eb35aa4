"""Several processes that train together, started and waited for."""

import os
import socket
import subprocess
import sys

from tests.paths import REPO


def free_port():
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    return found.getsockname()[1]


def run_processes(command, *, devices=1, count=1, **environment):
  """Runs `python ...` in `count` processes that know each other; returns what each printed."""
  environment = {**os.environ, **environment, "JAX_PLATFORMS": "cpu"}
  environment["JAX_NUM_CPU_DEVICES"] = str(devices)
  several = ["--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", str(count)]
  started = [
    subprocess.Popen(
      [sys.executable, *map(str, command), *(several if count > 1 else [])]
      + (["--process-id", str(index)] if count > 1 else []),
      cwd=REPO,
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(count)
  ]
  try:
    printed = [process.communicate(timeout=300) for process in started]
  finally:
    for process in started:
      process.kill()
  for process, (_, errors) in zip(started, printed, strict=True):
    assert process.returncode == 0, errors
  return printed

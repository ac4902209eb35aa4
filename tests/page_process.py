"""A server of the page in a process of its own, and plain HTTP to ask it."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit

from tests.paths import REPO

SECONDS = 120  # to start, on a machine with other things to do


class Server:
  """Runs `python -m MODULE ARGUMENTS`, a main that prints its address, until `stop`."""

  def __init__(self, log, module, *arguments, cwd=REPO):
    self.log, self._cwd = log, cwd
    self._command = [sys.executable, "-m", module, *map(str, arguments)]
    self.start()

  def start(self, *more):
    """Starts it and waits until it answers; `more` arguments replace earlier ones."""
    environment = {**os.environ, "PYTHONPATH": str(REPO), "JAX_PLATFORMS": "cpu"}
    with open(self.log, "ab") as log:
      begins = log.tell()
      self.process = subprocess.Popen(
        [*self._command, *map(str, more)], cwd=self._cwd, env=environment, stdout=log, stderr=log
      )
    self.address = self._printed_address(begins)
    self.port = urlsplit(self.address).port

  def _printed_address(self, begins):
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
      text = self.log.read_bytes()[begins:].decode(errors="replace")
      if found := re.search(r"photos to draw for: (http://\S+)", text):
        self._wait_for_answer(urlsplit(found[1]).port, until)
        return found[1]
      if self.process.poll() is not None:
        break
      time.sleep(0.1)
    raise AssertionError(f"the server did not start: {self.log.read_text()[-3000:]}")

  def _wait_for_answer(self, port, until):
    while time.monotonic() < until:
      with contextlib.suppress(OSError):
        if get(port, "/api/state")[0] == 200:
          return
      time.sleep(0.1)

  def kill(self):
    """Ends it as kill -9 does."""
    self.process.send_signal(signal.SIGKILL)
    self.process.wait()

  def stop(self):
    """Ends it as Ctrl-C does; returns its exit status."""
    if self.process.poll() is None:
      self.process.send_signal(signal.SIGINT)
    return self.process.wait(30)


def ask(port, method, path, body=None, headers=None, seconds=60):
  """Returns (status, headers in lower case, body)."""
  connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
  try:
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
  finally:
    connection.close()


def get(port, path, **words):
  return ask(port, "GET", path, **words)


def search(port, sketch, k=10):
  """Returns (status, JSON) of a search for an image file's bytes."""
  status, _, body = ask(port, "POST", f"/api/search?k={k}", sketch)
  return status, json.loads(body)

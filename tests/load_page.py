"""Fifty users at once: a thousand searches by plain HTTP, then a thousand as the page asks.

  python -m tests.load_page --index PATH          (as python -m sbir.serve takes it)
  python -m tests.load_page demo

Starts the server on this machine, and ends it. Fails if any answer is not the right one.
"""

import json
import sys
import tempfile
import threading
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sbir.data.images import as_jpeg
from sbir.data.records import SKETCH
from sbir.data.synthetic import open_synthetic
from tests.page_process import Server, ask, get, search

CLIENTS, SEARCHES, PARTS = 50, 1000, 4
NUM_SKETCHES, SIZE = 32, 256
JSON = {"content-type": "application/json"}


class Load(NamedTuple):
  """What many searches at once came to."""

  failures: list[str]
  seconds: float
  p50: float  # seconds of one search
  p95: float
  memory: list[float]  # GB that the server holds: before, and after each part

  def in_words(self, num):
    memory = ", ".join(f"{gb:.3f}" for gb in self.memory)
    return (
      f"{num} searches, {len(self.failures)} failures; {num / self.seconds:.0f} a second; "
      f"p50 {1000 * self.p50:.0f} ms, p95 {1000 * self.p95:.0f} ms; server's memory {memory} GB"
    )


def make_sketches(num=NUM_SKETCHES):
  """Returns the files of synthetic sketches."""
  source = open_synthetic("test", num_test=num, num_sketches=1, size=SIZE)
  places = [i for i, record in enumerate(source.records) if record.modality == SKETCH]
  return [as_jpeg(source.image(i)) for i in places]


def by_http(port, sketches):
  """Returns a function number -> names found, for a search by plain HTTP."""

  def one(number):
    status, found = search(port, sketches[number % len(sketches)], 12)
    assert status == 200, found
    return [hit["name"] for hit in found["hits"]]

  return one


def by_page(port, sketches):
  """Returns a function number -> names found, for a search as the page in a browser asks."""
  config = json.loads(get(port, "/config")[2])
  function = next(d for d in config["dependencies"] if any(t[1] == "ask" for t in d["targets"]))
  session = threading.local()

  def one(number):
    session.hash = getattr(session, "hash", f"load{threading.get_ident()}")
    data = "data:image/jpeg;base64," + b64encode(sketches[number % len(sketches)]).decode()
    asked = {"data": [json.dumps({"sketch": data}), 12], "fn_index": function["id"]}
    body = json.dumps({**asked, "session_hash": session.hash})
    status, _, said = ask(port, "POST", "/gradio_api/queue/join", body, JSON)
    assert status == 200, said
    told = get(port, f"/gradio_api/queue/data?session_hash={session.hash}")[2].decode()
    events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: ")]
    done = next(event for event in events if event["msg"] == "process_completed")
    assert done["success"], told
    return [part.split('"')[0] for part in done["output"]["data"][1].split('alt="')[1:]]

  return one


def load(server, one, *, clients=CLIENTS, searches=SEARCHES, warm_up=0):
  """Returns what `searches` searches by `clients` at once came to; each must find what the same
  sketch found alone."""
  with ThreadPoolExecutor(clients) as pool:
    list(pool.map(one, range(warm_up)))
    expected = [one(number) for number in range(NUM_SKETCHES)]
    taken, failures, memory = [], [], [held(server)]

    def timed(number):
      begun = time.perf_counter()
      try:
        found = one(number)
        if found != expected[number % NUM_SKETCHES]:
          failures.append(f"search {number} found others: {found[:3]}")
      except Exception as error:
        failures.append(f"search {number}: {type(error).__name__} {str(error)[:200]}")
      taken.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    for part in np.array_split(np.arange(searches), PARTS):
      list(pool.map(timed, part.tolist()))
      memory.append(held(server))
    seconds = time.perf_counter() - begun
  p50, p95 = np.quantile(taken, [0.5, 0.95])
  return Load(failures, seconds, float(p50), float(p95), memory)


def held(server):
  """Returns the GB that the server's process holds now."""
  status = Path(f"/proc/{server.process.pid}/status").read_text()
  return int(status.split("VmRSS:")[1].split()[0]) / 2**20


def main(arguments):
  with tempfile.TemporaryDirectory() as folder:
    log = Path(folder) / "log.txt"
    server = Server(log, "sbir.serve", *arguments, "--port", "0", cwd=Path.cwd())
    sketches = make_sketches()
    failures = []
    for name, way in (("plain HTTP", by_http), ("as the page", by_page)):
      found = load(server, way(server.port, sketches), warm_up=200)
      failures += found.failures
      print(f"{name}, {CLIENTS} clients: {found.in_words(SEARCHES)}", flush=True)
    server.stop()
    print("\n".join(failures[:10]), file=sys.stderr)
    if "Traceback" in (said := log.read_text()):
      failures.append(said[-2000:])
  return 1 if failures else 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))

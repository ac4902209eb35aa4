"""Searching 100 000 embeddings, exactly and through a graph, and 1 000 000 codes of 64 bits.

Embeddings are drawn around centres in a space of few dimensions, as a network's lie, and queries
with them; single queries, embedding apart. NumPy's exact search takes turns with the others.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.options import Options

SEED, WIDTH, LATENT, BITS, TOP = 0, 768, 48, 64, 10
NUM, NUM_CODES, NUM_QUERIES = 100_000, 1_000_000, 200
REHEARSED = (600, 2000, 5)
TARGETS = {"recall": 0.98, "codes_ms": 10.0}
BATCH = 2000
# Seconds before each query: after a product NumPy's threads (OpenBLAS) spin for a while, so that
# FAISS's exact search right after it takes 130 ms instead of 65 (two cores).
PAUSE = 0.05


def run(options: Options) -> dict[str, object]:
  """Returns times, recall and memory, of a fresh process. Raises: UserError without FAISS."""
  from sbir.faiss_gallery import FaissGallery

  FaissGallery("exact", WIDTH)
  sizes = REHEARSED if options.rehearse else (NUM, NUM_CODES, NUM_QUERIES)
  command = [sys.executable, "-m", "benchmarks.gallery", *map(str, sizes)]
  root = Path(__file__).resolve().parent.parent
  done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
  return json.loads(done.stdout.splitlines()[-1])


def as_text(result: dict) -> str:
  """Returns the result in words, with the targets beside the figures."""
  goals, ms = result["targets"], result["ms"]
  lines = [
    f"gallery: {result['num']} embeddings x {WIDTH}, {result['num_codes']} codes of {BITS} bits, "
    f"{result['queries']} single queries",
    f"  {'':26}{'p50':>9}{'p95':>9}{'build':>9}{'memory':>9}",
  ]
  for name, (p50, p95) in ms.items():
    seconds, memory = result["build_s"].get(name), result["memory_gb"].get(name)
    build = f"{seconds:>7.1f} s" if seconds is not None else ""
    held = f"{memory:>6.2f} GB" if memory is not None else ""
    lines.append(f"  {name:26}{p50:>6.2f} ms{p95:>6.2f} ms{build:>9}{held:>9}")
  lines += [
    f"  recall@{TOP} of the graph: {result['recall']:.4f} (target: {goals['recall']}), of the "
    f"index that uses it {result['recall_index']:.4f}",
    f"  codes target: below {goals['codes_ms']:.0f} ms; exact search found the same as NumPy for "
    f"{result['same']} of {result['queries']} queries",
  ]
  return "\n".join(lines)


def make_embeddings(num: int, seed: int = SEED) -> np.ndarray:
  """Returns unit vectors around num / 100 + 1 centres of a plane of LATENT dimensions, with a
  little noise in all; the same every time, and those of another seed around the same centres."""
  fixed, rng = np.random.default_rng(SEED), np.random.default_rng([SEED, seed])
  plane = fixed.standard_normal((LATENT, WIDTH)).astype(np.float32)
  centres = fixed.standard_normal((1 + NUM // 100, LATENT)).astype(np.float32)
  vectors = np.empty((num, WIDTH), np.float32)
  for start in range(0, num, BATCH):
    part = vectors[start : start + BATCH]
    of = rng.integers(0, len(centres), len(part))
    inner = centres[of] + 0.7 * rng.standard_normal((len(part), LATENT), np.float32)
    part[:] = inner @ plane + rng.standard_normal(part.shape, np.float32)
    part /= np.linalg.norm(part, axis=1, keepdims=True)
  return vectors


def _measure(num: int, num_codes: int, num_queries: int) -> dict[str, object]:
  from sbir.faiss_gallery import FaissGallery
  from sbir.photo_index import PhotoIndex

  vectors, queries = make_embeddings(num), make_embeddings(num_queries, seed=1)
  ids = np.arange(1, num + 1)
  build_s: dict[str, float] = {}
  memory: dict[str, float] = {"NumPy, exact": vectors.nbytes / 2**30}

  def built(name: str, make: Callable[[], Any]) -> Any:
    before, begun = _resident_gb(), time.perf_counter()
    made = make()
    build_s[name], memory[name] = time.perf_counter() - begun, _resident_gb() - before
    return made

  exact = built("FAISS, exact", lambda: _filled(FaissGallery("exact", WIDTH), ids, vectors))
  graph = built("FAISS, graph", lambda: _filled(FaissGallery("hnsw", WIDTH), ids, vectors))
  with tempfile.TemporaryDirectory() as folder:
    table = built("table on disk", lambda: _table(Path(folder) / "photos.db", vectors))
    of_exact, of_graph = PhotoIndex(table, exact), PhotoIndex(table, graph)
    ways = {
      "NumPy, exact": lambda query: _numpy_top(vectors, query),
      "FAISS, exact": lambda query: exact.search(query, TOP)[1][0] - 1,
      "FAISS, graph": lambda query: graph.search(query, TOP)[1][0] - 1,
      "whole index, exact": lambda query: _ids(of_exact, query),
      "whole index, graph": lambda query: _ids(of_graph, query),
    }
    ms, found = _timed(ways, queries)
    table.close()
  right = found["NumPy, exact"]
  same = sum(a.tolist() == b.tolist() for a, b in zip(right, found["FAISS, exact"], strict=True))
  del exact, graph, of_exact, of_graph, vectors, ways
  codes = _measure_codes(num_codes, num_queries)
  return {
    "num": num,
    "num_codes": num_codes,
    "queries": num_queries,
    "ms": ms | codes["ms"],
    "build_s": build_s | codes["build_s"],
    "memory_gb": memory | codes["memory_gb"],
    "recall": _recall(found["FAISS, graph"], right),
    "recall_index": _recall(found["whole index, graph"], right),
    "same": same,
    "targets": TARGETS,
  }


def _measure_codes(num: int, num_queries: int) -> dict[str, dict[str, Any]]:
  from sbir.faiss_gallery import FaissGallery
  from sbir.retrieval.itq import encode, fit_codes

  coder = fit_codes(make_embeddings(min(num, 20_000)), BITS)
  gallery, codes = FaissGallery("codes", WIDTH, coder), []
  before, seconds = _resident_gb(), 0.0
  for part in range(0, num, BATCH):  # never all embeddings at once: they have 3 GB
    vectors = make_embeddings(BATCH, seed=2 + part)
    begun = time.perf_counter()
    gallery.add(np.arange(part, part + BATCH), vectors)
    seconds += time.perf_counter() - begun
    codes.append(encode(coder, vectors).view(np.uint64)[:, 0])
  words = np.concatenate(codes)
  name = f"FAISS, {BITS} bits"
  ways = {
    f"NumPy, {BITS} bits": lambda query: _numpy_codes(words, encode(coder, query)),
    name: lambda query: gallery.search(query, TOP)[1][0],
  }
  ms, _ = _timed(ways, make_embeddings(num_queries, seed=1))
  held = _resident_gb() - before
  return {"ms": ms, "build_s": {name: seconds}, "memory_gb": {name: held - words.nbytes / 2**30}}


def _filled(gallery: Any, ids: np.ndarray, vectors: np.ndarray) -> Any:
  gallery.add(ids, vectors)
  return gallery


def _table(path: Path, vectors: np.ndarray) -> Any:
  """Returns a table of made-up photos with these embeddings."""
  from sbir.photo_schema import File, Photo, create_table
  from sbir.photo_table import PhotoTable

  create_table(path, width=WIDTH, bits=0, folder="")
  table = PhotoTable(path, read_only=False)
  table.compare(File(f"{i:07d}.jpg", 0, 0) for i in range(len(vectors)))
  for files in table.todo(BATCH):
    rows = [int(file.name[:7]) for file in files]
    table.add_pending(
      (file, Photo(row.to_bytes(32), b"", vectors[row]))
      for file, row in zip(files, rows, strict=True)
    )
  table.publish([])
  return table


def _ids(index: Any, query: np.ndarray) -> np.ndarray:
  return np.array([hit.photo_id - 1 for hit in index.search(query, TOP)[0]])


def _numpy_top(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
  scores = vectors @ query[0]
  best = np.argpartition(-scores, TOP)[:TOP]
  return best[np.argsort(-scores[best], kind="stable")]


def _numpy_codes(words: np.ndarray, code: np.ndarray) -> np.ndarray:
  distance = np.bitwise_count(words ^ code.view(np.uint64)[0, 0])
  best = np.argpartition(distance, TOP)[:TOP]
  return best[np.argsort(distance[best], kind="stable")]


def _timed(
  ways: dict[str, Callable[[np.ndarray], np.ndarray]], queries: np.ndarray
) -> tuple[dict[str, list[float]], dict[str, list[np.ndarray]]]:
  """Returns ({way: p50 and p95 in ms}, {way: what it found}); for each query they take turns."""
  for way in ways.values():
    way(queries[:1])  # what only the first one pays
  taken: dict[str, list[float]] = {name: [] for name in ways}
  found: dict[str, list[np.ndarray]] = {name: [] for name in ways}
  for row in range(len(queries)):
    for name, way in ways.items():
      time.sleep(PAUSE)
      begun = time.perf_counter()
      found[name].append(way(queries[row : row + 1]))
      taken[name].append(1000 * (time.perf_counter() - begun))
  return {name: np.percentile(ms, [50, 95]).tolist() for name, ms in taken.items()}, found


def _recall(found: list[np.ndarray], right: list[np.ndarray]) -> float:
  shared = [len({*a.tolist()} & {*b.tolist()}) for a, b in zip(found, right, strict=True)]
  return float(np.mean(shared)) / TOP


def _resident_gb() -> float:
  """Returns how much memory this process holds now."""
  pages = int(Path("/proc/self/statm").read_text().split()[1])
  return pages * 4096 / 2**30


if __name__ == "__main__":
  print(json.dumps(_measure(*map(int, sys.argv[1:]))))

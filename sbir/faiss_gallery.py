"""The only user of FAISS: a search in this process, exact, through a graph, or by codes."""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sbir.gallery import best_first
from sbir.retrieval.itq import Coder, encode
from sbir.types import UserError

# Of the graph: at 100 000 vectors of width 768 recall@10 is above 0.98 (benchmarks/RESULTS.md).
NEIGHBOURS, BUILD_BREADTH, SEARCH_BREADTH = 32, 100, 128
MANY_QUERIES = 16


class FaissGallery:
  """A gallery in memory; `save` and `load` keep it in a file, which can always be made again."""

  is_shared = False

  def __init__(self, kind: str, width: int, coder: Coder | None = None):
    """Makes an empty one. "exact" compares with every vector; "hnsw" follows a graph and may miss
    some; "codes" compares the bits that `coder` makes of vectors.

    Raises: UserError if FAISS is not installed.
    """
    self.kind, self._width, self._coder = kind, width, coder
    self._removed = np.empty(0, np.int64)  # of a graph, out of which nothing can be taken
    self._index = _empty(kind, width, coder)

  @property
  def width(self) -> int:
    """How long the vectors are."""
    return self._width

  @property
  def num(self) -> int:
    """How many there are."""
    return self._index.ntotal - len(self._removed)

  def ids(self) -> Int[np.ndarray, "g"]:
    """Returns the ids of all, in any order."""
    held = _faiss().vector_to_array(self._index.id_map)
    return np.setdiff1d(held, self._removed) if len(self._removed) else held

  def add(self, ids: Int[np.ndarray, "n"], vectors: Float[np.ndarray, "n d"]) -> None:
    """Adds vectors of length 1. Raises: UserError if they are of another width."""
    self._index.add_with_ids(self._stored(vectors), np.asarray(ids, np.int64))

  def remove(self, ids: Int[np.ndarray, "n"]) -> None:
    """Removes those that are there."""
    if self.kind == "hnsw":
      there = np.intersect1d(ids, self.ids())
      self._removed = np.union1d(self._removed, there)
    else:
      self._index.remove_ids(np.asarray(ids, np.int64))

  def search(
    self, vectors: Float[np.ndarray, "q d"], k: int
  ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """Returns (scores, ids) of the k nearest, as `Gallery.search` says."""
    k = min(k, self.num)
    if not k or not len(vectors):
      return np.zeros((len(vectors), k), np.float32), np.zeros((len(vectors), k), np.int64)
    # What is removed must not crowd out what is there.
    asked = min(k + len(self._removed), self._index.ntotal)
    _share_threads(len(vectors))
    scores, ids = self._index.search(self._stored(vectors), asked)
    scores = -scores.astype(np.float32) if self.kind == "codes" else scores
    ids = np.where(np.isin(ids, self._removed), -1, ids) if len(self._removed) else ids
    return best_first(scores, ids, k)

  def save(self, path: Path) -> None:
    """Writes the file, whole or not at all. Raises: UserError if that does not work."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    write = _faiss().write_index_binary if self.kind == "codes" else _faiss().write_index
    try:
      write(self._index, str(new))
      os.replace(new, path)
    except (RuntimeError, OSError) as error:  # RuntimeError: FAISS's word for a disk that is full
      reason = " ".join(str(error).split())[:160]
      raise UserError(f"{path} cannot be written ({reason}); make room, and run add") from None
    finally:
      new.unlink(missing_ok=True)

  def load(self, path: Path) -> bool:
    """Takes in what `save` has written; returns whether there was such a file, whole."""
    read = _faiss().read_index_binary if self.kind == "codes" else _faiss().read_index
    try:
      found = read(str(path))
    except RuntimeError:
      return False
    is_ours = type(found) is type(self._index) and found.d == self._index.d
    if is_ours:
      self._index = found
      _search_broadly(found, self.kind)
    return is_ours

  def close(self) -> None:
    """Has nothing to let go of."""

  def _stored(self, vectors: np.ndarray) -> np.ndarray:
    if vectors.ndim != 2 or vectors.shape[1] != self._width:
      raise UserError(
        f"vectors are {list(vectors.shape)}, expected [n, {self._width}]; embed them with the "
        "model that the index was built with"
      )
    if self._coder is not None:
      return encode(self._coder, vectors)
    return np.ascontiguousarray(vectors, np.float32)


def _empty(kind: str, width: int, coder: Coder | None) -> Any:
  faiss = _faiss()
  if kind == "exact":
    return faiss.IndexIDMap(faiss.IndexFlatIP(width))
  if kind == "codes":
    return faiss.IndexBinaryIDMap(faiss.IndexBinaryFlat(coder.directions.shape[1]))
  graph = faiss.IndexHNSWFlat(width, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
  graph.hnsw.efConstruction = BUILD_BREADTH
  index = faiss.IndexIDMap(graph)
  _search_broadly(index, kind)
  return index


def _search_broadly(index: Any, kind: str) -> None:
  if kind == "hnsw":
    _faiss().downcast_index(index.index).hnsw.efSearch = SEARCH_BREADTH


def _share_threads(num_queries: int) -> None:
  """Gives few queries one thread: FAISS divides queries, and its other threads, which then wait for
  a processor that others use, make one query on a busy machine take 15 ms instead of 0.4."""
  faiss = _faiss()
  faiss.omp_set_num_threads(os.cpu_count() if num_queries >= MANY_QUERIES else 1)


def _faiss() -> ModuleType:
  try:
    import faiss
  except ImportError:
    raise UserError(
      "an index needs faiss, which is not installed; ./launch.sh setup --with search brings it"
    ) from None
  return faiss

"""The only user of Milvus: vectors searched by a server, or by milvus-lite in this process.

A place is milvus://host:19530/collection, or milvus:///path/file.db/collection for milvus-lite,
which keeps its data in that file. A server's password or token is read from MILVUS_TOKEN.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sbir.gallery import EXACT_UP_TO, MOST_FOUND, best_first
from sbir.retrieval.itq import Coder, encode
from sbir.types import UserError

PREFIX = "milvus://"
FORM = "milvus://host:19530/collection, or milvus:///path/file.db/collection"
SECONDS = 10.0  # to reach the server
BATCH = 1000  # vectors sent at once: a message may have 64 MB
VECTOR, ID = "vector", "id"
NEIGHBOURS, BUILD_BREADTH, SEARCH_BREADTH = 32, 100, 128  # of the graph, as in `faiss_gallery`


class MilvusGallery:
  """A collection of a server. It is asked so that it sees all that was written before."""

  is_shared, kind = True, "milvus"

  def __init__(self, place: str, width: int, coder: Coder | None = None):
    """Connects, and makes the collection where there is none; with a `coder`, of codes.

    Raises: UserError if the server cannot be reached, or the collection holds something else.
    """
    self._place, self._width, self._coder = place, width, coder
    address, self._collection = parse(place)
    if coder is not None and not address.startswith("http"):
      raise UserError(
        f"{place}: milvus-lite keeps no codes (--bits); use a server, or leave --bits away"
      )
    with self._telling():
      self._client = _connect(address)
      if self._client.has_collection(self._collection):
        self._check()
      else:
        self._make()
      if not self._client.list_indexes(self._collection):  # killed while it was made anew
        self._client.create_index(self._collection, self._as_params(self._index_params(0)))
      self._client.load_collection(self._collection)

  @property
  def width(self) -> int:
    """How long the vectors are."""
    return self._width

  @property
  def num(self) -> int:
    """How many there are."""
    with self._telling():
      found = self._client.query(self._collection, filter="", output_fields=["count(*)"])
    return int(found[0]["count(*)"])

  def ids(self) -> Int[np.ndarray, "g"]:
    """Returns the ids of all, in any order."""
    found: list[int] = []
    with self._telling():
      rows = self._client.query_iterator(self._collection, BATCH, output_fields=[ID])
      while part := rows.next():
        found += [row[ID] for row in part]
      rows.close()
    return np.array(found, np.int64)

  def add(self, ids: Int[np.ndarray, "n"], vectors: Float[np.ndarray, "n d"]) -> None:
    """Adds vectors of length 1, or puts them in the place of those with their ids."""
    stored = self._stored(vectors)
    with self._telling():
      for start in range(0, len(ids), BATCH):
        pairs = zip(ids[start : start + BATCH], stored[start : start + BATCH], strict=True)
        rows = [{ID: int(i), VECTOR: vector} for i, vector in pairs]
        self._client.upsert(self._collection, rows)

  def remove(self, ids: Int[np.ndarray, "n"]) -> None:
    """Removes those that are there."""
    with self._telling():
      for start in range(0, len(ids), BATCH):
        self._client.delete(self._collection, ids=[int(i) for i in ids[start : start + BATCH]])

  def search(
    self, vectors: Float[np.ndarray, "q d"], k: int
  ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """Returns (scores, ids) of the k nearest, as `Gallery.search` says."""
    k = min(k, MOST_FOUND)
    asked = {"metric_type": self._metric(), "params": {"ef": max(k, SEARCH_BREADTH)}}
    with self._telling():
      found = self._client.search(
        self._collection,
        data=list(self._stored(vectors)),
        anns_field=VECTOR,
        limit=k,
        search_params=asked,
        output_fields=[ID],
      )
    return best_first(*_as_arrays(found, is_distance=self._coder is not None), k)

  def settle(self, num: int) -> None:
    """Makes the index fit for `num` vectors: exact, or above EXACT_UP_TO a graph."""
    wanted = self._index_params(num)
    with self._telling():
      found = self._client.describe_index(self._collection, VECTOR)
      if found and found["index_type"] != wanted["index_type"]:
        self._client.release_collection(self._collection)
        self._client.drop_index(self._collection, VECTOR)
        self._client.create_index(self._collection, self._as_params(wanted))
        self._client.load_collection(self._collection)

  def close(self) -> None:
    """Ends the connection."""
    with contextlib.suppress(Exception):
      self._client.close()

  def _make(self) -> None:
    library = _library()
    kind = "BINARY_VECTOR" if self._coder else "FLOAT_VECTOR"
    schema = library.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(ID, library.DataType.INT64, is_primary=True)
    schema.add_field(VECTOR, library.DataType[kind], dim=self._dim())
    self._client.create_collection(
      self._collection,
      schema=schema,
      index_params=self._as_params(self._index_params(0)),
      consistency_level="Strong",
    )

  def _check(self) -> None:
    """Raises UserError unless the collection holds vectors like ours, under ids."""
    fields = self._client.describe_collection(self._collection)["fields"]
    found = {field["name"]: (field["type"].name, field["params"].get("dim")) for field in fields}
    kind = "BINARY_VECTOR" if self._coder else "FLOAT_VECTOR"
    expected = {ID: ("INT64", None), VECTOR: (kind, self._dim())}
    if found != expected:
      held = found.get(VECTOR)
      words = f"{held[0]} of width {held[1]}" if held else f"the fields {', '.join(found)}"
      raise UserError(
        f"{self._place}: the collection holds {words}, expected {kind} of width {self._dim()}, as "
        "the model makes them; name another collection"
      )

  def _dim(self) -> int:
    return self._coder.directions.shape[1] if self._coder else self._width

  def _metric(self) -> str:
    return "HAMMING" if self._coder else "IP"

  def _index_params(self, num: int) -> dict[str, Any]:
    if self._coder:
      return {"index_type": "BIN_FLAT", "metric_type": "HAMMING"}
    if num <= EXACT_UP_TO:
      return {"index_type": "FLAT", "metric_type": "IP"}
    graph = {"M": NEIGHBOURS, "efConstruction": BUILD_BREADTH}
    return {"index_type": "HNSW", "metric_type": "IP", "params": graph}

  def _as_params(self, wanted: dict[str, Any]) -> Any:
    params = _library().MilvusClient.prepare_index_params()
    params.add_index(VECTOR, **wanted)
    return params

  def _stored(self, vectors: np.ndarray) -> Any:
    if vectors.ndim != 2 or vectors.shape[1] != self._width:
      raise UserError(
        f"vectors are {list(vectors.shape)}, expected [n, {self._width}]; embed them with the "
        "model that the index was built with"
      )
    if self._coder is not None:
      return [code.tobytes() for code in encode(self._coder, vectors)]
    return np.ascontiguousarray(vectors, np.float32)

  @contextlib.contextmanager
  def _telling(self) -> Iterator[None]:
    """Says what is wrong with the server as users are told."""
    try:
      yield
    except _library().MilvusException as error:
      reason = " ".join(str(error.message).split())[:160]
      raise UserError(
        f"{self._place}: the server says: {reason}; check that it runs, its address and "
        "MILVUS_TOKEN"
      ) from None


def parse(place: str) -> tuple[str, str]:
  """Returns (address for pymilvus, collection) of a place. Raises: UserError if it is none."""
  where, _, collection = place.removeprefix(PREFIX).rpartition("/")
  is_file = where.startswith("/") and where.endswith(".db")
  is_host = re.fullmatch(r"[\w.-]+(:\d+)?", where, re.ASCII)
  if not (place.startswith(PREFIX) and (is_file or is_host)):
    raise UserError(f"{place} is no place in Milvus, expected {FORM}")
  if not re.fullmatch(r"[A-Za-z_]\w{0,254}", collection, re.ASCII):
    raise UserError(
      f"{place}: {collection!r} is no name of a collection, expected letters, digits and _"
    )
  return (where if is_file else f"http://{where}"), collection


def exists(place: str) -> bool:
  """Returns whether a server has the collection. Raises: UserError if it cannot be reached."""
  address, collection = parse(place)
  try:
    return _connect(address).has_collection(collection)
  except _library().MilvusException as error:
    reason = " ".join(str(error.message).split())[:160]
    raise UserError(
      f"{place} cannot be reached ({reason}); start the server, or check the address"
    ) from None


def _connect(address: str) -> Any:
  token = os.environ.get("MILVUS_TOKEN", "")
  return _library().MilvusClient(address, token=token, timeout=SECONDS)


def _as_arrays(found: Any, *, is_distance: bool) -> tuple[np.ndarray, np.ndarray]:
  """Returns (scores, ids) of an answer, short rows filled up with id -1."""
  columns = max((len(hits) for hits in found), default=0)
  scores = np.full((len(found), columns), -np.inf, np.float32)
  ids = np.full((len(found), columns), -1, np.int64)
  for row, hits in enumerate(found):
    ids[row, : len(hits)] = [hit[ID] for hit in hits]
    scores[row, : len(hits)] = [hit["distance"] for hit in hits]
  return (-scores if is_distance else scores), ids


def _library() -> ModuleType:
  try:
    import pymilvus
  except ImportError:
    raise UserError(
      "milvus:// needs pymilvus, which is not installed; ./launch.sh setup --with milvus brings it"
    ) from None
  for name in ("pymilvus", "milvus_lite"):  # they print a traceback beside every error
    logging.getLogger(name).setLevel(logging.CRITICAL)
  return pymilvus

"""An index of photos that is open: asked for the photos nearest to embeddings."""

import hashlib
import os
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sbir.faiss_gallery import FaissGallery
from sbir.gallery import EXACT_UP_TO, MOST_FOUND, Gallery
from sbir.photo_table import PhotoTable
from sbir.places import local, named_after
from sbir.progress import bar
from sbir.retrieval.itq import Coder
from sbir.retrieval.ranking import prepare, quantise, score_blocks, sort_scores
from sbir.types import UserError

TABLE = "photos.db"
MILVUS = "milvus://"
CHUNK = 4096  # embeddings that go from the table to the gallery at once
SPARE = 32  # more than k are fetched: engines round to float32, and the k best are found exactly
ROUNDING = 1e-5  # of an engine's scores: the rounding of float32, with room
SPARE_CODES = 32  # times k of codes, which are then compared by their embeddings
FEW_CODES = 512
BLOCK = 64  # queries at once
MOST_STALE = 0.2  # of a graph's vectors may be gone before it is made again


class Hit(NamedTuple):
  """A photo that was found."""

  photo_id: int
  name: str  # relative to the photo folder
  score: float  # cosine similarity, -1 to 1


class PhotoIndex:
  """Finds photos; several threads may ask. What another process adds is found from the next search
  on. The table holds the truth, the gallery is an engine that follows it."""

  def __init__(self, table: PhotoTable, gallery: Gallery, file: Path | None = None):
    """Takes an open table, and a gallery that `file` keeps, if any, between processes."""
    self.table, self.gallery, self._file = table, gallery, file
    self._lock, self._generation = threading.RLock(), -1

  def search(self, vectors: Float[np.ndarray, "q d"], k: int) -> list[list[Hit]]:
    """Returns the k photos nearest to each vector, best first, equal ones by their ids.

    Scores are exact cosines of the stored embeddings whatever engine found them. With fewer than k
    photos, all of them. Raises: UserError if vectors are not finite or of another width.
    """
    vectors = self._checked(vectors)
    if type(k) is not int or k < 1:
      raise UserError(f"k={k!r} must be a whole number, at least 1")
    if not len(vectors):
      return []
    with self._lock:
      self.refresh()
      blocks = range(0, len(vectors), BLOCK)
      best = [row for start in blocks for row in self._nearest(vectors[start : start + BLOCK], k)]
    names = self.table.names({i for row in best for _, i in row})
    return [[Hit(i, names[i], score) for score, i in row if i in names] for row in best]

  def refresh(self) -> None:
    """Brings the gallery to what the table holds now."""
    with self._lock:
      generation = self.table.generation
      if generation == self._generation:
        return
      if self.gallery.is_shared and self._is_settled(generation):
        self._generation = generation
        return
      live, held = self.table.live_ids(), self.gallery.ids()
      if len(gone := np.setdiff1d(held, live)):
        self.gallery.remove(gone)
      self._fill(np.setdiff1d(live, held))
      self._generation = generation

  def settle(self) -> None:
    """Makes what has changed quick to open, for who alone may write: in the gallery's file, or on
    its server. Raises: UserError if it cannot be written."""
    self.refresh()
    if self.gallery.is_shared:
      self.gallery.settle(self.num_photos)
    elif self._file is not None:
      for left in self._file.parent.glob(f".{self._file.name}.*"):  # by one that was killed
        left.unlink()
      self.gallery.save(self._file)
      self.table.set_about(engine=_digest(self._file))
    self.table.set_about(settled=self._generation)

  def close(self) -> None:
    """Closes the table and the gallery."""
    self.gallery.close()
    self.table.close()

  def vector(self, photo_id: int) -> Float[np.ndarray, "d"]:
    """Returns the embedding of a photo, of length 1. Raises: UserError if it is gone."""
    return self.table.vectors([photo_id])[0]

  def thumbnail(self, photo_id: int) -> bytes:
    """Returns a small JPEG of a photo. Raises: UserError if it is gone."""
    return self.table.thumbnail(photo_id)

  def file(self, photo_id: int) -> Path:
    """Returns where a photo lies. Raises: UserError if it is gone from the index."""
    if not (name := self.table.names([photo_id])):
      raise UserError(f"photo {photo_id} is not in the index any more; search again")
    return Path(self.table.about("folder")) / name[int(photo_id)]

  @property
  def num_photos(self) -> int:
    """How many photos can be found; copies of one file count once."""
    return self.table.num_photos

  @property
  def width(self) -> int:
    """How long embeddings are."""
    return self.table.about("width")

  @property
  def model_place(self) -> str:
    """Where the model was that the index was built with."""
    return self.table.about("model_place")

  @property
  def model_hash(self) -> str:
    """What tells that model from others (`sbir.model_identity`)."""
    return self.table.about("model_hash")

  def _is_settled(self, generation: int) -> bool:
    """Returns whether the writer says that the server follows; at first it is asked too."""
    is_said = self.table.about("settled") == generation
    return is_said and (self._generation >= 0 or self.gallery.num == self.num_photos)

  def _checked(self, vectors: Any) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != self.width or not np.isfinite(vectors).all():
      raise UserError(
        f"vectors {list(vectors.shape)} must be finite numbers [n, {self.width}]; embed with the "
        "model that the index was built with"
      )
    return vectors

  def _fill(self, ids: Int[np.ndarray, "n"]) -> None:
    with bar("prepare search", len(ids), unit="photo", quiet=len(ids) <= 10 * CHUNK) as progress:
      for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK]
        self.gallery.add(*self.table.there(part))  # a writer may have changed it meanwhile
        progress.update(len(part))

  def _nearest(self, vectors: np.ndarray, k: int) -> list[list[tuple[float, int]]]:
    """Returns the (score, id) of the k nearest to each vector."""
    best: list[list[tuple[float, int]]] = [[] for _ in vectors]
    is_coded, rows = bool(self.table.about("bits")), np.arange(len(vectors))
    fetch = max(SPARE_CODES * k, FEW_CODES) if is_coded else k + SPARE
    while len(rows):
      rough, found = self.gallery.search(vectors[rows], min(fetch, max(k, MOST_FOUND)))
      there, known = self.table.there(np.unique(found[found >= 0]))
      for row, candidates in zip(rows, found, strict=True):
        is_candidate = np.isin(there, candidates)
        best[row] = _exactly(vectors[row], there[is_candidate], known[is_candidate], k)
      if is_coded or found.shape[1] < fetch:
        break
      # What the engine left out could be as good as the last of the k: look further.
      last = np.array([best[row][-1][0] if best[row] else -np.inf for row in rows])
      rows, fetch = rows[rough[:, -1] > last - ROUNDING], 4 * fetch
    return best


def _exactly(
  vector: np.ndarray, ids: np.ndarray, vectors: np.ndarray, k: int
) -> list[tuple[float, int]]:
  """Returns (cosine, id) of the k best of some photos; exactly the order of an evaluation, in which
  equal scores stay in the order of the gallery."""
  if not len(ids):
    return []
  ((_, scores),) = score_blocks(prepare(vector[None], vectors), ("cosine",))
  cosines = np.clip(scores["cosine"][0], -1, 1)
  order = sort_scores(quantise(scores["cosine"]))[0][0, :k]
  return list(zip(cosines[order].tolist(), ids[order].tolist(), strict=True))


def open_index(place: str, read_only: bool = True) -> PhotoIndex:
  """Returns the index at a place: a folder, or milvus://host:port/collection.

  Raises: UserError if there is none, it is of another version, or its server is down.
  """
  table = PhotoTable(folder_of(place) / TABLE, read_only=read_only)
  if not table.generation or (table.about("bits") and not table.about("coder")):
    raise UserError(
      f"{place} is not finished, {table.counts()['pending']} photos wait; run the same "
      "python -m sbir.index build again, which goes on"
    )
  if place.startswith(MILVUS):
    from sbir.milvus_gallery import MilvusGallery

    coder = coder_of(table)
    index = PhotoIndex(table, MilvusGallery(place, table.about("width"), coder))
  else:
    index = PhotoIndex(table, *_faiss_gallery(table))
  index.refresh()
  return index


def folder_of(place: str) -> Path:
  """Returns the folder of an index: the place itself; for one in Milvus, which holds the embeddings
  alone, a folder of the user's (in XDG_DATA_HOME, ~/.local/share by default)."""
  if not place.startswith(MILVUS):
    return local(place, "--index")
  base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
  return Path(base) / "sketch-retrieval" / "indexes" / named_after(place)


def coder_of(table: PhotoTable) -> Coder | None:
  """Returns what makes the codes of an index, None for one that has none."""
  if not table.about("bits"):
    return None
  rows = np.array(table.about("coder"))
  return Coder(rows[0], rows[1:].T)


def _digest(file: Path) -> str:
  """Returns the SHA-256 of a file, "" if it is not there. FAISS trusts what it reads: one wrong bit
  can end the process."""
  try:
    with file.open("rb") as stream:
      return hashlib.file_digest(stream, "sha256").hexdigest()
  except OSError:
    return ""


def _faiss_gallery(table: PhotoTable) -> tuple[FaissGallery, Path | None]:
  """Returns a gallery, as its file has it, and that file; the exact one needs none."""
  width, coder, num = table.about("width"), coder_of(table), table.num_photos
  kind = "codes" if coder else "exact" if num <= EXACT_UP_TO else "hnsw"
  gallery = FaissGallery(kind, width, coder)
  if kind == "exact":
    return gallery, None
  file = table.path.with_name(f"{kind}-{table.about('identity')[:12]}.faiss")
  if _digest(file) == table.about("engine") and gallery.load(file):
    gone = np.setdiff1d(gallery.ids(), table.live_ids())
    if len(gone) > MOST_STALE * gallery.num:
      gallery = FaissGallery(kind, width, coder)
  return gallery, file

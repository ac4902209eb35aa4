"""What the page and its API ask of model and index; one thread at a time, so that a hundred users
take turns instead of memory."""

import secrets
import threading
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from sbir.page_html import Hit
from sbir.page_sketch import PageError, read_sketch

MOST = 48  # photos in an answer
SEED = 7  # of the photos that are shown before anything is drawn

Square = UInt8[np.ndarray, "s s 3"]


class Index(Protocol):
  """What is needed of an index of photos (`sbir.photo_index`)."""

  num_photos: int

  def search(self, vectors: Float[np.ndarray, "q d"], k: int) -> list[list[Hit]]: ...
  def vector(self, photo_id: int) -> Float[np.ndarray, "d"]: ...
  def thumbnail(self, photo_id: int) -> bytes: ...


class Encoder(Protocol):
  """What is needed of a model (`sbir.models`)."""

  def encode_sketches(self, images: list[UInt8[np.ndarray, "h w 3"]]) -> np.ndarray: ...


class Similar(NamedTuple):
  """Photos like one photo."""

  name: str  # of that photo
  hits: list[Hit]


class Searcher:
  """Finds photos of one index with the model it was built with."""

  def __init__(self, model: Encoder, index: Index):
    """Compiles the model for one sketch, so that the first user does not wait for it."""
    self.model, self.index = model, index
    self.started = secrets.token_hex(8)  # tells one start of the server from the next
    self._turn = threading.Lock()
    self._width = model.encode_sketches([_first_stroke()]).shape[1]

  @property
  def num_photos(self) -> int:
    """How many photos can be found."""
    return self.index.num_photos

  def by_sketch(self, data: bytes, k: int) -> list[Hit]:
    """Returns the k photos nearest to an uploaded sketch, best first. Raises: PageError."""
    with self._turn:  # also to decode: many large images at once would fill the memory
      vectors = self.model.encode_sketches([read_sketch(data)])
      return self.index.search(vectors, _checked(k))[0]

  def more_like(self, photo_id: int, k: int) -> Similar:
    """Returns the k photos nearest to a photo, without it. Raises: PageError if it is gone."""
    with self._turn:
      vector = self._of_photo(self.index.vector, photo_id)
      hits = self.index.search(vector[None], _checked(k) + 1)[0]
    name = next((hit.name for hit in hits if hit.photo_id == photo_id), "")
    return Similar(name, [hit for hit in hits if hit.photo_id != photo_id][:k])

  def some(self, k: int) -> list[Hit]:
    """Returns k photos, always the same, in no order that means anything."""
    direction = np.random.default_rng(SEED).normal(size=(1, self._width)).astype(np.float32)
    with self._turn:
      return self.index.search(direction / np.linalg.norm(direction), _checked(k))[0]

  def thumbnail(self, photo_id: int) -> bytes:
    """Returns the small JPEG that the index holds of a photo. Raises: PageError if it is gone."""
    return self._of_photo(self.index.thumbnail, photo_id)

  def _of_photo(self, ask, photo_id: int):
    try:
      return ask(photo_id)
    except (ValueError, OverflowError):  # a UserError's words may name the index's file
      raise PageError(f"Photo {photo_id} is not in the index any more; search again.") from None


def _checked(k: int) -> int:
  if type(k) is not int or not 1 <= k <= MOST:
    raise PageError(f"k={k!r} must be a whole number from 1 to {MOST}.")
  return k


def _first_stroke() -> Square:
  """Returns a line on paper."""
  sheet = np.full((64, 64, 3), 255, np.uint8)
  sheet[30:34, 8:56] = 0
  return sheet

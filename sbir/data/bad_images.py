"""Training without the few images that cannot be read: each is told once, too many stop it.

What is shown instead is a function of the epoch's order and of which images can be read, not of
who met a bad one first: resumed runs and any number of processes draw the same batches.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int

from sbir import progress
from sbir.types import UserError

ON_ERROR = ("stop", "skip")
ONE_IN = 100  # so many images may be bad; of fewer than that, one

T = TypeVar("T")


class Unreadable(UserError):
  """Says why one image of a source cannot be read."""

  def __init__(self, message: str, index: int):
    super().__init__(message)
    self.index = index


class BadImages:
  """The images of a source that this process has found unreadable. Safe from several threads."""

  def __init__(self, name: str, num_images: int, on_error: str | None):
    """`on_error` is what training does about one, of ON_ERROR; None where nothing is to choose: one
    stops. Raises: UserError if it is another word."""
    if on_error not in (None, *ON_ERROR):
      raise UserError(f"data.on_error={on_error!r} must be one of: {', '.join(ON_ERROR)}")
    self.is_skipping, self.limit = on_error == "skip", max(1, num_images // ONE_IN)
    self._advice = "; or train without it: --config.data.on_error=skip" if on_error else ""
    self._name, self._reasons, self._lock = name, dict[int, str](), threading.Lock()
    self._is_bad = np.zeros(num_images, bool)

  def note(self, error: Unreadable) -> None:
    """Takes note of an image, and says so at its first time.

    Raises: UserError if training is to stop at a bad image, or if there are too many by now.
    """
    if not self.is_skipping:
      raise UserError(f"{error}{self._advice}") from None
    with self._lock:
      if error.index not in self._reasons and len(self._reasons) <= self.limit:
        self._reasons[error.index] = str(error)
        self._is_bad[error.index] = True
        progress.say(f"skipped: {error}")
      count = len(self._reasons)
    if count > self.limit:
      raise self._refusal(f"expected at most {self.limit} with data.on_error=skip") from None

  def noting(self, load: Callable[[], T]) -> T:
    """Returns load(), called again after each image that it could not read was noted: it must not
    ask for one that is. Raises: UserError as `note`."""
    while True:
      try:
        return load()
      except Unreadable as error:
        self.note(error)

  def among(self, images: Int[np.ndarray, "n k"]) -> Bool[np.ndarray, "n"]:
    """Returns whether there is a noted image in each row of indices."""
    return self._is_bad[images].any(axis=1)

  def shown_at(self, place: int, order: Int[np.ndarray, "n k"]) -> int:
    """Returns which row of an epoch's order is shown at a place: its own, if no noted image is in
    it; else the first such row from half an epoch on, going round.

    The next row instead would mostly stand in the same batch twice. Raises: UserError if every row
    has a noted image.
    """
    if not self._is_bad[order[place]].any():
      return place
    for step in range(len(order)):
      other = (place + len(order) // 2 + step) % len(order)
      if not self._is_bad[order[other]].any():
        return other
    raise self._refusal("and without them nothing is left to train on")

  def tell(self) -> None:
    """Says how many there were, if any."""
    if self._reasons:
      progress.say(f"{self._found()} and were skipped")

  def _found(self) -> str:
    return f"{self._name}: {len(self._reasons)} of {len(self._is_bad)} images cannot be read"

  def _refusal(self, why: str) -> UserError:
    first = next(iter(self._reasons.values()))
    return UserError(
      f"{self._found()}, {why}; python -m sbir.data.doctor names them all; the first: {first}"
    )

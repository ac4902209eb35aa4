"""What a method must bring to be trained by `sbir.train`: four functions and nothing else."""

from typing import NamedTuple, Protocol

from sbir.types import Batch, Embeddings, Extra, Key, Params, Scalar


class LossOut(NamedTuple):
  """What a loss returns beside its value: the next `extra`, and scalars worth logging."""

  extra: Extra
  metrics: dict[str, Scalar]


class Task(Protocol):
  """A method, as the loop sees it. `batch` is the global batch, images in uint8."""

  def init(self, key: Key, batch: Batch) -> tuple[Params, Extra]:
    """Returns fresh parameters and extra state.

    Must be traceable (the loop jits it, and asks for its shapes alone when it resumes): weights
    read from a file go in through `train(warm_start=...)`. Of `batch`, take shapes only.
    """
    ...

  def frozen(self, key: Key, batch: Batch) -> Params:
    """Returns parameters that are used but neither trained nor saved: the teacher, or {}.

    Called once, outside jit, at every start; may read files.
    """
    ...

  def loss(
    self, params: Params, extra: Extra, frozen: Params, batch: Batch, key: Key
  ) -> tuple[Scalar, LossOut]:
    """Returns the mean loss of the global batch; differentiated with respect to `params` only."""
    ...

  def embed(self, params: Params, batch: Batch) -> dict[str, Embeddings]:
    """Returns the embeddings it can make of what `batch` holds ("photo", "sketch" or both)."""
    ...

"""How well a stage does during training: who must find whom among the test split's pairs."""

from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from sbir.data.pipeline import Join, pair_batches
from sbir.data.resized import ResizedSource
from sbir.mesh import replicated
from sbir.overlap import overlapped
from sbir.processes import share
from sbir.retrieval.metrics import acc_at_k, instance_ranks
from sbir.types import Batch, Embeddings, Params

CUTS = (1, 5, 10)


class Matcher(Protocol):
  """A task that can say, of each pair, which vector must find which."""

  def match(
    self, params: Params, frozen: Params, batch: Batch
  ) -> tuple[Embeddings, Embeddings]: ...


def match_scorer(
  task: Matcher,
  source: ResizedSource,
  batch_size: int,
  mesh: Mesh,
  *,
  images: Sequence[str] = ("photo", "sketch"),
  join: Join | None = None,
) -> Callable[[Params, Params], dict[str, float]]:
  """Returns `evaluate(params, frozen) -> {"test_acc@1": ...}`, for the log only: nothing is chosen
  by it.

  The teacher: z_s finds z_p. A student: its output finds the teacher's vector of its own pair. The
  baseline: the sketch finds the photo. The gallery has one vector a photo, that of its first pair.
  The task is shown `images`, and what `join` brings of each pair: the teacher's stored vectors.
  """
  match = jax.jit(task.match, out_shardings=replicated(mesh))

  def evaluate(params: Params, frozen: Params) -> dict[str, float]:
    of_batch = lambda batch: match(params, frozen, batch)
    size = source.image_size
    words = {"images": images, "join": join, "share": share()}
    pairs = pair_batches(source, image_size=size, batch_size=batch_size, **words)
    return acc_of_pairs(*_all_pairs(overlapped(of_batch, pairs, mesh)))

  return evaluate


def acc_of_pairs(
  query: Float[np.ndarray, "n d"], gallery: Float[np.ndarray, "n d"], ids: Int[np.ndarray, "n"]
) -> dict[str, float]:
  """Returns {"test_acc@K": share} of n queries against the first gallery row of each id."""
  _, first, target = np.unique(ids, return_index=True, return_inverse=True)
  ranks = instance_ranks(query, gallery[first], target)
  return {f"test_acc@{k}": acc_at_k(ranks, k) for k in CUTS}


def _all_pairs(matched):
  rows = []
  for (query, gallery), batch in matched:
    mask = batch["mask"]
    rows.append((query[mask], gallery[mask], batch["id"][mask]))
  return (np.concatenate(column) for column in zip(*rows, strict=True))

"""What the teacher makes of every pair in every stored view: computed once, for both students."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Int32

from sbir.data.padding import HostBatch
from sbir.data.pairs import find_pairs, rows_in_order
from sbir.data.pipeline import PAIR_IMAGES, Join
from sbir.data.records import fingerprint
from sbir.data.resized import ResizedSource
from sbir.fill_rows import fill
from sbir.mesh import put_replicated
from sbir.stored_rows import StoredRows
from sbir.types import Batch, Params
from xmodal.fusion import Teacher
from xmodal.tasks import PAIRED_SKETCHES, TARGETS, target_branch
from xmodal.views import Recipe, stored_keys, training_views

WHAT = "fused vectors of an XModalViT teacher"
FORMAT = 1  # to be raised when rows of the same description would be other numbers


class TeacherCache:
  """z_p and z_s of every sketch of a split with its photo, in each of `num_views` stored views.

  Row view * pairs + i is that of sketch i, photo by photo, so more views add to what is there.
  Where the recipe draws nothing at random there is one view, and it is that of evaluation.
  """

  def __init__(
    self,
    root: str | Path,
    source: ResizedSource,
    recipe: Recipe,
    *,
    num_views: int,
    seed: int,
    teacher: Mapping[str, Any],
    width: int,
  ):
    """Opens what is there of it in `root`; `teacher` says whose vectors they are, in the words of
    JSON, and `width` how long each is. Writes nothing."""
    self.num_views = num_views if recipe.is_random() else 1
    self._source, self._recipe, self._seed, self._teacher = source, recipe, seed, dict(teacher)
    self._pairs = rows_in_order(find_pairs(source))
    self._place = np.full(len(source.records), -1)
    self._place[self._pairs[:, 2]] = np.arange(len(self._pairs))
    about = {
      "what": WHAT,
      "format": FORMAT,
      "jax": jax.__version__,
      "teacher": self._teacher,
      "data": {
        "name": source.name,
        "records": fingerprint(source.records),
        "stamp": source.stamp(),
        "image_size": source.image_size,
        "fit": source.fit,
      },
      "recipe": recipe._asdict(),
      "seed": seed if recipe.is_random() else None,
    }
    rows = {"num_rows": self.num_views * len(self._pairs), "group": len(self._pairs)}
    self.rows = StoredRows(root, about, **rows, row_shape=(2, width))

  @property
  def num_pairs(self) -> int:
    """The pairs of the split: its sketches that have a photo."""
    return len(self._pairs)

  def fill(self, model: Teacher, params: Params, *, batch_size: int, mesh: Mesh, desc: str) -> None:
    """Computes what is missing of it; the parameters are on the devices only as long as that.

    Raises: UserError, before anything is computed, if the folder cannot be written.
    """
    params = put_replicated(params, mesh) if self.rows.missing() else {}
    compute = functools.partial(_fuse, model, self._recipe, self._seed, params)
    words = {"batch_size": batch_size, "mesh": mesh, "desc": desc, "is_void": self._is_void}
    fill(self.rows, self._load, compute, **words)

  def remove_older(self) -> None:
    """Deletes what stands beside it of the same teacher's other parameters, as those it had before
    it was trained on: to be called only where nobody else's vectors are."""

    def is_older(about: Mapping[str, Any]) -> bool:
      return about.get("what") == WHAT and about.get("teacher") != self._teacher

    self.rows.remove_stale(is_older)

  def targets(self, modality: str, target: str) -> Join:
    """Returns what joins to batches the vectors that a student of `modality` is to match."""
    branch = target_branch(modality, target)
    columns = {
      TARGETS[sketch]: 1 + PAIR_IMAGES.index(sketch) for sketch in PAIRED_SKETCHES[modality]
    }

    def join(rows: Int32[np.ndarray, "b 4"], views: Int32[np.ndarray, "b"]) -> HostBatch:
      return {
        name: np.ascontiguousarray(self.fused(rows[:, column], views)[:, branch])
        for name, column in columns.items()
      }

    return join

  def fused(
    self, sketches: Int[np.ndarray, "b"], views: Int[np.ndarray, "b"]
  ) -> Float[np.ndarray, "b 2 d"]:
    """Returns (z_p, z_s) of these sketches, by index into the source's records, in these views."""
    return self.rows.take(views.astype(np.int64) * len(self._pairs) + self._place[sketches])

  def _load(self, numbers: Int[np.ndarray, "b"]) -> HostBatch:
    views, places = np.divmod(numbers, len(self._pairs))
    _, photo, sketch, _ = self._pairs[places].T
    return {
      "photo": self._source.images_or_blank(photo),
      "sketch": self._source.images_or_blank(sketch),
      "sketch_index": sketch.copy(),
      "view": views.astype(np.int32),
    }

  def _is_void(self, numbers: Int[np.ndarray, "b"]) -> Bool[np.ndarray, "b"]:
    return self._source.bad.among(self._pairs[numbers % len(self._pairs), 1:3])


@functools.partial(jax.jit, static_argnums=(0, 1, 2))  # compiled once for all splits seen alike
def _fuse(
  model: Teacher, recipe: Recipe, seed: int, params: Params, batch: Batch
) -> Float[Array, "b 2 d"]:
  images = {name: batch[name] for name in ("photo", "sketch")}
  views = training_views(stored_keys(seed, batch["sketch_index"], batch["view"]), images, recipe)
  return jnp.stack(model.apply({"params": params}, views["photo"], views["sketch"]), axis=1)

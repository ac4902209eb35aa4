"""What the teacher says of every image in every stored view: computed once, before a student."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict

from pskd.model import TwoTokenNet
from pskd.tasks import StudentTask
from pskd.views import Recipe, stored_keys, training_view
from sbir.data.padding import HostBatch
from sbir.data.resized import ResizedSource
from sbir.fill_rows import fill
from sbir.mesh import put_replicated
from sbir.places import cache_of, local
from sbir.stored_rows import StoredRows
from sbir.teacher_key import parameters_sha256
from sbir.types import Batch, Params

WHAT = "logits of a PSKD teacher"
FORMAT = 1  # to be raised when rows of the same description would be other numbers
IMAGES = 32  # of a batch on each device: more gain nothing, and at 8-pixel patches take memory


class TeacherCache:
  """The teacher's logits of every photo and sketch of a source, in each of `num_views` views.

  Row view * images + i is that of record i, so more views add to what is there. Where the recipe
  draws nothing at random there is one view.
  """

  def __init__(
    self,
    root: str | Path,
    source: ResizedSource,
    recipe: Recipe,
    *,
    image_size: int,
    num_views: int,
    seed: int,
    teacher: Mapping[str, Any],
    num_classes: int,
  ):
    """Opens what is there of it in `root`; `teacher` says whose logits they are, in the words of
    JSON. `source` may be larger than the networks' `image_size`, for the crop. Writes nothing."""
    self.num_views = num_views if recipe.is_random() else 1
    self._source, self._recipe, self._image_size = source, recipe, image_size
    self._seed, self._teacher, self._num_images = seed, dict(teacher), len(source.records)
    about = {
      "what": WHAT,
      "format": FORMAT,
      "jax": jax.__version__,
      "teacher": self._teacher,
      "data": {"name": source.name, "stamp": source.stamp()},
      "image_size": image_size,
      "recipe": recipe._asdict(),
      "seed": seed if recipe.is_random() else None,
    }
    num_rows = self.num_views * self._num_images
    shape = {"group": self._num_images, "row_shape": (num_classes,)}
    self.rows = StoredRows(root, about, num_rows=num_rows, **shape)

  def fill(self, model: TwoTokenNet, params: Params, mesh: Mesh) -> None:
    """Computes what is missing of it; the parameters are on the devices only as long as that."""
    params = put_replicated(params, mesh) if self.rows.missing() else {}
    ask = jax.jit(functools.partial(_ask, model, self._recipe, self._image_size, self._seed))
    compute, size = functools.partial(ask, params), IMAGES * mesh.size
    words = {"batch_size": size, "mesh": mesh, "desc": "teacher's logits", "is_void": self._is_void}
    fill(self.rows, self._load, compute, **words)

  def remove_older(self) -> None:
    """Deletes what stands beside it of another state of the teacher, such as before it was trained
    on: to be called only in a folder that is this teacher's alone."""

    def is_older(about: Mapping[str, Any]) -> bool:
      return about.get("what") == WHAT and about.get("teacher") != self._teacher

    self.rows.remove_stale(is_older)

  def join(self, index: Int[np.ndarray, "b"], view: Int[np.ndarray, "b"]) -> HostBatch:
    """Returns {"logits": f32[b, c]} of these records in these views, for `class_batches`."""
    return {"logits": self.rows.take(view.astype(np.int64) * self._num_images + index)}

  def _load(self, numbers: Int[np.ndarray, "b"]) -> HostBatch:
    view, index = (part.astype(np.int32) for part in np.divmod(numbers, self._num_images))
    return {"image": self._source.images_or_blank(index), "index": index, "view": view}

  def _is_void(self, numbers: Int[np.ndarray, "b"]) -> Bool[np.ndarray, "b"]:
    return self._source.bad.among(numbers[:, None] % self._num_images)


def _ask(
  model: TwoTokenNet, recipe: Recipe, image_size: int, seed: int, params: Params, batch: Batch
) -> Float[Array, "b c"]:
  keys = stored_keys(seed, batch["index"], batch["view"])
  view = training_view(keys, batch["image"], recipe, image_size)
  return model.apply({"params": params}, view).logits.astype(jnp.float32)


def is_cached(config: Mapping[str, Any]) -> bool:
  """Returns whether the stage is a student's and asks for stored logits of its teacher."""
  return config["stage"] == "student" and config["cache"]["views"] > 0


def cache_folder(config: Mapping[str, Any]) -> Path:
  """Returns where a student's config has its teacher's logits."""
  chosen = config["cache"]["dir"]
  return local(chosen, "cache.dir") if chosen else cache_of(config["teacher"])


def fill_cache(
  config: ConfigDict, teacher: ConfigDict, task: StudentTask, source: ResizedSource, mesh: Mesh
) -> TeacherCache:
  """Returns the teacher's logits of as many views as an image is shown in, all of them there.

  `config` is the student's and `teacher` its teacher's. In the teacher's own run folder, logits
  that it made before it was trained on are removed.
  """
  cache = TeacherCache(
    cache_folder(config),
    source,
    task.recipe,
    image_size=config.image_size,
    num_views=min(config.cache.views, config.epochs),
    seed=config.seed,
    teacher={
      "parameters": parameters_sha256(task.teacher_params),
      "model": teacher.model.to_dict(),
      "compute_dtype": teacher.compute_dtype,
    },
    num_classes=len(teacher.classes),
  )
  if not config.cache.dir:
    cache.remove_older()
  cache.fill(task.teacher, task.teacher_params, mesh)
  return cache

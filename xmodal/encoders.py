"""The two halves of a search: a photo encoder and a sketch encoder, of a run or of a package."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict

from sbir import checkpoint, hub, trees
from sbir.data.pipeline import eval_batches
from sbir.data.records import photo_indices, sketch_indices
from sbir.data.resized import ResizedSource
from sbir.embed import embed_images, in_batches
from sbir.mesh import put_replicated
from sbir.nn.class_attention import class_attention
from sbir.nn.losses import l2_normalise
from sbir.package_folder import FILES, Package, is_package, read_package
from sbir.processes import share
from sbir.types import Params, UserError
from xmodal.fusion import Student
from xmodal.packaged import build_pair, build_student, student_of
from xmodal.stages import describe, make_student, read_run
from xmodal.views import Recipe, plain_view

BATCH_SIZE = 32  # of what one process computes by itself


class Encoder:
  """One student (or one side of the baseline) and its parameters, ready to embed images."""

  def __init__(self, modality: str, config: ConfigDict, model: Student, params: Params):
    self.modality, self.config = modality, config
    self.model, self.params = model, params

  def embed(
    self, source: ResizedSource, *, batch_size: int, mesh: Mesh
  ) -> Float[np.ndarray, "n d"]:
    """Returns the unit vectors of all images of the modality, in the source's order."""
    recipe, params = Recipe(**self.config.augment), put_replicated(self.params, mesh)
    apply = jax.jit(
      lambda params, images: l2_normalise(
        self.model.apply({"params": params}, plain_view(images, recipe))
      )
    )
    indices = (photo_indices if self.modality == "photo" else sketch_indices)(source)
    batches = eval_batches(
      source,
      indices,
      image_size=source.image_size,
      batch_size=min(batch_size, len(indices)),
      share=share(),
    )
    desc = {"photo": "embed photos", "sketch": "embed sketches"}[self.modality]
    return embed_images(lambda x: apply(params, x), batches, indices, mesh=mesh, desc=desc)

  def embed_squares(self, squares: UInt8[np.ndarray, "n s s 3"]) -> Float[np.ndarray, "n d"]:
    """Returns the unit vectors of square images, computed by this process alone."""
    return in_batches(self._own_vectors, squares, BATCH_SIZE)

  def attention(self, squares: UInt8[np.ndarray, "n s s 3"]) -> Float[np.ndarray, "n p"]:
    """Returns the shares of the class token's attention in the last block, in the same way."""
    return in_batches(self._own_attention, squares, BATCH_SIZE)

  @functools.cached_property
  def _own_vectors(self) -> Callable[[jax.Array], jax.Array]:
    params = {"params": jax.tree.map(np.asarray, self.params)}
    return jax.jit(lambda images: l2_normalise(self.model.apply(params, self._view(images))))

  @functools.cached_property
  def _own_attention(self) -> Callable[[jax.Array], jax.Array]:
    params = jax.tree.map(np.asarray, self.params)
    return jax.jit(lambda images: class_attention(self.model, params, self._view(images)))

  def _view(self, images: jax.Array) -> jax.Array:
    return plain_view(images, Recipe(**self.config.augment))

  def untrained(self, seed: int) -> "Encoder":
    """Returns the same network with fresh random weights: what it finds without any training."""
    return Encoder(self.modality, self.config, self.model, _init(self.model, self.config, seed))


def load_encoder(workdir: str, modality: str) -> Encoder:
  """Returns the encoder of `modality` from a student's or the baseline's run folder, or from the
  package of a student or a pair.

  Raises: UserError if the folder is missing, or is a teacher's or the other modality's.
  """
  folder = hub.fetch(workdir, files=FILES)
  if is_package(folder):
    return _of_package(read_package(folder), modality, workdir)
  config = read_run(modality, workdir)
  is_student = config.stage == "student" and config.modality == modality
  if not is_student and config.stage != "baseline":
    raise UserError(
      f"{modality}={workdir} is the run folder of a {describe(config)}, expected a {modality} "
      f"student's; give the --workdir of xmodal.train_{modality}_student"
    )
  saved = checkpoint.restore_params(workdir)
  params = saved[modality] if config.stage == "baseline" else saved
  embed_dim = params["head"]["kernel"].shape[1]
  model = make_student(config, embed_dim)
  expected = jax.eval_shape(lambda: _init(model, config, 0))
  checkpoint.check_shapes(params, expected, workdir)
  return Encoder(modality, config, model, params)


def _of_package(package: Package, modality: str, place: str) -> Encoder:
  """Returns the encoder of `modality` in a package: what is known of its training is how it wants
  its images."""
  network, params = package.config["network"], package.params
  architecture = package.config["architecture"]
  if architecture == "xmodal-pair":
    build_pair(network)
    network, params = network[modality], params[modality]
  elif architecture == "xmodal-student" and network.get("modality") in (modality, "either"):
    build_student(network)
  else:
    raise UserError(
      f"{modality}={place} is a package of {architecture} ({network.get('modality', 'both')}), "
      f"expected a {modality} student's or a pair's; make one with python -m sbir.package or "
      "sbir.convert"
    )
  how, model = package.preprocessing, student_of(network)
  config = ConfigDict(
    {
      "stage": "package",
      "image_size": how.image_size,
      "data": {"fit": how.fit},
      "augment": {"gradients": how.gradients, "mean": how.mean, "std": how.std},
    }
  )
  expected = jax.eval_shape(lambda: _init(model, config, 0))
  return Encoder(modality, config, model, trees.merge(expected, params, what=place))


def _init(model: Student, config: ConfigDict, seed: int) -> Params:
  images = jax.numpy.zeros((1, config.image_size, config.image_size, 3))
  return jax.jit(lambda key: model.init(key, images)["params"])(jax.random.key(seed))

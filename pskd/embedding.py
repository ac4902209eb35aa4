"""Embeddings of a whole part of a data set by one network."""

from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Shaped, UInt8

from pskd.model import TwoTokenNet, fusion_attention
from pskd.tasks import feature_of
from pskd.views import Recipe, plain_view
from sbir.data.pipeline import eval_batches
from sbir.data.records import photo_indices, sketch_indices
from sbir.data.resized import ResizedSource
from sbir.embed import EmbedFn, embed_images, in_batches
from sbir.mesh import replicated
from sbir.nn.losses import l2_normalise
from sbir.processes import share
from sbir.types import Params

OWN_BATCH = 32


class Embedded(NamedTuple):
  """Vectors as the network gives them, not normalised, with the class of each image."""

  vectors: Float[np.ndarray, "n d"]
  label: Shaped[np.ndarray, "n"]


class OwnFunctions:
  """What one process computes by itself of square images, for pictures; compiled once each."""

  def __init__(self, model: TwoTokenNet, params: Params, recipe: Recipe, *, feature: str):
    params = jax.tree.map(np.asarray, params)
    view = lambda images: plain_view(images, recipe)
    out = lambda images: model.apply({"params": params}, view(images))
    self._embed = jax.jit(lambda images: l2_normalise(feature_of(out(images), feature)))
    self._look = jax.jit(lambda images: fusion_attention(model, params, view(images)))

  def embed(self, squares: UInt8[np.ndarray, "n s s 3"]) -> Float[np.ndarray, "n d"]:
    """Returns their unit vectors, whether they are photos or sketches."""
    return in_batches(self._embed, squares, OWN_BATCH)

  def attention(self, squares: UInt8[np.ndarray, "n s s 3"]) -> Float[np.ndarray, "n p"]:
    """Returns the shares of the fusion token's attention in the last block."""
    return in_batches(self._look, squares, OWN_BATCH)


class Embedder:
  """A network and its way of looking at images, compiled once."""

  def __init__(self, model: TwoTokenNet, recipe: Recipe, mesh: Mesh, *, feature: str = "fusion"):
    def embed(params: Params, images: jax.Array) -> jax.Array:
      out = model.apply({"params": params}, plain_view(images, recipe))
      return feature_of(out, feature)

    self._embed = jax.jit(embed, out_shardings=replicated(mesh))
    self._mesh = mesh

  def embed(
    self, params: Params, source: ResizedSource, modality: str, batch_size: int
  ) -> Embedded:
    """Returns the vectors of all images of a modality, in the source's order.

    `params` are on the mesh's devices already.
    """
    indices = {"photo": photo_indices, "sketch": sketch_indices}[modality](source)
    batches = eval_batches(
      source,
      indices,
      image_size=source.image_size,
      batch_size=min(batch_size, len(indices)),
      share=share(),
    )
    embed: EmbedFn = lambda images: self._embed(params, images)
    desc = {"photo": "embed photos", "sketch": "embed sketches"}[modality]
    vectors = embed_images(embed, batches, indices, mesh=self._mesh, desc=desc)
    return Embedded(vectors, np.array([source.records[i].category for i in indices]))

"""What tells a model from all others, and whether it can embed photos for sketches to find."""

import hashlib
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sbir import preprocessing, trees
from sbir.models import Model
from sbir.network import blank, embeddings
from sbir.photo_table import PhotoTable
from sbir.types import UserError


class Identity(NamedTuple):
  """What an index remembers of the model that made its embeddings."""

  model_hash: str  # of weights, network and preprocessing
  architecture: str  # of the package
  width: int  # of embeddings
  preprocessing: dict[str, Any]  # as in preprocessor_config.json


def identity_of(model: Model) -> Identity:
  """Returns a model's identity: equal for all packages that give the same embeddings, wherever they
  lie and whatever their cards say."""
  digest = hashlib.sha256()
  how = preprocessing.to_json(model.preprocessing)
  parts = (model.config["architecture"], model.config["network"], how)
  digest.update(json.dumps(parts, sort_keys=True).encode())
  for name, leaf in sorted(trees.flatten(model.params).items()):
    array = np.ascontiguousarray(leaf)
    digest.update(f"{name} {array.dtype} {array.shape}".encode())
    digest.update(array.tobytes())
  return Identity(digest.hexdigest(), model.config["architecture"], _width(model), how)


def known_to(table: PhotoTable) -> Identity:
  """Returns the identity of the model that a table's embeddings are of."""
  return Identity(*(table.about(key) for key in Identity._fields))


def check_searches(model: Model, place: str) -> None:
  """Raises UserError unless a model embeds photos and sketches, each alone."""
  takes = set(model.network.modalities)
  if model.network.together or takes != {"photo", "sketch"}:
    alone = f"of {'photos' if takes == {'photo'} else 'sketches'} alone"
    kind = "a teacher, which sees both at once" if model.network.together else alone
    raise UserError(
      f"--model {place} is {kind}, expected a model of photos and of sketches; give the package of "
      "a finished pipeline, or join two students with python -m sbir.package --photo P --sketch S"
    )


def check_same(model: Model, place: str, index: str, known: Identity) -> None:
  """Raises UserError unless `model`, of the package at `place`, is the one that `index` knows."""
  found = identity_of(model)
  if found.model_hash == known.model_hash:
    return
  if found.architecture != known.architecture:
    differs = f"is {found.architecture}, and {index} was built with {known.architecture}"
  else:
    differs = (
      f"has the hash {found.model_hash[:12]}, and {index} was built with {known.model_hash[:12]}, "
      f"another {known.architecture}"
    )
  raise UserError(
    f"--model {place} {differs}; give the model it was built with, or build another index"
  )


def _width(model: Model) -> int:
  images = {"photo": blank(model.preprocessing.image_size)}
  params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), model.params)
  shapes = jax.eval_shape(lambda p: embeddings(model.network, p, images), params)
  return int(shapes["photo"].shape[1])

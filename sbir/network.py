"""A network by itself: what it takes and what it gives, whatever method it is of."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir.types import Embeddings, Params

Images = Mapping[str, Float[Array, "b s s 3"]]  # "photo", "sketch" or both; preprocessed
Attention = dict[str, Float[Array, "b n"]]  # of "photo", "sketch": shares of the patches, by row
Outputs = dict[str, Array]  # "photo", "sketch": raw embeddings; "photo_logits", ...: what else


class Network(NamedTuple):
  """What can be done with a network once it is described; pure functions of its parameters."""

  init: Callable[[jax.Array, int], Params]  # (key, image_size) -> fresh parameters
  forward: Callable[[Params, Images], Outputs]
  attention: Callable[[Params, Images], Attention]  # of the last block's token for retrieval
  modalities: tuple[str, ...]  # what it takes: "photo", "sketch" or both
  together: bool = False  # True: a photo and its sketch together, neither alone (a teacher)


def shapes_of(network: Network, image_size: int) -> Params:
  """Returns the shapes that the network's parameters have; computes nothing."""
  return jax.eval_shape(lambda: network.init(jax.random.key(0), image_size))


def blank(image_size: int) -> Float[Array, "1 s s 3"]:
  """Returns one image without anything on it, to initialise a network with."""
  return jnp.zeros((1, image_size, image_size, 3))


def for_each(images: Images, forward: Callable[[Any], Mapping[str, Array]], main: str) -> Outputs:
  """Returns the outputs of one network for each modality given: its output `main` under the name
  of the modality, the others as "photo_<name>" and "sketch_<name>"."""
  outputs: Outputs = {}
  for modality, pixels in images.items():
    for name, value in forward(pixels).items():
      outputs[modality if name == main else f"{modality}_{name}"] = value
  return outputs


def embeddings(network: Network, params: Params, images: Images) -> dict[str, Embeddings]:
  """Returns the raw embedding of each modality given, and nothing else."""
  outputs = network.forward(params, images)
  return {name: outputs[name] for name in images}

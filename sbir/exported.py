"""What an export computes: a pure function of weights and images, and what goes into it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array

from sbir import trees
from sbir.network import Network, Outputs
from sbir.nn.losses import l2_normalise
from sbir.preprocessing import Preprocessing
from sbir.types import Params, UserError

PAIR = "xmodal-pair"  # the one architecture whose networks for photos and sketches are two
EMBEDDING = "embedding"  # the output of a program that takes pixels


class Exported(NamedTuple):
  """A program: what it computes and the names and kind of its inputs."""

  function: Callable[[Params, Mapping[str, Array]], Outputs]  # weights float32 or float16
  inputs: dict[str, jax.ShapeDtypeStruct]  # by modality, with a batch of 1
  main: dict[str, str]  # modality: the output that is its embedding
  pixels: bool  # inputs are uint8 squares, not preprocessed floats

  def embedding_of(self, modality: str) -> str:
    """Returns the output that is the embedding of `modality`, or of the only one it takes."""
    return self.main.get(modality) or next(iter(self.main.values()))

  def view(self, how: Preprocessing, squares: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns uint8 squares as the program takes them."""
    if self.pixels:
      return dict(squares)
    return {name: jax.device_get(how.view(jnp.asarray(x))) for name, x in squares.items()}


def choose_modality(architecture: str, network: Network, modality: str | None) -> str:
  """Returns which of the network's modalities to export: the one asked for, else the only one, else
  "photo" where both have the same weights.

  Raises: UserError if the network does not take it, or one of two networks has to be named.
  """
  if modality and modality not in network.modalities:
    raise UserError(
      f"--modality {modality}: this model takes {network.modalities[0]} alone; leave --modality out"
    )
  if not modality and (network.together or architecture == PAIR):
    raise UserError(
      f"this {architecture} holds two networks, and a file one; add --modality photo or "
      "--modality sketch"
    )
  return modality or network.modalities[0]


def exported(
  architecture: str,
  network: Network,
  how: Preprocessing,
  *,
  modality: str | None = None,
  pixels: bool = False,
) -> Exported:
  """Returns the program to export: `forward` as it is, or with `pixels` all from uint8 RGB squares
  to unit vectors, which is what `encode_photos` does after the image is read and made square.

  Raises: UserError if the network cannot be exported so.
  """
  chosen = _inputs(architecture, network, modality, pixels)

  def function(params: Params, images: Mapping[str, Array]) -> Outputs:
    # Not x.astype, which numpy would do at once: a float16 constant is to stay one in the file.
    params = jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.float32), params)
    if not pixels:
      return network.forward(params, images)
    outputs = network.forward(params, {name: how.view(x) for name, x in images.items()})
    return {EMBEDDING: l2_normalise(outputs[chosen[0]])}

  shape = (1, how.image_size, how.image_size, 3)
  spec = jax.ShapeDtypeStruct(shape, jnp.uint8 if pixels else jnp.float32)
  main = {name: EMBEDDING if pixels else name for name in chosen}
  return Exported(function, dict.fromkeys(chosen, spec), main, pixels)


def _inputs(
  architecture: str, network: Network, modality: str | None, pixels: bool
) -> tuple[str, ...]:
  if not network.together:
    return (choose_modality(architecture, network, modality),)
  if pixels:
    raise UserError(
      "--pixels: a teacher sees a photo and a sketch together and has no embedding of one image; "
      "leave --pixels out, or export its student"
    )
  if modality:
    raise UserError(
      f"--modality {modality}: a teacher takes photos and sketches together; leave --modality out"
    )
  return network.modalities


def used_params(program: Exported, params: Params) -> dict[str, np.ndarray]:
  """Returns the leaves, by name, that the program's outputs depend on; computes nothing."""
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), params)
  lowered = export.export(jax.jit(program.function), platforms=["cpu"])(shapes, program.inputs)
  names = list(trees.flatten(params).items())  # flattened before the images
  return dict(names[i] for i in lowered.module_kept_var_idx if i < len(names))


def as_half(params: Params) -> Params:
  """Returns the weights rounded to float16. Raises: UserError naming any that float16 cannot hold.

  Its largest number is 65 504.
  """
  with np.errstate(over="ignore"):
    rounded = jax.tree.map(lambda x: np.asarray(x).astype(np.float16), params)
  if lost := [name for name, x in trees.flatten(rounded).items() if not np.isfinite(x).all()]:
    raise UserError(f"--half: {lost[0]} has values above 65504, too large; leave --half out")
  return rounded

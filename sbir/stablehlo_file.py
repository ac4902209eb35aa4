"""Programs as StableHLO: what jax.export writes and any later JAX, or another XLA, can run."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax import export
from jaxtyping import Array, Shaped

PLATFORMS = ("cpu", "cuda", "tpu")

Images = Mapping[str, Shaped[Array, "b s s 3"]]
Function = Callable[[Images], Mapping[str, Array]]
Call = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def to_stablehlo(
  function: Function, inputs: Mapping[str, jax.ShapeDtypeStruct], *, dynamic_batch: bool = False
) -> bytes:
  """Returns `function`, the arrays in it included, as jax.export serialises it, for all PLATFORMS.

  Read it with `jax.export.deserialize(data).call({"photo": images})`; outputs by name. The shapes
  of `inputs` have batch 1; with `dynamic_batch` the program takes any. Matrix products have the
  default precision, as in JAX: on a GPU or TPU it is lower than on a CPU, unless JAX is told
  otherwise while the program is made.
  """
  batch = export.symbolic_shape("batch")[0] if dynamic_batch else 1
  specs = {
    name: jax.ShapeDtypeStruct((batch, *spec.shape[1:]), spec.dtype)
    for name, spec in inputs.items()
  }
  return bytes(export.export(jax.jit(function), platforms=PLATFORMS)(specs).serialize())


def load(data: bytes) -> Call:
  """Returns the program of such a file as a function, compiled once for each batch size."""
  program = jax.jit(export.deserialize(bytearray(data)).call)
  return lambda images: jax.device_get(program(dict(images)))

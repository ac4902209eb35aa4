"""The head that DINO trains its ViTs with, as far as it makes vectors: three linear layers."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir.nn.losses import l2_normalise


def dino_mlp(
  tokens: Float[Array, "b d"],
  *,
  hidden: int,
  bottleneck: int,
  dtype: jnp.dtype,
  init: nn.initializers.Initializer,
) -> Float[Array, "b e"]:
  """Returns unit vectors: Linear, exact GELU, Linear, exact GELU, Linear, divided by the length.

  To be called in a compact method, whose module the layers fc1, fc2 and fc3 become part of; `init`
  makes their kernels.

  Source: facebookresearch/dino vision_transformer.py, DINOHead without its last layer.
  """
  dense = lambda size, name: nn.Dense(size, dtype=dtype, kernel_init=init, name=name)
  x = nn.gelu(dense(hidden, "fc1")(tokens), approximate=False)
  x = nn.gelu(dense(hidden, "fc2")(x), approximate=False)
  return l2_normalise(dense(bottleneck, "fc3")(x).astype(jnp.float32))


class DinoHead(nn.Module):
  """`dino_mlp` by itself, in float32."""

  hidden: int
  bottleneck: int

  @nn.compact
  def __call__(self, tokens: Float[Array, "b d"]) -> Float[Array, "b e"]:
    init = nn.initializers.truncated_normal(0.02)
    sizes = {"hidden": self.hidden, "bottleneck": self.bottleneck}
    return dino_mlp(tokens, **sizes, dtype=jnp.float32, init=init)

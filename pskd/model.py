"""The two-token ViT and its head: one network for photos and for sketches."""

import math
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir.nn.class_attention import class_attention
from sbir.nn.dino_head import dino_mlp
from sbir.nn.layers import LayerNorm, per_token
from sbir.nn.positions import DINO_EXCESS, bicubic_matrix, resample
from sbir.nn.vit import SIZES, block_class, check_image_size, patchify
from sbir.types import Params, UserError

NUM_TOKENS = 2
FUSION = 1  # the place of the token that retrieval uses


class Output(NamedTuple):
  """What the network makes of an image."""

  dist: Float[Array, "b d"]  # takes part in attention; PSKD puts no loss on it
  fusion: Float[Array, "b d"]  # the embedding that retrieval uses
  bottleneck: Float[Array, "b e"]  # unit vectors, of the prototypes' space
  logits: Float[Array, "b c"]


class TwoTokenViT(nn.Module):
  """Returns the tokens (dist, fusion) after the final LayerNorm.

  A plain ViT (pre-norm, exact GELU, LayerNorm epsilon 1e-6) with two learnt tokens before the
  patches; slot 0 of the positions is dist's, 1 fusion's. The last block computes these two only.

  `resample_positions` is the released code's way: a size test that never holds with two tokens
  has it stretch the patches' positions by (side + 0.1) / side in every forward pass. A PyTorch
  checkpoint that was trained so needs it; otherwise they are used as they are.

  Source: acmmm22anonymous/PSKD@a505f9f vision_transformer.py, vit_small_fd.
  """

  width: int
  depth: int
  num_heads: int
  patch_size: int
  dtype: jnp.dtype = jnp.float32
  position_std: float = 0.02
  resample_positions: bool = False
  remat: bool = False  # as ViT's

  @nn.compact
  def __call__(
    self, images: Float[Array, "b h w 3"]
  ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    b, num_patches = images.shape[0], check_image_size(images.shape[1:3], self.patch_size)
    patches = patchify(images.astype(self.dtype), self.patch_size)
    embedded = per_token(nn.Dense(self.width, dtype=self.dtype, name="patch_embed"), patches)
    token_init = nn.initializers.truncated_normal(0.02)
    learnt = [
      self.param(name, token_init, (1, 1, self.width)) for name in ("dist_token", "fusion_token")
    ]
    position_init = nn.initializers.truncated_normal(self.position_std)
    shape = (1, num_patches + NUM_TOKENS, self.width)
    positions = self.param("pos_embed", position_init, shape)
    if self.resample_positions:
      positions = released_positions(positions)
    heads = [jnp.broadcast_to(token.astype(self.dtype), (b, 1, self.width)) for token in learnt]
    tokens = jnp.concatenate([*heads, embedded], axis=1) + positions.astype(self.dtype)
    block = block_class(self.remat)
    for i in range(self.depth):
      num_out = NUM_TOKENS if i == self.depth - 1 else None
      tokens = block(self.num_heads, self.dtype, name=f"block_{i}")(tokens, num_out)
    tokens = LayerNorm(epsilon=1e-6, dtype=jnp.float32, name="norm")(tokens)
    return tokens[:, 0], tokens[:, 1]


class Head(nn.Module):
  """Returns (bottleneck, logits): a three-layer MLP to unit vectors v, then W v + b.

  The rows of W are the class prototypes. No scale, no temperature: logits grow as W does. So with
  rows as short as published a network of random weights hardly learns: one of 104 classes is at
  loss 4.48 after 800 steps (chance 4.64), with `head_std` 0 and `prototype_std` 0.5 at 3.9.
  """

  num_classes: int
  hidden: int = 2048
  bottleneck: int = 256
  dtype: jnp.dtype = jnp.float32
  head_std: float = 0.02  # of the MLP's random weights; 0: 1 / sqrt(inputs)
  prototype_std: float = 0.02

  @nn.compact
  def __call__(
    self, tokens: Float[Array, "b d"]
  ) -> tuple[Float[Array, "b e"], Float[Array, "b c"]]:
    init = nn.initializers.lecun_normal()
    if self.head_std:
      init = nn.initializers.truncated_normal(self.head_std)
    sizes = {"hidden": self.hidden, "bottleneck": self.bottleneck}
    x = dino_mlp(tokens, **sizes, dtype=self.dtype, init=init)
    # The source cuts the normal at +-2, a hundred standard deviations: not at all.
    prototypes = nn.initializers.normal(self.prototype_std)
    return x, nn.Dense(self.num_classes, kernel_init=prototypes, name="classifier")(x)


class TwoTokenNet(nn.Module):
  """The whole network of either stage, from normalised images to `Output`."""

  backbone: TwoTokenViT
  head: Head

  def __call__(self, images: Float[Array, "b h w 3"]) -> Output:
    dist, fusion = self.backbone(images)
    return Output(dist, fusion, *self.head(fusion))


def fusion_attention(
  model: TwoTokenNet, params: Params, images: Float[Array, "b h w 3"]
) -> Float[Array, "b n"]:
  """Returns how much the fusion token attends to each patch in the last block, over all heads."""
  return class_attention(model, params, images, token=FUSION, num_tokens=NUM_TOKENS)


def released_positions(positions: Float[Array, "1 n d"]) -> Float[Array, "1 n d"]:
  """Returns positions as the released forward pass uses them: those of the patches resampled
  onto a grid of the same size by a factor a little above 1, those of both tokens as they are.

  Source: DINO's interpolate_pos_encoding, under the size test of PSKD@a505f9f.
  """
  side = math.isqrt(positions.shape[1] - NUM_TOKENS)
  matrix = bicubic_matrix(side, side, (side + DINO_EXCESS) / side)
  tokens, patches = positions[:, :NUM_TOKENS], positions[:, NUM_TOKENS:]
  return jnp.concatenate([tokens, resample(patches, matrix)], axis=1)


def two_token_net(
  size: str,
  patch_size: int,
  *,
  dtype: jnp.dtype,
  position_std: float,
  resample_positions: bool,
  head: Head,
  remat: bool = False,
) -> TwoTokenNet:
  """Returns the network of a ViT size by name: "tiny", "small", "base"; ours: "micro", "nano"."""
  if size not in SIZES:
    raise UserError(f"vit size {size!r} is unknown; one of: {', '.join(SIZES)}")
  backbone = TwoTokenViT(*SIZES[size], patch_size, dtype, position_std, resample_positions, remat)
  return TwoTokenNet(backbone, head)

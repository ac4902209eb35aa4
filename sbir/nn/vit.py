"""The plain Vision Transformer (Dosovitskiy et al., arXiv:2010.11929), pre-norm, as timm has it."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir.nn.attention import SelfAttention
from sbir.nn.layers import LayerNorm, gelu, per_token
from sbir.types import UserError

# name: width, depth, heads. tiny, small: DeiT (arXiv:2012.12877) table 1; base: ViT table 1.
# micro is ours, for two CPU cores; nano only to see in a minute whether all of a command works.
SIZES = {
  "nano": (48, 1, 3),
  "micro": (96, 3, 3),
  "tiny": (192, 12, 3),
  "small": (384, 12, 6),
  "base": (768, 12, 12),
}


def patchify(images: Float[Array, "b h w 3"], patch: int) -> Float[Array, "b n p"]:
  """Returns the patches in row-major order, each flattened as (row, column, channel)."""
  b, h, w, c = images.shape
  grid = images.reshape(b, h // patch, patch, w // patch, patch, c)
  return grid.transpose(0, 1, 3, 2, 4, 5).reshape(b, (h // patch) * (w // patch), patch * patch * c)


class Mlp(nn.Module):
  """Linear, exact (erf) GELU, Linear; four times wider inside."""

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    width = tokens.shape[-1]
    hidden = gelu(per_token(nn.Dense(4 * width, dtype=self.dtype, name="fc1"), tokens))
    return per_token(nn.Dense(width, dtype=self.dtype, name="fc2"), hidden)


class Block(nn.Module):
  """x + attention(norm(x)), then x + mlp(norm(x)). LayerNorm epsilon 1e-6 (timm).

  Where only the first `num_out` tokens are wanted of the last block, it need not compute others.
  """

  num_heads: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Float[Array, "b n d"], num_out: int | None = None
  ) -> Float[Array, "b m d"]:
    normed = LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm_1")(tokens)
    gathered = SelfAttention(self.num_heads, self.dtype, name="attention")(normed, num_out)
    tokens = tokens[:, :num_out] + gathered
    normed = LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm_2")(tokens)
    return tokens + Mlp(self.dtype, name="mlp")(normed)


def block_class(remat: bool) -> type[Block]:
  """Returns `Block`, or with `remat` the same that keeps only its input for the backward pass."""
  return nn.remat(Block, static_argnums=2) if remat else Block  # 2: num_out; 0 is the module


class ViT(nn.Module):
  """Returns all tokens after the final LayerNorm: the class token at 0, then the patches by row.

  The patch embedding is a reshape and a matrix product: the numbers of the strided convolution it
  stands for, and a far faster backward pass on CPU. Parameters are float32; `dtype` is what the
  matrix products run in, and the output is float32.

  `position_std` is the spread that positional embeddings start with. 0.02 is published and right
  for weights from a file; but beside patches of size 1 it hides where a stroke is, and a network
  that starts from random weights learns several times faster with 1.

  With `remat` a training step keeps of each block only what goes in, and computes the rest again
  in the backward pass: a fraction of the memory for about a third more time.
  """

  width: int
  depth: int
  num_heads: int
  patch_size: int
  dtype: jnp.dtype = jnp.float32
  position_std: float = 0.02
  remat: bool = False

  @nn.compact
  def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
    b, num_patches = images.shape[0], check_image_size(images.shape[1:3], self.patch_size)
    patches = patchify(images.astype(self.dtype), self.patch_size)
    embedded = per_token(nn.Dense(self.width, dtype=self.dtype, name="patch_embed"), patches)
    token_init = nn.initializers.truncated_normal(0.02)
    cls_token = self.param("cls_token", token_init, (1, 1, self.width))
    position_init = nn.initializers.truncated_normal(self.position_std)
    pos_embed = self.param("pos_embed", position_init, (1, num_patches + 1, self.width))
    cls_tokens = jnp.broadcast_to(cls_token.astype(self.dtype), (b, 1, self.width))
    tokens = jnp.concatenate([cls_tokens, embedded], axis=1) + pos_embed.astype(self.dtype)
    block = block_class(self.remat)
    for i in range(self.depth):
      tokens = block(self.num_heads, self.dtype, name=f"block_{i}")(tokens, None)
    return LayerNorm(epsilon=1e-6, dtype=jnp.float32, name="norm")(tokens)


def check_image_size(size: tuple[int, int], patch_size: int) -> int:
  """Returns how many patches an image of `size` (height, width) has, or raises UserError."""
  for side in size:
    if side % patch_size:
      lower = side - side % patch_size
      nearest = f"{lower} or {lower + patch_size}" if lower else f"{patch_size}"
      raise UserError(
        f"image_size={side} must divide by patch_size={patch_size}; nearest: {nearest}"
      )
  return (size[0] // patch_size) * (size[1] // patch_size)


def vit(
  size: str,
  patch_size: int,
  dtype: jnp.dtype = jnp.float32,
  position_std: float = 0.02,
  remat: bool = False,
) -> ViT:
  """Returns the ViT of a published size by name: "tiny", "small", "base"; ours: "micro", "nano"."""
  if size not in SIZES:
    raise UserError(f"vit size {size!r} is unknown; one of: {', '.join(SIZES)}")
  width, depth, num_heads = SIZES[size]
  return ViT(width, depth, num_heads, patch_size, dtype, position_std, remat)

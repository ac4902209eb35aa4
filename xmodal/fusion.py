"""The networks: a teacher that fuses photo and sketch by cross-attention, and a student."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sbir.nn.attention import attend
from sbir.nn.vit import ViT

Tokens = Float[Array, "b n d"]  # the class token first, then the patches
Token = Float[Array, "b d"]
Keep = Bool[Array, "b n"]  # which patches the other modality may look at


class TokenAttention(nn.Module):
  """Returns what one token reads from a context: CA(LN([token ; context])) of the method's notes.

  The token itself is among the keys. No bias on query, key and value; LayerNorm epsilon 1e-5.
  """

  num_heads: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, token: Token, context: Tokens, keep: Keep | None = None) -> Token:
    width = token.shape[-1]
    tokens = jnp.concatenate([token[:, None], context], axis=1)
    normed = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(tokens)
    project = lambda name, x: nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)(x)
    query = project("query", normed[:, :1])
    key, value = project("key", normed), project("value", normed)
    if keep is not None:
      keep = jnp.concatenate([jnp.ones_like(keep[:, :1]), keep], axis=1)
    read = attend(query, key, value, self.num_heads, keep)[:, 0]
    return nn.Dense(width, dtype=self.dtype, name="out")(read)


class TokenUpdate(nn.Module):
  """One direction of a cross-modal layer: c <- G(q + CA(LN([q ; context]))) with q = F c.

  F and G start orthogonal: three layers are six linear maps in a row, and a product of six random
  matrices squeezes all class tokens into a few directions, from which training did not recover.
  """

  num_heads: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, token: Token, context: Tokens, keep: Keep | None = None) -> Token:
    width = token.shape[-1]
    linear = functools.partial(nn.Dense, kernel_init=nn.initializers.orthogonal(), dtype=self.dtype)
    query = linear(width, name="transform")(token)
    read = TokenAttention(self.num_heads, self.dtype, name="attention")(query, context, keep)
    return linear(width, name="project")(query + read)


class Fusion(nn.Module):
  """Returns the fused photo and sketch class tokens, z_p and z_s.

  Each layer lets the sketch's class token ask the photo's patches and the photo's class token the
  sketch's; patches pass through unchanged. `order="parallel"` (the paper): both from the same
  input, so z_p depends on (photo class token, sketch patches) alone and z_s on the reverse.
  `order="sequential"` (the released code, xmodal-vit@11426c9; its checkpoints need it): the sketch
  token is updated first and then stands in front of the sketch patches that the photo token asks.
  """

  depth: int
  num_heads: int
  order: str = "parallel"
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    photo: Tokens,
    sketch: Tokens,
    photo_keep: Keep | None = None,
    sketch_keep: Keep | None = None,
  ) -> tuple[Token, Token]:
    photo_token, photo_patches = photo[:, 0], photo[:, 1:]
    sketch_token, sketch_patches = sketch[:, 0], sketch[:, 1:]
    for i in range(self.depth):
      update_sketch = TokenUpdate(self.num_heads, self.dtype, name=f"sketch_update_{i}")
      update_photo = TokenUpdate(self.num_heads, self.dtype, name=f"photo_update_{i}")
      sketch_token = update_sketch(sketch_token, photo_patches, photo_keep)
      context, keep = sketch_patches, sketch_keep
      if self.order == "sequential":
        context = jnp.concatenate([sketch_token[:, None], sketch_patches], axis=1)
        if keep is not None:
          keep = jnp.concatenate([jnp.ones_like(keep[:, :1]), keep], axis=1)
      photo_token = update_photo(photo_token, context, keep)
    return photo_token.astype(jnp.float32), sketch_token.astype(jnp.float32)


class Teacher(nn.Module):
  """Two encoders that share nothing, and the fusion of what they see."""

  photo_encoder: ViT
  sketch_encoder: ViT
  fusion: Fusion

  def encode_photo(self, photo: Float[Array, "b h w 3"]) -> Tokens:
    """Returns the photo's tokens."""
    return self.photo_encoder(photo)

  def encode_sketch(self, sketch: Float[Array, "b h w 3"]) -> Tokens:
    """Returns the sketch's tokens."""
    return self.sketch_encoder(sketch)

  def fuse(
    self,
    photo: Tokens,
    sketch: Tokens,
    photo_keep: Keep | None = None,
    sketch_keep: Keep | None = None,
  ) -> tuple[Token, Token]:
    """Returns z_p and z_s of encoded pairs."""
    return self.fusion(photo, sketch, photo_keep, sketch_keep)

  def __call__(
    self, photo: Float[Array, "b h w 3"], sketch: Float[Array, "b h w 3"]
  ) -> tuple[Token, Token]:
    """Returns z_p and z_s of pairs of images."""
    return self.fuse(self.encode_photo(photo), self.encode_sketch(sketch))


class Student(nn.Module):
  """A small ViT for one modality: class token -> LayerNorm -> Linear into the fused space."""

  encoder: ViT
  embed_dim: int

  @nn.compact
  def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b e"]:
    cls_token = self.encoder(images)[:, 0]
    normed = nn.LayerNorm(epsilon=1e-5, name="head_norm")(cls_token)
    return nn.Dense(self.embed_dim, name="head")(normed)

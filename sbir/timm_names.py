"""Our ViT's parameters under timm's names: the other way round than `pretrained.convert_vit`."""

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from sbir import trees
from sbir.types import Params


class Name(NamedTuple):
  """How a leaf of ours is called and laid out in a torch state dict."""

  ours: str  # regular expression of the leaf's whole name
  theirs: str  # its groups filled in: r"blocks.\1.norm\2.weight"
  form: Callable[[np.ndarray], np.ndarray]


def same(array: np.ndarray) -> np.ndarray:
  """Returns tokens, a bias or a norm's scale as they are."""
  return array


def linear(kernel: np.ndarray) -> np.ndarray:
  """Returns our kernel [in, out] as torch's weight [out, in]."""
  return np.einsum("io->oi", kernel)


def _convolution(kernel: np.ndarray) -> np.ndarray:
  """Returns the patch embedding, rows (row, column, channel), as torch's [out, in, row, column]."""
  side = math.isqrt(kernel.shape[0] // 3)
  return np.einsum("hwio->oihw", kernel.reshape(side, side, 3, -1))


VIT = (
  Name(r"(cls_token|pos_embed)", r"\1", same),
  Name(r"patch_embed/kernel", r"patch_embed.proj.weight", _convolution),
  Name(r"patch_embed/bias", r"patch_embed.proj.bias", same),
  Name(r"block_(\d+)/norm_([12])/scale", r"blocks.\1.norm\2.weight", same),
  Name(r"block_(\d+)/norm_([12])/bias", r"blocks.\1.norm\2.bias", same),
  Name(r"block_(\d+)/attention/qkv/kernel", r"blocks.\1.attn.qkv.weight", linear),
  Name(r"block_(\d+)/attention/qkv/bias", r"blocks.\1.attn.qkv.bias", same),
  Name(r"block_(\d+)/attention/out/kernel", r"blocks.\1.attn.proj.weight", linear),
  Name(r"block_(\d+)/attention/out/bias", r"blocks.\1.attn.proj.bias", same),
  Name(r"block_(\d+)/mlp/(fc[12])/kernel", r"blocks.\1.mlp.\2.weight", linear),
  Name(r"block_(\d+)/mlp/(fc[12])/bias", r"blocks.\1.mlp.\2.bias", same),
  Name(r"norm/scale", r"norm.weight", same),
  Name(r"norm/bias", r"norm.bias", same),
)


def to_timm(encoder: Params) -> dict[str, np.ndarray]:
  """Returns the state dict of timm's VisionTransformer (no classifier) of our ViT's parameters.

  The same numbers bit for bit. timm: `create_model(..., num_classes=0).load_state_dict(...)`.
  Raises: ValueError if a leaf has no name there: it is not a plain ViT.
  """
  return renamed(encoder, VIT)


def renamed(params: Params, names: Sequence[Name]) -> dict[str, np.ndarray]:
  """Returns the leaves under the names and in the layout of a torch state dict."""
  found = {}
  for ours, leaf in trees.flatten(params).items():
    name, form = _find(names, ours)
    found[name] = np.ascontiguousarray(form(np.asarray(leaf)))
  return found


def below(ours: str, theirs: str, names: Sequence[Name]) -> tuple[Name, ...]:
  """Returns the names of the same leaves one level down; `ours` must hold no group."""
  return tuple(Name(ours + n.ours, theirs + n.theirs, n.form) for n in names)


def _find(names: Sequence[Name], leaf: str) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
  for name in names:
    if match := re.fullmatch(name.ours, leaf):
      return match.expand(name.theirs), name.form
  raise ValueError(f"{leaf} has no name in the state dict")

"""Where a ViT looks: what its token for retrieval reads from each patch in the last block."""

import math
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from sbir import trees
from sbir.types import Params


def class_attention(
  model: nn.Module,
  params: Params,
  images: Float[Array, "b s s 3"],
  *,
  token: int = 0,
  num_tokens: int = 1,
  method: Callable[..., Any] | None = None,
) -> Float[Array, "b n"]:
  """Returns how much a token attends to each patch in the last block, as the mean over heads.

  `token` is its place among the `num_tokens` in front of the patches, the class token's by default.
  The shares are those of a softmax: with what goes to these tokens themselves they sum to one.
  `method` is the one of `model` to call, such as one encoder of two.
  """
  _, sown = model.apply({"params": params}, images, mutable=["intermediates"], method=method)
  weights = _last_block(trees.flatten(sown["intermediates"]))
  return weights[:, :, token, num_tokens:].mean(axis=1)


def as_maps(shares: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b gh gw"]:
  """Returns the shares as square grids, each divided by its largest: in 0..1."""
  side = math.isqrt(shares.shape[1])
  maps = np.asarray(shares, np.float32).reshape(-1, side, side)
  return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)


def _last_block(sown: dict[str, Array]) -> Float[Array, "b h q k"]:
  """Returns the weights of the block with the highest number, of the only ViT that ran."""
  number = lambda name: int(found[1]) if (found := re.search(r"block_(\d+)/", name)) else -1
  return sown[max(sown, key=number)]

"""PSKD's network, of either stage, from the description that a package holds."""

from collections.abc import Mapping
from typing import Any

import jax

from pskd.model import Head, TwoTokenNet, TwoTokenViT, fusion_attention
from sbir.network import Attention, Images, Network, Outputs, blank, for_each
from sbir.network_config import ENCODER, LAYER, check_network
from sbir.types import Params

SPEC = {
  "encoder": ENCODER,
  "hidden": LAYER,
  "bottleneck": LAYER,
  "num_classes": (1, 1_000_000),
  "dino_posembed_resample": bool,
}


def build(network: Mapping[str, Any]) -> Network:
  """Returns the network of architecture "pskd": outputs "photo", the fusion token, "photo_dist",
  "photo_bottleneck" (unit vectors) and "photo_logits", and the same of sketches.

  Raises: UserError naming what is wrong in `network`.
  """
  check_network(network, SPEC)
  model = net_of(network)

  def init(key: jax.Array, image_size: int) -> Params:
    return model.init(key, blank(image_size))["params"]

  def forward(params: Params, images: Images) -> Outputs:
    embed = lambda pixels: model.apply({"params": params}, pixels)._asdict()
    return for_each(images, embed, "fusion")

  def attention(params: Params, images: Images) -> Attention:
    return {name: fusion_attention(model, params, pixels) for name, pixels in images.items()}

  return Network(init, forward, attention, ("photo", "sketch"))


def net_of(network: Mapping[str, Any]) -> TwoTokenNet:
  """Returns the Flax network of a checked description."""
  resample = network["dino_posembed_resample"]
  backbone = TwoTokenViT(**network["encoder"], resample_positions=resample)
  head = Head(network["num_classes"], network["hidden"], network["bottleneck"])
  return TwoTokenNet(backbone, head)

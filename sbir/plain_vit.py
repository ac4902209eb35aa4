"""A plain ViT as a network of its own: its class token is the embedding, of photos and sketches."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from sbir.network import Attention, Images, Network, Outputs, blank, for_each
from sbir.network_config import ENCODER, LAYER, check_network, make_encoder
from sbir.nn.class_attention import class_attention
from sbir.nn.dino_head import DinoHead
from sbir.nn.vit import ViT
from sbir.types import Params, UserError

SPEC = {"encoder": ENCODER, "hidden": (0, LAYER[1]), "bottleneck": (0, LAYER[1])}


class PlainViT(nn.Module):
  """Returns the class token after the final norm, and DINO's bottleneck where there is a head."""

  encoder: ViT
  head: DinoHead | None

  def __call__(self, images: Float[Array, "b h w 3"]) -> dict[str, Array]:
    cls_token = self.encoder(images)[:, 0]
    if self.head is None:
      return {"cls": cls_token}
    return {"cls": cls_token, "bottleneck": self.head(cls_token)}


def build(network: Mapping[str, Any]) -> Network:
  """Returns the network of architecture "vit": outputs "photo" and "sketch", the class token after
  the final norm; where `hidden` is not 0 also "photo_bottleneck", unit vectors of DINO's head.

  Its parameters are {"encoder": of the ViT}, with such a head also {"head": fc1, fc2, fc3}.

  Raises: UserError naming what is wrong in `network`.
  """
  check_network(network, SPEC)
  hidden, bottleneck = network["hidden"], network["bottleneck"]
  if bool(hidden) != bool(bottleneck):
    raise UserError(
      f"network.hidden={hidden} and network.bottleneck={bottleneck} must both be 0 (no head) or "
      "both more; correct one"
    )
  head = DinoHead(hidden, bottleneck) if hidden else None
  model = PlainViT(make_encoder(network["encoder"]), head)

  def init(key: jax.Array, image_size: int) -> Params:
    return model.init(key, blank(image_size))["params"]

  def forward(params: Params, images: Images) -> Outputs:
    return for_each(images, lambda pixels: model.apply({"params": params}, pixels), "cls")

  def attention(params: Params, images: Images) -> Attention:
    return {name: class_attention(model, params, pixels) for name, pixels in images.items()}

  return Network(init, forward, attention, ("photo", "sketch"))

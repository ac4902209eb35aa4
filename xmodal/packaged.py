"""XModalViT's networks from the description that a package holds."""

from collections.abc import Mapping
from typing import Any

import jax

from sbir.network import Attention, Images, Network, Outputs, blank, for_each
from sbir.network_config import ENCODER, LAYER, check_network, make_encoder
from sbir.nn.class_attention import class_attention
from sbir.types import Params, UserError
from xmodal.fusion import Fusion, Student, Teacher

MODALITIES = ("photo", "sketch")
ORDERS = ("parallel", "sequential")
TEACHER = {
  "encoder": ENCODER,
  "fusion_depth": (1, 256),
  "fusion_heads": (1, 1024),
  "fusion_order": ORDERS,
}
STUDENT = {"encoder": ENCODER, "embed_dim": LAYER, "modality": (*MODALITIES, "either")}
PAIR = {name: {"encoder": ENCODER, "embed_dim": LAYER} for name in MODALITIES}


def build_teacher(network: Mapping[str, Any]) -> Network:
  """Returns a teacher: photos and sketches together, outputs "photo" and "sketch" fused. Its
  attention is that of its two encoders, each of which sees its own image alone.

  Raises: UserError naming what is wrong in `network`.
  """
  check_network(network, TEACHER)
  encoder, heads = network["encoder"], network["fusion_heads"]
  if encoder["width"] % heads:
    raise UserError(
      f"network.fusion_heads={heads} must divide the width {encoder['width']}; correct it"
    )
  fusion = Fusion(network["fusion_depth"], heads, network["fusion_order"])
  model = Teacher(make_encoder(encoder), make_encoder(encoder), fusion)

  def init(key: jax.Array, image_size: int) -> Params:
    return model.init(key, blank(image_size), blank(image_size))["params"]

  def forward(params: Params, images: Images) -> Outputs:
    fused = model.apply({"params": params}, images["photo"], images["sketch"])
    return dict(zip(MODALITIES, fused, strict=True))

  def attention(params: Params, images: Images) -> Attention:
    ways = {"photo": Teacher.encode_photo, "sketch": Teacher.encode_sketch}
    look = lambda name: class_attention(model, params, images[name], method=ways[name])
    return {name: look(name) for name in images}

  return Network(init, forward, attention, MODALITIES, together=True)


def build_student(network: Mapping[str, Any]) -> Network:
  """Returns a student, of photos, of sketches, or of either with the same weights.

  Raises: UserError naming what is wrong in `network`.
  """
  check_network(network, STUDENT)
  model, modality = student_of(network), network["modality"]

  def init(key: jax.Array, image_size: int) -> Params:
    return model.init(key, blank(image_size))["params"]

  def forward(params: Params, images: Images) -> Outputs:
    embed = lambda pixels: {"embedding": model.apply({"params": params}, pixels)}
    return for_each(images, embed, "embedding")

  def attention(params: Params, images: Images) -> Attention:
    return {name: class_attention(model, params, pixels) for name, pixels in images.items()}

  return Network(init, forward, attention, MODALITIES if modality == "either" else (modality,))


def build_pair(network: Mapping[str, Any]) -> Network:
  """Returns the two students as one network; its parameters are {"photo": of one, "sketch": of the
  other}. Each takes its own images, alone or together with the other's.

  Raises: UserError naming what is wrong in `network`.
  """
  check_network(network, PAIR)
  models = {name: student_of(network[name]) for name in MODALITIES}
  photo, sketch = (network[name]["embed_dim"] for name in MODALITIES)
  if photo != sketch:
    raise UserError(
      f"network.photo.embed_dim={photo} must be network.sketch.embed_dim={sketch}, or their "
      "vectors cannot be compared; take students of one teacher"
    )

  def init(key: jax.Array, image_size: int) -> Params:
    keys = dict(zip(MODALITIES, jax.random.split(key), strict=True))
    return {
      name: model.init(keys[name], blank(image_size))["params"] for name, model in models.items()
    }

  def forward(params: Params, images: Images) -> Outputs:
    embed = lambda name: models[name].apply({"params": params[name]}, images[name])
    return {name: embed(name) for name in images}

  def attention(params: Params, images: Images) -> Attention:
    look = lambda name: class_attention(models[name], params[name], images[name])
    return {name: look(name) for name in images}

  return Network(init, forward, attention, MODALITIES)


def student_of(network: Mapping[str, Any]) -> Student:
  """Returns the Flax network of a checked description: a student's, or one side of a pair's."""
  return Student(make_encoder(network["encoder"]), network["embed_dim"])

"""The authors' released weights (acmmm22anonymous/PSKD@a505f9f) in the form of our network."""

from pskd.packaged import build
from sbir.pretrained import (
  Converted,
  Sizes,
  assemble,
  encoder_sizes,
  head_sizes,
  shape_of,
  with_heads,
)
from sbir.types import UserError
from sbir.vit_rules import DINO_HEAD_RULES, TIMM, TIMM_STRANGERS
from sbir.weight_rules import Arrays, Known, Rule, below, dense, sort_out, tokens

CLASSIFIER = "classifier"
NUM_TOKENS = 2
RELEASED = (
  Rule(r"backbone\.dist_img_token", "backbone/dist_token", tokens),
  Rule(r"backbone\.fusion_token", "backbone/fusion_token", tokens),
  *below(r"backbone\.", "backbone/", [rule for rule in TIMM if rule.ours != "cls_token"]),
  *below(r"head_fusion\.", "head/", DINO_HEAD_RULES),
  *dense(r"head_fusion\.fc", f"head/{CLASSIFIER}"),
)
RELEASED_DEAD = (Known(r"head(_dist.*)?\..*", "the dist token's head, never called"),)


def convert_released(arrays: Arrays, *, num_heads: int = 0, what: str) -> Converted:
  """Returns the network of a released checkpoint of either stage: architecture "pskd".

  Its positions are resampled in every forward pass as the released code does, which the weights
  were trained with. The number of heads (0: width / 64) cannot be read off the shapes.

  Source: acmmm22anonymous/PSKD@a505f9f vision_transformer.py, utils.MultiCropWrapper.
  Raises: UserError naming `what` and every entry that is not of that network, missing, or of a
    wrong shape; or a number of heads that cannot be.
  """
  found = sort_out(arrays, RELEASED, RELEASED_DEAD, TIMM_STRANGERS)
  return with_heads(assemble("pskd", found, _sizes, build, what=what), num_heads, what)


def _sizes(named: Arrays) -> Sizes:
  encoder, image_size = encoder_sizes(named, "backbone/", NUM_TOKENS)
  prototypes = shape_of(named, f"head/{CLASSIFIER}/kernel")
  if not prototypes:
    raise UserError("it has no classifier (head_fusion.fc.weight)")
  sizes = {**head_sizes(named, "head/"), "num_classes": prototypes[1]}
  return {"encoder": encoder, **sizes, "dino_posembed_resample": True}, image_size

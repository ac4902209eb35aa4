"""The authors' released weights (abhrac/xmodal-vit@11426c9) in the form of our networks."""

import re
from typing import Any

import numpy as np

from sbir.pretrained import Converted, Sizes, assemble, encoder_sizes, shape_of, with_heads
from sbir.types import UserError
from sbir.vit_rules import TIMM, TIMM_DEAD, TIMM_STRANGERS
from sbir.weight_rules import (
  Arrays,
  Known,
  Rule,
  below,
  dense,
  known_below,
  linear,
  norm,
  sort_out,
)
from xmodal.packaged import build_student, build_teacher

_BRANCH = r"transformer_enc_branch_[12]\."
_REPLACED = "never called: its network was replaced by the encoders"
TEACHER_DEAD = (
  Known(r"to_patch_embedding_branch_[12]\.1\.(weight|bias)", _REPLACED),
  Known(r"(pos_embedding|cls_token)_branch_[12]", _REPLACED),
  Known(r"mlp_head\.[01]\.(weight|bias)", "the pair score, never trained"),
  Known(_BRANCH + r"mlp_head\.[01]\.(weight|bias)", "a classifier that is never called"),
  *known_below(_BRANCH + r"encoder\.", TIMM_DEAD),
)
STUDENT_DEAD = known_below(r"encoder\.", TIMM_DEAD)
STUDENT = (
  *below(r"encoder\.", "encoder/", TIMM),
  *norm(r"mlp_head\.0", "head_norm"),
  *dense(r"mlp_head\.1", "head"),
)
MODALITIES = ("photo", "sketch", "either")


def _update_rules(update: str, transform: int, project: int, attend: int) -> tuple[Rule, ...]:
  """Returns the rules of one direction of a layer, which has these three of the layer's six parts;
  the leaf's name still holds the numbers of the block and of the layer in it."""
  layer = r"x_modal_transformers\.(\d{1,4})\.cross_attn_layers\.(\d{1,4})\."
  ours = rf"fusion/{update}_update_\1_\2"
  return (
    *dense(rf"{layer}{transform}", f"{ours}/transform"),
    *dense(rf"{layer}{project}", f"{ours}/project"),
    *norm(rf"{layer}{attend}\.norm", f"{ours}/attention/norm"),
    *dense(rf"{layer}{attend}\.fn\.to_out\.0", f"{ours}/attention/out"),
    *(
      Rule(rf"{layer}{attend}\.fn\.{theirs}\.weight", f"{ours}/attention/{name}/kernel", linear)
      for theirs, name in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"))
    ),
  )


TEACHER = (
  *below(r"transformer_enc_branch_1\.encoder\.", "photo_encoder/", TIMM),
  *below(r"transformer_enc_branch_2\.encoder\.", "sketch_encoder/", TIMM),
  *_update_rules("photo", 0, 1, 2),
  *_update_rules("sketch", 3, 4, 5),
)
_NUMBERED = re.compile(r"(fusion/(?:photo|sketch)_update)_(\d+)_(\d+)/(.*)")


def convert_teacher(
  arrays: Arrays, *, num_heads: int = 0, fusion_heads: int = 3, what: str
) -> Converted:
  """Returns a released teacher: architecture "xmodal-teacher", its fusion sequential.

  A block of several cross-attention layers becomes as many layers of ours, one after another. The
  number of heads of the encoders (0: width / 64) and of the fusion cannot be read off the shapes.

  Raises: UserError naming `what` and every entry that is not of a released teacher, missing, or of
    a wrong shape; or a number of heads that cannot be.
  """
  found = sort_out(arrays, TEACHER, TEACHER_DEAD, TIMM_STRANGERS)
  found = found._replace(named=_in_a_row(found.named))
  shaped = assemble("xmodal-teacher", found, _teacher_sizes, build_teacher, what=what)
  converted = with_heads(shaped, num_heads, what)
  width = converted.network["encoder"]["width"]
  if fusion_heads < 1 or width % fusion_heads:
    raise UserError(
      f"--fusion-heads {fusion_heads} must divide the width {width} of {what}; give another"
    )
  return converted._replace(network={**converted.network, "fusion_heads": fusion_heads})


def convert_student(
  arrays: Arrays, *, num_heads: int = 0, modality: str = "either", what: str
) -> Converted:
  """Returns a released student: architecture "xmodal-student", of photos, of sketches or of either;
  the file does not tell which.

  Raises: UserError naming `what` and every entry that is not of a released student, missing, or of
    a wrong shape; or a number of heads that cannot be.
  """
  if modality not in MODALITIES:
    raise UserError(f"modality {modality!r} is unknown; choose one of {', '.join(MODALITIES)}")
  found = sort_out(arrays, STUDENT, STUDENT_DEAD, TIMM_STRANGERS)
  shaped = assemble("xmodal-student", found, _student_sizes, build_student, what=what)
  converted = with_heads(shaped, num_heads, what)
  return converted._replace(network={**converted.network, "modality": modality})


def _in_a_row(named: Arrays) -> dict[str, np.ndarray]:
  """Returns the leaves with the layers of all blocks counted through: 1_0 of two a block is 2."""
  matches = {name: _NUMBERED.fullmatch(name) for name in named}
  num_layers = max((int(match[3]) + 1 for match in matches.values() if match), default=0)
  return {
    f"{match[1]}_{int(match[2]) * num_layers + int(match[3])}/{match[4]}" if match else name: leaf
    for (name, match), leaf in zip(matches.items(), named.values(), strict=True)
  }


def _teacher_sizes(named: Arrays) -> Sizes:
  encoder, image_size = encoder_sizes(named, "photo_encoder/")
  found = (re.match(r"fusion/\w+_update_(\d+)/", name) for name in named)
  depth = max((int(match[1]) + 1 for match in found if match), default=0)
  if not depth:
    raise UserError("it has no layer that fuses (x_modal_transformers)")
  network = {"encoder": encoder, "fusion_depth": depth, "fusion_heads": 1}
  return {**network, "fusion_order": "sequential"}, image_size


def _student_sizes(named: Arrays) -> Sizes:
  encoder, image_size = encoder_sizes(named, "encoder/")
  kernel = shape_of(named, "head/kernel")
  if not kernel:
    raise UserError("it has no last layer (mlp_head.1.weight)")
  network: dict[str, Any] = {"encoder": encoder, "embed_dim": kernel[1], "modality": "either"}
  return network, image_size

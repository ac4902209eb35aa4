"""The authors' released weights (abhrac/xmodal-vit@11426c9) in the form of our networks."""

import re
from collections.abc import Sequence

from sbir.pretrained import TIMM, TIMM_IGNORED, Arrays, Rule, convert, linear, vector
from sbir.types import Params

TEACHER_IGNORED = (
  # The patch embeddings, positions and class tokens of a network that was replaced by the encoders.
  r"to_patch_embedding_branch_[12]\.1\.(weight|bias)",
  r"(pos_embedding|cls_token)_branch_[12]",
  r"mlp_head\.[01]\.(weight|bias)",  # pair score, never trained
  r"transformer_enc_branch_[12]\.mlp_head\.[01]\.(weight|bias)",  # 125 classes, never used
  *(rf"transformer_enc_branch_[12]\.encoder\.{pattern}" for pattern in TIMM_IGNORED),
)
STUDENT_IGNORED = tuple(rf"encoder\.{pattern}" for pattern in TIMM_IGNORED)

# Of the six parts of a layer: which project the token into its query, update it, and attend.
_PARTS = {"photo_update": (0, 1, 2), "sketch_update": (3, 4, 5)}


def teacher_from_released(state_dict: Arrays, *, what: str = "this state dict") -> Params:
  """Returns the parameters of `fusion.Teacher`; its fusion must have order="sequential".

  A block of several cross-attention layers becomes as many layers of ours, one after another.

  Raises: UserError naming `what` and every entry that is not of the released teacher.
  """
  prefix = r"x_modal_transformers\.(\d+)\.cross_attn_layers\.(\d+)\."
  found = (re.match(prefix, name) for name in state_dict)
  layers = sorted({(int(match[1]), int(match[2])) for match in found if match})
  rules = [
    *_below(r"transformer_enc_branch_1\.encoder\.", "photo_encoder/", TIMM),
    *_below(r"transformer_enc_branch_2\.encoder\.", "sketch_encoder/", TIMM),
    *(rule for i, (block, layer) in enumerate(layers) for rule in _layer_rules(block, layer, i)),
  ]
  return convert(state_dict, rules, ignored=TEACHER_IGNORED, what=what)


def student_from_released(state_dict: Arrays, *, what: str = "this state dict") -> Params:
  """Returns the parameters of `fusion.Student`.

  Raises: UserError naming `what` and every entry that is not of a released student.
  """
  rules = [
    *_below(r"encoder\.", "encoder/", TIMM),
    *_norm(r"mlp_head\.0", "head_norm"),
    *_dense(r"mlp_head\.1", "head"),
  ]
  return convert(state_dict, rules, ignored=STUDENT_IGNORED, what=what)


def _layer_rules(block: int, layer: int, index: int) -> list[Rule]:
  rules = []
  for update, parts in _PARTS.items():
    prefix = rf"x_modal_transformers\.{block}\.cross_attn_layers\.{layer}"
    transform, project, attend = (rf"{prefix}\.{part}" for part in parts)
    ours = f"fusion/{update}_{index}"
    rules += _dense(transform, f"{ours}/transform")
    rules += _dense(project, f"{ours}/project")
    rules += _norm(rf"{attend}\.norm", f"{ours}/attention/norm")
    rules += _dense(rf"{attend}\.fn\.to_out\.0", f"{ours}/attention/out")
    for theirs, name in (("to_q", "query"), ("to_k", "key"), ("to_v", "value")):
      kernel = f"{ours}/attention/{name}/kernel"
      rules.append(Rule(rf"{attend}\.fn\.{theirs}\.weight", kernel, linear))
  return rules


def _dense(theirs: str, ours: str) -> list[Rule]:
  return [
    Rule(rf"{theirs}\.weight", f"{ours}/kernel", linear),
    Rule(rf"{theirs}\.bias", f"{ours}/bias", vector),
  ]


def _norm(theirs: str, ours: str) -> list[Rule]:
  return [
    Rule(rf"{theirs}\.weight", f"{ours}/scale", vector),
    Rule(rf"{theirs}\.bias", f"{ours}/bias", vector),
  ]


def _below(theirs: str, ours: str, rules: Sequence[Rule]) -> list[Rule]:
  """Returns the rules for the same network one level down; `theirs` must hold no group."""
  return [Rule(theirs + rule.theirs, ours + rule.ours, rule.form) for rule in rules]

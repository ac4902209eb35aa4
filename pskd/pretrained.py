"""Weights to begin from: DINO, a plain ViT, or the authors' own, in the form of our network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sbir import progress, trees
from sbir.pretrained import (
  TIMM,
  Arrays,
  Rule,
  check_heads,
  convert,
  from_augreg,
  linear,
  read_npz,
  tokens,
  vector,
)
from sbir.torch_file import read_torch, state_dict_of
from sbir.types import Params

DINO_HEAD = {0: "fc1", 2: "fc2", 4: "fc3"}  # places of the linear layers in their nn.Sequential
CLASSIFIER = "classifier"

_HEAD = tuple(
  Rule(rf"head\.mlp\.{place}\.{theirs}", f"head/{name}/{ours}", form)
  for place, name in DINO_HEAD.items()
  for theirs, ours, form in (("weight", "kernel", linear), ("bias", "bias", vector))
)


def below(theirs: str, ours: str, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
  """Returns the rules for the same network one level down; `theirs` must hold no group."""
  return tuple(Rule(theirs + r.theirs, ours + r.ours, r.form) for r in rules)


DINO = (*below(r"backbone\.", "backbone/", TIMM), *_HEAD)
DINO_IGNORED = (r"head\.last_layer\..*",)  # 65 536 outputs, which PSKD never calls

RELEASED = (
  Rule(r"backbone\.dist_img_token", "backbone/dist_token", tokens),
  Rule(r"backbone\.fusion_token", "backbone/fusion_token", tokens),
  *below(r"backbone\.", "backbone/", tuple(r for r in TIMM if r.ours != "cls_token")),
  *(Rule(r.theirs.replace("head", "head_fusion"), r.ours, r.form) for r in _HEAD),
  Rule(r"head_fusion\.fc\.weight", f"head/{CLASSIFIER}/kernel", linear),
  Rule(r"head_fusion\.fc\.bias", f"head/{CLASSIFIER}/bias", vector),
)
RELEASED_IGNORED = (
  r"head\..*",
  r"head_dist.*",
)  # the dist token's head: built, loaded, never called


def from_released(state_dict: Arrays, *, what: str = "this state dict") -> Params:
  """Returns the parameters of our network from a PSKD state dict (either stage).

  Source: acmmm22anonymous/PSKD@a505f9f vision_transformer.py, utils.MultiCropWrapper.
  Raises: UserError naming `what` and every entry that is not of that network.
  """
  return convert(state_dict, RELEASED, ignored=RELEASED_IGNORED, what=what)


def from_dino(state_dict: Arrays, *, what: str = "this state dict") -> Params:
  """Returns {"backbone": a plain ViT's parameters, "head": the MLP's} of a DINO checkpoint.

  That is the sub-dict `teacher` of a full checkpoint. Source: facebookresearch/dino.
  Raises: UserError naming `what` and every entry that has no place.
  """
  return convert(state_dict, DINO, ignored=DINO_IGNORED, what=what)


def warm_start(params: Params, *, kind: str, path: str, num_heads: int) -> Params:
  """Returns the fresh parameters `params`, or those that begin from the file of init.path.

  "augreg": a ViT .npz of Google's release, the backbone alone. "dino": DINO's full checkpoint (its
  `teacher`, names backbone.* and head.*) or its backbone file (names without "backbone."), as .pth
  or with those entries in an .npz. Where there is no head, the MLP stays random, and that is said
  on stderr.

  Raises: UserError naming the file if it is missing, unreadable, or of another network.
  """
  if kind == "random":
    return params
  what = f"init.path={path}"
  if kind == "augreg":
    check_heads(read_npz(path), num_heads, what)
    loaded = {"backbone": from_augreg(path)}
  else:
    is_npz = Path(path).suffix == ".npz"
    arrays = read_npz(path) if is_npz else state_dict_of(read_torch(path), what, "teacher")
    is_full = any(name.startswith("backbone.") for name in arrays)
    loaded = from_dino(arrays if is_full else _as_backbone(arrays), what=what)
  begun = begin_from(params, loaded, what=what)
  if "head" not in loaded:
    progress.say(f"{what} has no head: its MLP begins from random weights")
  return begun


def _as_backbone(arrays: Arrays) -> Arrays:
  return {f"backbone.{name}": array for name, array in arrays.items()}


def begin_from(params: Params, loaded: Mapping[str, Any], *, what: str) -> Params:
  """Returns fresh `params` with what `loaded` has: a plain ViT under "backbone", perhaps "head".

  Both tokens become the class token and its slot of the positions is there twice, so that they are
  one and the same at the start. The classifier stays random, and so does the MLP where `loaded`
  has no "head" (DINO's backbone file, or a ViT of another kind).

  Source: PSKD@a505f9f utils.restart_from_checkpoint_fd3.
  Raises: UserError naming `what` and every parameter that does not fit.
  """
  vit, fresh = dict(loaded["backbone"]), params["head"]
  if (cls_token := vit.pop("cls_token", None)) is not None:
    vit |= {"dist_token": cls_token, "fusion_token": cls_token}
  if (positions := vit.get("pos_embed")) is not None:
    vit["pos_embed"] = np.concatenate([positions[:, :1], positions], axis=1)
  head = {**loaded.get("head", fresh), CLASSIFIER: fresh[CLASSIFIER]}
  return trees.merge(params, {"backbone": vit, "head": head}, what=what)

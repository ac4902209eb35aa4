"""Weights to begin from: DINO, a plain ViT, or the authors' own, in the form of our network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pskd.packaged import build
from sbir import progress, trees
from sbir.pretrained import (
  Converted,
  Sizes,
  assemble,
  encoder_sizes,
  head_sizes,
  load_vit,
  read_npz,
  shape_of,
  with_heads,
)
from sbir.torch_file import read_torch, state_dict_of
from sbir.types import Params, UserError
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
  is_npz = kind == "augreg" or Path(path).suffix == ".npz"
  arrays = read_npz(path) if is_npz else state_dict_of(read_torch(path), what, "teacher")
  loaded = load_vit(arrays, kind, num_heads=num_heads, what=what)
  begun = begin_from(params, loaded, what=what)
  if "head" not in loaded:
    progress.say(f"{what} has no head: its MLP begins from random weights")
  return begun


def begin_from(params: Params, loaded: Mapping[str, Any], *, what: str) -> Params:
  """Returns fresh `params` with what `loaded` has: a plain ViT under "encoder", perhaps "head".

  Both tokens become the class token and its slot of the positions is there twice, so that they are
  one and the same at the start. The classifier stays random, and so does the MLP where `loaded`
  has no "head" (DINO's backbone file, or a ViT of another kind).

  Source: PSKD@a505f9f utils.restart_from_checkpoint_fd3.
  Raises: UserError naming `what` and every parameter that does not fit.
  """
  vit, fresh = dict(loaded["encoder"]), params["head"]
  cls_token, positions = vit.pop("cls_token"), vit["pos_embed"]
  vit |= {"dist_token": cls_token, "fusion_token": cls_token}
  vit["pos_embed"] = np.concatenate([positions[:, :1], positions], axis=1)
  head = {**loaded.get("head", fresh), CLASSIFIER: fresh[CLASSIFIER]}
  return trees.merge(params, {"backbone": vit, "head": head}, what=what)

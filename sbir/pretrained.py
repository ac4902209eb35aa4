"""Weights that others trained, in the form of our networks; an entry nobody expects is an error."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from sbir import plain_vit, trees
from sbir.network import Network, shapes_of
from sbir.network_config import REPAIR
from sbir.nn.positions import DINO_EXCESS, resample_grid
from sbir.nn.vit import check_image_size
from sbir.types import Params, UserError
from sbir.vit_rules import (
  AUGREG,
  AUGREG_DEAD,
  AUGREG_STRANGERS,
  DINO_DEAD,
  DINO_HEAD_RULES,
  DINO_STRANGERS,
  TIMM,
  TIMM_DEAD,
  TIMM_STRANGERS,
  augreg_heads,
  join_qkv,
)
from sbir.weight_rules import Arrays, Found, below, complaint, sort_out

VIT_KINDS = ("augreg", "timm", "dino", "deit")
HEAD_WIDTH = 64  # of one attention head, in every published ViT-Ti, S, B and L

Sizes = tuple[dict[str, Any], int]  # a network's description and its image size


class Converted(NamedTuple):
  """A checkpoint of others as one of our networks."""

  architecture: str  # "vit", "xmodal-teacher", "xmodal-student", "pskd"
  network: dict[str, Any]  # its description, which builds the network
  image_size: int
  params: Params  # the network's, float32
  used: tuple[str, ...]  # entries of theirs that are in `params`
  dead: dict[str, str]  # those that are left out by design, and why; no others are


def convert_vit(arrays: Arrays, kind: str, *, num_heads: int = 0, what: str) -> Converted:
  """Returns a plain ViT of one of VIT_KINDS: architecture "vit".

  "augreg": names of Google's .npz. "timm", "deit": names of timm, as DeiT's release has them too.
  "dino": the same, DINO's backbone file; or "backbone.*" and "head.*" of its full checkpoint (the
  entry "teacher"), then with the head's MLP.

  Sizes are read off the shapes. The number of attention heads shows in AugReg's files alone:
  elsewhere it is `num_heads`, or where that is 0 the width / 64 of all published ViTs.

  Raises: UserError naming `what` and all entries that are of no such ViT, missing, or of a wrong
    shape; or a number of heads that cannot be.
  """
  found = _sort_vit(arrays, kind)
  if kind == "augreg":
    num_heads = _told_heads(arrays, num_heads, what)
  shaped = assemble("vit", found, _vit_sizes, plain_vit.build, what=what)
  return with_heads(shaped, num_heads, what)


def _sort_vit(arrays: Arrays, kind: str) -> Found:
  if kind not in VIT_KINDS:
    raise UserError(f"kind {kind!r} is unknown; choose one of {', '.join(VIT_KINDS)}")
  if kind == "augreg":
    found = sort_out(arrays, below("", "encoder/", AUGREG), AUGREG_DEAD, AUGREG_STRANGERS)
    return found._replace(named=join_qkv(found.named))
  if kind != "dino":
    return sort_out(arrays, below("", "encoder/", TIMM), TIMM_DEAD, TIMM_STRANGERS)
  is_full = any(name.startswith("backbone.") for name in arrays)
  rules = below(r"backbone\." if is_full else "", "encoder/", TIMM)
  head = below(r"head\.", "head/", DINO_HEAD_RULES)
  return sort_out(arrays, (*rules, *head), DINO_DEAD, (*DINO_STRANGERS, *TIMM_STRANGERS))


def _vit_sizes(named: Arrays) -> Sizes:
  encoder, image_size = encoder_sizes(named, "encoder/")
  has_head = any(name.startswith("head/") for name in named)
  head = head_sizes(named, "head/") if has_head else {"hidden": 0, "bottleneck": 0}
  return {"encoder": encoder, **head}, image_size


def encoder_sizes(named: Arrays, prefix: str, num_tokens: int = 1) -> Sizes:
  """Returns {"width", "depth", "num_heads", "patch_size"} of the ViT below `prefix`, its heads 1 as
  shapes do not tell them, and the side of its images; before the patches are `num_tokens`.

  Raises: UserError if that cannot be read off the shapes.
  """
  kernel = shape_of(named, f"{prefix}patch_embed/kernel")
  positions = shape_of(named, f"{prefix}pos_embed")
  pattern = re.compile(re.escape(prefix) + r"block_(\d+)/.*")
  blocks = [int(match[1]) for match in map(pattern.fullmatch, named) if match]
  parts = {"patch embedding": kernel, "positions": positions, "blocks": blocks}
  if lost := [name for name, part in parts.items() if not part]:
    raise UserError(f"{prefix.rstrip('/')} has no {' and no '.join(lost)}")
  num, patch = max(positions[1] - num_tokens, 0), math.isqrt(kernel[0] // 3)
  side = math.isqrt(num)
  if side * side != num or not num:
    lacks_token = num_tokens == 1 and f"{prefix}cls_token" not in named
    raise UserError(
      f"{prefix}pos_embed has {positions[1]} positions, of them {num_tokens} for learnt tokens; "
      f"the other {num} are no square of patches{'; it has no class token' if lacks_token else ''}"
    )
  sizes = {"width": kernel[1], "depth": max(blocks) + 1, "num_heads": 1, "patch_size": patch}
  return sizes, side * patch


def shape_of(named: Arrays, name: str) -> tuple[int, ...]:
  """Returns the shape of a leaf, () where there is none of that name."""
  return named[name].shape if name in named else ()


def head_sizes(named: Arrays, prefix: str) -> dict[str, int]:
  """Returns {"hidden", "bottleneck"} of the MLP of DINO's head below `prefix`.

  Raises: UserError if it has no first or no third layer.
  """
  shapes = [shape_of(named, f"{prefix}{name}/kernel") for name in ("fc1", "fc3")]
  if not all(shapes):
    raise UserError(f"{prefix.rstrip('/')} has no kernel in {'fc3' if shapes[0] else 'fc1'}")
  return {"hidden": shapes[0][1], "bottleneck": shapes[1][1]}


def assemble(
  architecture: str,
  found: Found,
  read_sizes: Callable[[Arrays], Sizes],
  build: Callable[[Mapping[str, Any]], Network],
  *,
  what: str,
) -> Converted:
  """Returns `found` as the network that its shapes describe; its heads are still 1.

  Raises: UserError naming `what` and every entry that is too many, missing or of a wrong shape.
  """
  params = trees.unflatten(found.named)
  try:
    network, image_size = read_sizes(found.named)
    wrong = trees.misses(shapes_of(build(network), image_size), params)
  except UserError as error:
    reason = str(error).removesuffix(f"; {REPAIR}")
    raise UserError(complaint(found, [reason], what)) from None
  wrong = [line for line in wrong if line.split(" ")[0] not in found.spoilt]
  if wrong or found.misfits:
    raise UserError(complaint(found, wrong, what))
  return Converted(architecture, network, image_size, params, found.used, found.dead)


def with_heads(converted: Converted, num_heads: int, what: str) -> Converted:
  """Returns `converted` with so many attention heads, or where it is 0 with width / 64.

  Raises: UserError naming `what` if that does not divide its width.
  """
  encoder = converted.network["encoder"]
  width = encoder["width"]
  if not num_heads and width % HEAD_WIDTH:
    raise UserError(
      f"{what} does not tell its number of attention heads, and its width {width} is no multiple "
      f"of {HEAD_WIDTH}; give --heads N"
    )
  num_heads = num_heads or width // HEAD_WIDTH
  if num_heads < 0 or width % num_heads:
    raise UserError(
      f"{what} has width {width}, which {num_heads} attention heads do not divide; give another "
      "number of heads"
    )
  network = {**converted.network, "encoder": {**encoder, "num_heads": num_heads}}
  return converted._replace(network=network)


def _told_heads(arrays: Arrays, num_heads: int, what: str) -> int:
  """Returns the number of heads that an AugReg file tells, 0 if it has none to tell."""
  told = sorted(augreg_heads(arrays))
  if len(told) > 1:
    raise UserError(f"{what} has layers of {', '.join(map(str, told))} heads; fetch it again")
  if told and num_heads not in (0, told[0]):
    raise UserError(f"{what} has {told[0]} attention heads, not {num_heads}; leave --heads out")
  return told[0] if told else num_heads


def resample_positions(found: Converted, image_size: int) -> Converted:
  """Returns `found` for images of another size: each pos_embed resampled, all else as it is.

  Bicubic as PyTorch does it, to a size, with corners not aligned and no smoothing. A PSKD network
  that stretches its positions in every pass (dino_posembed_resample) does that once, here, as the
  released code at another size does, and then no more.

  Raises: UserError if `image_size` does not divide by the patch size.
  """
  if image_size == found.image_size:
    return found
  network, named = dict(found.network), trees.flatten(found.params)
  excess = DINO_EXCESS if network.get("dino_posembed_resample") else 0.0
  for name in [name for name in named if name.endswith("/pos_embed")]:
    parent = name.removesuffix("pos_embed")
    encoder = network["encoder"] if "encoder" in network else network[name.split("/")[0]]["encoder"]
    patch = encoder["patch_size"]
    if image_size < patch:
      raise UserError(f"image_size={image_size} has no patch of {patch}; give at least {patch}")
    check_image_size((image_size, image_size), patch)
    tokens = [other for other in named if re.fullmatch(re.escape(parent) + r"\w+_token", other)]
    side = image_size // patch
    named[name] = resample_grid(np.asarray(named[name]), len(tokens), side, excess=excess)
  if excess:
    network["dino_posembed_resample"] = False
  return found._replace(network=network, image_size=image_size, params=trees.unflatten(named))

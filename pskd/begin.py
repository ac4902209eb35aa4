"""Weights that a training of PSKD begins from."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pskd.pretrained import convert_released
from sbir import given_weights, progress, trees
from sbir.pretrained import VIT_KINDS
from sbir.types import Params, UserError

KINDS = (*VIT_KINDS, "pskd")
CLASSIFIER = "classifier"


def begin(
  config: Mapping[str, Any], params: Params, num_heads: int
) -> tuple[Params, dict[str, str]]:
  """Returns the parameters to begin from, and what versions.json says of where they are from.

  Of a plain ViT both tokens become the class token; of DINO's full checkpoint the head's MLP is
  taken too. Of a PSKD network all is taken, the classifier where it has as many classes. What then
  stays random is said on stderr.

  Raises: UserError if the weights cannot be read, or are not of this model.
  """
  init, what = config["init"], f"init.path={config['init']['path']}"
  if init["kind"] == "random":
    return params, {}
  convert = given_weights.vit_converters() | {"pskd": convert_released}
  given = given_weights.for_training(
    init, convert, num_heads=num_heads, image_size=config["image_size"]
  )
  found, loaded = given.converted, given.converted.params
  if found.architecture == "vit":
    begun = begin_from(params, loaded, what=what)
    if "head" not in loaded:
      progress.say(f"{what} has no head: its MLP begins from random weights")
  elif found.architecture == "pskd":
    _check_positions(config["model"], found.network, what)
    begun = _with_classes(params, loaded, what)
  else:
    raise UserError(
      f"{what} is a {found.architecture}, which has no place in PSKD's network; give a plain "
      "ViT or a PSKD network"
    )
  return begun, given.record(init["path"])


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


def _check_positions(model: Mapping[str, Any], network: Mapping[str, Any], what: str) -> None:
  key = "dino_posembed_resample"
  if model[key] != network[key]:
    raise UserError(
      f"{what} was trained with {key}={network[key]}; set --config.model.{key}="
      f"{str(network[key]).lower()}"
    )


def _with_classes(params: Params, loaded: Params, what: str) -> Params:
  """Returns the loaded network; its classifier only if it knows as many classes."""
  head, fresh = dict(loaded["head"]), params["head"][CLASSIFIER]
  theirs, ours = (classifier["bias"].shape[0] for classifier in (head[CLASSIFIER], fresh))
  if theirs != ours:
    head[CLASSIFIER] = fresh
    progress.say(f"{what} knows {theirs} classes, here are {ours}: the classifier begins anew")
  return trees.merge(params, {**loaded, "head": head}, what=what)

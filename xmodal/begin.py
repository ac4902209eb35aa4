"""Weights that a training of XModalViT begins from."""

import functools
from collections.abc import Mapping
from typing import Any

from sbir import given_weights, trees
from sbir.given_weights import Given
from sbir.pretrained import VIT_KINDS
from sbir.types import Params, UserError
from xmodal.pretrained import convert_student, convert_teacher

KINDS = (*VIT_KINDS, "xmodal-teacher", "xmodal-student")
FUSION = ("fusion_depth", "fusion_heads", "fusion_order")
ENCODERS = {  # where the ViTs are in each stage's parameters
  "teacher": ("photo_encoder", "sketch_encoder"),
  "student": ("encoder",),
  "baseline": ("photo/encoder", "sketch/encoder"),
}


def begin(
  config: Mapping[str, Any], params: Params, num_heads: int
) -> tuple[Params, dict[str, str]]:
  """Returns the parameters to begin from, and what versions.json says of where they are from.

  Those of a plain ViT go into the stage's encoders (a head of it goes nowhere), those of a whole
  XModalViT network into the same network, those of a student into both sides of the baseline too.
  `num_heads` is of the model's encoders.

  Raises: UserError if the weights cannot be read, or are not of this model.
  """
  init, what = config["init"], f"init.path={config['init']['path']}"
  if init["kind"] == "random":
    return params, {}
  fusion_heads = config["model"]["fusion_heads"] if config["stage"] == "teacher" else 0
  convert = given_weights.vit_converters() | {
    "xmodal-teacher": functools.partial(convert_teacher, fusion_heads=fusion_heads or 3),
    "xmodal-student": convert_student,
  }
  given = given_weights.for_training(
    init, convert, num_heads=num_heads, image_size=config["image_size"]
  )
  placed = _place(config, params, given, what)
  return trees.merge(params, placed, what=what), given.record(init["path"])


def _place(config: Mapping[str, Any], params: Params, given: Given, what: str) -> Params:
  """Returns `params` with the given ones where they belong in this stage's network."""
  stage, architecture = config["stage"], given.converted.architecture
  loaded = given.converted.params
  if architecture == "vit":
    named = trees.flatten(params)
    for path in ENCODERS[stage]:
      named = {n: leaf for n, leaf in named.items() if not n.startswith(f"{path}/")}
      named |= {f"{path}/{n}": leaf for n, leaf in trees.flatten(loaded["encoder"]).items()}
    return trees.unflatten(named)
  if architecture == "xmodal-teacher" and stage == "teacher":
    _check_fusion(config["model"], given.converted.network, what)
    return loaded
  if architecture == "xmodal-student" and stage != "teacher":
    return loaded if stage == "student" else {"photo": loaded, "sketch": loaded}
  if architecture == "xmodal-pair" and stage != "teacher":
    return loaded[config["modality"]] if stage == "student" else loaded
  raise UserError(
    f"{what} is a {architecture}, which has no place in a {stage}; give a plain ViT, or the "
    f"weights of a {stage}"
  )


def _check_fusion(model: Mapping[str, Any], network: Mapping[str, Any], what: str) -> None:
  differ = [f"model.{key}={network[key]}" for key in FUSION if model[key] != network[key]]
  if differ:
    raise UserError(
      f"{what} is of another fusion; set {', '.join(f'--config.{d}' for d in differ)}"
    )

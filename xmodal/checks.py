"""Refuses a config of XModalViT that cannot work, before anything is read, trained or written."""

from collections.abc import Mapping
from typing import Any

from sbir import settings
from sbir.given_weights import check_init
from sbir.optim import make_optimizer
from sbir.protocols import PROTOCOLS
from sbir.settings import (
  SEED,
  SHARE,
  SHARE_BELOW_ONE,
  SHARED,
  above_zero,
  at_least,
  check_numbers,
  check_word,
)
from sbir.types import UserError
from xmodal.begin import KINDS
from xmodal.packaged import MODALITIES

TARGETS = ("own", "photo", "sketch")
WEIGHTS = ("xaqc", "distance", "angle")
TRAINING = SHARED | {
  "model.patch_size": at_least(1),
  "model.position_std": above_zero(0.02),
  "model.fusion_depth": at_least(1),
  "model.fusion_heads": at_least(1),
  "model.embed_dim": at_least(1),
  "loss.temperature": above_zero(0.07),
  "loss.queue_size": at_least(0),
  "loss.photo_drop": SHARE_BELOW_ONE,
  "loss.sketch_drop": SHARE_BELOW_ONE,
  **{f"loss.{name}": at_least(0) for name in WEIGHTS},
  "cache.views": at_least(0),
  "augment.flip": SHARE,
  "augment.degrees": at_least(0),
  "augment.scale": at_least(0),
  "augment.shift": SHARE,
  "augment.gray": SHARE,
  "augment.jitter": SHARE,
  "augment.mean": SHARE,
  "augment.std": above_zero(0.5),
}
EVALUATION = {"seed": SEED, "batch_size": at_least(1), "grid_rows": at_least(1)}


def check_stage(config: Mapping[str, Any], stage: str, modality: str = "") -> None:
  """Raises UserError if `config` is another stage's or another method's, or of another modality.

  Where a modality is asked for, "photo" passes too: it is what the file of both students says.
  """
  settings.check_stage(config, "xmodal", stage)
  if not modality:
    return
  check_word("modality", config["modality"], MODALITIES)
  if config["modality"] not in ("photo", modality):
    raise UserError(
      f"modality={config['modality']} is not the {modality} that is trained here; use "
      f"python -m xmodal.train_{config['modality']}_student"
    )


def check_training(config: Mapping[str, Any]) -> None:
  """Raises UserError if the training that `config` describes cannot work, whatever the data."""
  check_numbers(config, TRAINING)
  check_init(config["init"], KINDS)
  make_optimizer(steps=config["steps"], **config["optimizer"])
  loss, batch_size = config["loss"], config["batch_size"]
  if "queue_size" in loss and not loss["queue_size"] and not loss["in_batch"]:
    raise UserError(
      "loss.queue_size=0 leaves no negatives, expected at least 1; "
      "or let the batch's other keys be negatives: --config.loss.in_batch=true"
    )
  if config["stage"] == "student":
    _check_student(config["modality"], loss)
  least, why = _least_batch(config)
  if batch_size < least:
    raise UserError(
      f"batch_size={batch_size} must be at least {least}: {why}; set --config.batch_size={least}"
    )


def check_evaluation(config: Mapping[str, Any]) -> None:
  """Raises UserError if the evaluation that `config` describes cannot work."""
  check_numbers(config, EVALUATION)
  check_word("protocol", config["protocol"], PROTOCOLS)


def _check_student(modality: str, loss: Mapping[str, Any]) -> None:
  check_word("modality", modality, MODALITIES)
  check_word("loss.target", loss["target"], TARGETS)
  if not any(loss[name] for name in WEIGHTS):
    raise UserError(
      "loss.xaqc, loss.distance and loss.angle are all 0, expected one above 0: nothing would be "
      "learnt; set --config.loss.xaqc=1"
    )


def _least_batch(config: Mapping[str, Any]) -> tuple[int, str]:
  """Returns the smallest batch that the losses of a stage can do with, and why."""
  if config["stage"] == "student":
    if config["modality"] == "photo":
      return 3, "an angle needs three photos"
    return 2, "a distance needs two sketches"
  if config["stage"] == "baseline" or not config["loss"]["queue_size"]:
    return 2, "one pair alone has no negatives"
  return 1, ""

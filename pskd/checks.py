"""Refuses a config of PSKD that cannot work, before anything is read, trained or written."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pskd.begin import KINDS
from pskd.tasks import FEATURES
from sbir.given_weights import check_init
from sbir.settings import (
  SEED,
  SHARE,
  SHARED,
  Range,
  above_zero,
  at_least,
  check_numbers,
  check_word,
)
from sbir.types import UserError

PROTOCOLS = ("zero_shot", "generalised")
CODES = ("training", "transductive", "released")
SELECTIONS = ("last", "best")
TRAINING = SHARED | {
  "epochs": at_least(1),
  "warmup_epochs": at_least(0),
  "skt_factor": at_least(1),
  "accumulation": at_least(1),
  "model.patch_size": at_least(1),
  "model.hidden": at_least(1),
  "model.bottleneck": at_least(1),
  "model.position_std": above_zero(0.02),
  "model.head_std": at_least(0),
  "model.prototype_std": above_zero(0.02),
  "loss.smoothing": Range("at least 0 and below 1", lambda number: 0 <= number < 1, 0.1),
  "loss.ila_group": at_least(0),
  "loss.skd": at_least(0),
  "loss.ce": at_least(0),
  "loss.ila": at_least(0),
  "cache.views": at_least(0),
  "augment.flip": SHARE,
  "augment.jitter": SHARE,
  "augment.gray": SHARE,
  "augment.blur": SHARE,
  "augment.solarise": SHARE,
  "optimizer.lr": above_zero(5e-4),
  "optimizer.min_lr": at_least(0),
  "optimizer.backbone_lr": at_least(0),
  "optimizer.weight_decay": at_least(0),
  "optimizer.weight_decay_end": at_least(0),
  "optimizer.clip_grad": at_least(0),
  "data.read_size": at_least(0),
  "data.validation_classes": at_least(0),
  "data.held_out_photos": at_least(0),
}
EVALUATION = {
  "seed": SEED,
  "batch_size": at_least(1),
  "grid_rows": at_least(1),
  "data.held_out_photos": at_least(0),
  "data.validation_classes": at_least(0),
  "codes.bits": Range(
    "0 (none) or a multiple of 8 from 16 to 256",
    lambda bits: bits == 0 or (16 <= bits <= 256 and bits % 8 == 0),
    64,
  ),
}


def check_training(config: Mapping[str, Any]) -> None:
  """Raises UserError if the training that `config` describes cannot work, whatever the data."""
  check_numbers(config, TRAINING)
  check_init(config["init"], KINDS)
  if config["warmup_epochs"] > config["epochs"]:
    raise UserError(
      f"warmup_epochs={config['warmup_epochs']} must be at most epochs={config['epochs']}; "
      f"set --config.warmup_epochs={config['epochs']}"
    )
  if config["stage"] == "student" and config["cache"]["views"] and not config["loss"]["skd"]:
    raise UserError(
      f"cache.views={config['cache']['views']} stores what the teacher says, and with loss.skd=0 "
      "nobody asks it; set --config.cache.views=0"
    )
  _check_augment(config["augment"])
  _check_micro_batches(config)
  if config["stage"] == "student" and not any(config["loss"][n] for n in ("skd", "ce", "ila")):
    raise UserError(
      "loss.skd, loss.ce and loss.ila are all 0, expected one above 0: nothing would be learnt; "
      "set --config.loss.ce=1"
    )


def check_evaluation(config: Mapping[str, Any]) -> None:
  """Raises UserError if the evaluation that `config` describes cannot work."""
  check_numbers(config, EVALUATION)
  check_word("protocol", config["protocol"], PROTOCOLS)
  check_word("feature", config["feature"], FEATURES)
  check_word("select", config["select"], SELECTIONS)
  check_word("codes.fit", config["codes"]["fit"], CODES)


def _check_augment(augment: Mapping[str, Any]) -> None:
  """Raises UserError unless what stands in brackets is as many numbers as it must be."""
  crop = augment["crop"]
  if not (_are_numbers(crop, 2) and 0 < crop[0] <= crop[1] <= 1):
    raise UserError(
      f"augment.crop={crop} must be two shares of the area, rising, above 0 and at most 1; "
      "for instance --config.augment.crop='(0.14, 1.0)'"
    )
  for key in ("mean", "std"):
    row = augment[key]
    if not _are_numbers(row, 3) or (key == "std" and min(row) <= 0):
      above = ", all above 0" if key == "std" else ""
      raise UserError(
        f"augment.{key}={row} must be three numbers{above}, one for each channel; "
        f"for instance --config.augment.{key}='(0.5, 0.5, 0.5)'"
      )


def _are_numbers(row: Sequence[Any], length: int) -> bool:
  is_number = lambda value: isinstance(value, int | float) and math.isfinite(value)
  return len(row) == length and all(map(is_number, row))


def _check_micro_batches(config: Mapping[str, Any]) -> None:
  """Raises UserError unless photos and sketches make micro-batches of one size, and groups."""
  photos, factor, num = config["batch_size"], config["skt_factor"], config["accumulation"]
  if num % factor:
    below = num - num % factor
    raise UserError(
      f"accumulation={num} must divide by skt_factor={factor}, for sketches make that many fewer "
      f"micro-batches; nearest: {below or factor} or {below + factor}"
    )
  if photos % num:
    below = photos - photos % num
    raise UserError(
      f"batch_size={photos} must divide by accumulation={num}; nearest: {below or num} or "
      f"{below + num}"
    )
  group = config["loss"]["ila_group"] if config["stage"] == "student" else 0
  if group and (photos // num) % group:
    raise UserError(
      f"loss.ila_group={group} must divide the {photos // num} samples of a micro-batch "
      f"(batch_size / accumulation); or use the whole: --config.loss.ila_group=0"
    )
  least = 2 if config["stage"] == "student" and config["loss"]["ila"] else 1
  if photos // num < least:
    raise UserError(
      f"batch_size={photos} makes micro-batches of {photos // num}, expected at least {least}: "
      f"instances are told apart within one; set --config.batch_size={least * num}"
    )

"""What the numbers of a config may be, so that one that cannot work is refused before all else."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from sbir.types import UserError

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Range(NamedTuple):
  """A set of numbers: in words, as a test, and one of them to recommend."""

  words: str
  holds: Callable[[float], bool]
  such_as: float


def at_least(least: float) -> Range:
  """Returns the numbers from `least` up."""
  return Range(f"at least {least}", lambda number: number >= least, least)


def above_zero(such_as: float) -> Range:
  """Returns the positive numbers."""
  return Range("above 0", lambda number: number > 0, such_as)


SHARE = Range("from 0 to 1", lambda number: 0 <= number <= 1, 0.5)
SHARE_BELOW_ONE = Range("at least 0 and below 1", lambda number: 0 <= number < 1, 0.9)
SEED = Range("from 0 to 4294967295", lambda number: 0 <= number < 2**32, 0)

SHARED = {  # the keys of configs/common.py, and those of every optimiser
  "steps": at_least(1),
  "seed": SEED,
  "batch_size": at_least(1),
  "image_size": at_least(1),
  "save_every": at_least(0),
  "log_every": at_least(0),
  "eval_every": at_least(0),
  "keep": at_least(1),
  "skip_nonfinite": at_least(0),
  "data.seed": SEED,
  "data.num_threads": at_least(0),
  "optimizer.learning_rate": above_zero(1e-4),
  "optimizer.weight_decay": at_least(0),
  "optimizer.warmup_steps": at_least(0),
  "optimizer.decay_rate": Range("above 0, at most 1", lambda number: 0 < number <= 1, 1.0),
  "optimizer.steps_per_epoch": at_least(1),
  "optimizer.clip_norm": at_least(0),
}


def check_numbers(config: Mapping[str, Any], ranges: Mapping[str, Range]) -> None:
  """Raises UserError naming every number of `config` that is out of its range.

  `ranges` is keyed by dotted names; a config need not have all of them.
  """
  misses = []
  for key, allowed in ranges.items():
    number = find(config, key)
    if number is not None and not (math.isfinite(number) and allowed.holds(number)):
      misses.append(
        f"{key}={number} must be {allowed.words}, for instance --config.{key}={allowed.such_as}"
      )
  if misses:
    raise UserError("; ".join(misses))


def check_word(key: str, word: str, choices: Iterable[str]) -> None:
  """Raises UserError if `word` is none of the choices."""
  if word not in choices:
    raise UserError(f"{key}={word!r} must be one of: {', '.join(choices)}")


def check_stage(config: Mapping[str, Any], method: str, stage: str) -> None:
  """Raises UserError if `config` is another stage's or another method's."""
  found = (config["method"], config["stage"]) if {"method", "stage"} <= set(config) else ("", "")
  if found != (method, stage):
    raise UserError(
      f"--config is that of {' '.join(found).strip() or 'something else'}, expected that of "
      f"{method} {stage}; give --config "
      f"configs/{method}/{stage.replace('evaluation', 'evaluate')}.py:NAME"
    )


def compute_dtype(name: str) -> jnp.dtype:
  """Returns what the towers' matrix products run in. Raises: UserError for another name."""
  check_word("compute_dtype", name, DTYPES)
  return DTYPES[name]


def find(config: Mapping[str, Any], key: str) -> Any:
  """Returns what a dotted name stands for in a config, or None where it has no such key."""
  for part in key.split("."):
    if part not in config:
      return None
    config = config[part]
  return config

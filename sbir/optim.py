"""Optimisers and learning-rate schedules, as plain functions of plain arguments."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from sbir.types import Params, UserError

OPTIMIZERS = ("adam_l2", "adamw")
SCHEDULES = ("constant", "exponential", "cosine")


def decay_mask(params: Params) -> Any:
  """Returns True where weight decay applies: everything but vectors (biases, norm scales)."""
  return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)


def make_schedule(
  name: str,
  *,
  learning_rate: float,
  steps: int,
  warmup_steps: int = 0,
  decay_rate: float = 0.99999,
  steps_per_epoch: int = 1,
) -> optax.Schedule:
  """Returns the learning rate as a function of the number of finished updates.

  "constant"; "exponential": multiplied by `decay_rate` after every `steps_per_epoch` updates (the
  published students: 0.99999 per epoch); "cosine": to zero over `steps`. Each may be preceded by
  `warmup_steps` of a straight line that starts one part above zero, so that no update is lost.
  """
  if name not in SCHEDULES:
    raise UserError(f"schedule={name!r} is unknown; choose one of {', '.join(SCHEDULES)}")
  if warmup_steps and not 0 < warmup_steps < steps:
    raise UserError(
      f"warmup_steps={warmup_steps} must lie between 0 and steps={steps}; "
      "set optimizer.warmup_steps=0 or raise steps"
    )
  if name == "constant":
    after = optax.constant_schedule(learning_rate)
  elif name == "exponential":
    after = optax.exponential_decay(learning_rate, steps_per_epoch, decay_rate, staircase=True)
  else:
    after = optax.cosine_decay_schedule(learning_rate, max(steps - warmup_steps, 1))
  if not warmup_steps:
    return after
  first = learning_rate / (warmup_steps + 1)
  warmup = optax.linear_schedule(first, learning_rate, warmup_steps)
  return optax.join_schedules([warmup, after], [warmup_steps])


def make_optimizer(
  name: str,
  *,
  learning_rate: float,
  weight_decay: float,
  steps: int,
  schedule: str = "constant",
  warmup_steps: int = 0,
  decay_rate: float = 0.99999,
  steps_per_epoch: int = 1,
  clip_norm: float = 0.0,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
) -> optax.GradientTransformation:
  """Returns the optimiser `name` under `schedule`; gradients are clipped first if `clip_norm` > 0.

  "adam_l2": weight decay is added to the gradient of every parameter, before Adam's moments (what
  torch.optim.Adam does, and what was published). "adamw": decay is decoupled and spares vectors.
  """
  rate = make_schedule(
    schedule,
    learning_rate=learning_rate,
    steps=steps,
    warmup_steps=warmup_steps,
    decay_rate=decay_rate,
    steps_per_epoch=steps_per_epoch,
  )
  clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm > 0 else []
  adam = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)
  if name == "adam_l2":
    parts = [*clip, optax.add_decayed_weights(weight_decay), adam]
  elif name == "adamw":
    parts = [*clip, adam, optax.add_decayed_weights(weight_decay, mask=decay_mask)]
  else:
    raise UserError(f"optimizer={name!r} is unknown; choose one of {', '.join(OPTIMIZERS)}")
  return optax.chain(*parts, optax.scale_by_learning_rate(rate))

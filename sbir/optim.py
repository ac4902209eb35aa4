"""Optimisers and learning-rate schedules, as plain functions of plain arguments."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

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


def cosine_table(
  first: float, last: float, steps: int, *, warmup_steps: int = 0
) -> Float[np.ndarray, "steps"]:
  """Returns one number a step: a straight line from 0 to `first` over `warmup_steps`, then a half
  cosine from `first` towards `last`, which it would reach one step after the end.

  The very first step of a warm-up has 0, its last `first`; with warmup_steps = steps there is no
  cosine. Source: DINO's cosine_scheduler, as PSKD uses it for learning rate and weight decay.
  """
  line = np.linspace(0, first, warmup_steps)
  left = steps - warmup_steps
  turn = 1 + np.cos(np.pi * np.arange(left) / max(left, 1))
  return np.concatenate([line, last + 0.5 * (first - last) * turn])


def tabled(table: Float[np.ndarray, "steps"]) -> optax.Schedule:
  """Returns the schedule that reads `table` at the number of finished updates, then its last."""
  values = np.asarray(table, np.float32)
  return lambda count: jnp.asarray(values)[jnp.minimum(count, len(values) - 1)]


def clip_each(max_norm: float) -> optax.GradientTransformation:
  """Returns a transformation that scales every tensor by itself to a norm of at most `max_norm`.

  By min(1, max_norm / (norm + 1e-6)). Source: DINO's clip_gradients.
  """

  def clip(grad: Array) -> Array:
    return grad * jnp.minimum(1.0, max_norm / (jnp.linalg.norm(grad.ravel()) + 1e-6))

  return optax.stateless(lambda grads, _: jax.tree.map(clip, grads))

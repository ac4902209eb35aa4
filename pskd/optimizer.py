"""PSKD's AdamW: backbone at a fraction of the rate, vectors without decay, each tensor clipped."""

import optax

from sbir import trees
from sbir.optim import clip_each, cosine_table, decay_mask, tabled
from sbir.types import Params

BACKBONE = r"^backbone/"


def make_optimizer(
  *,
  steps: int,
  warmup_steps: int,
  lr: float,
  min_lr: float,
  backbone_lr: float,
  weight_decay: float,
  weight_decay_end: float,
  clip_grad: float,
) -> optax.GradientTransformation:
  """Returns the published optimiser for `steps` updates.

  Four groups: {backbone, rest} x {decayed, not}. The backbone's rate is `backbone_lr` times that
  of the rest; biases and norm scales, the vectors, are not decayed, tokens and positions are. The
  rate rises on a straight line from 0 to `lr` and falls in a half cosine to `min_lr`; the decay
  goes from `weight_decay` to `weight_decay_end` in a half cosine over the whole run. `clip_grad`
  bounds the gradient norm of every tensor by itself; 0: no clipping.

  Source: PSKD@a505f9f main_secondstage.py and utils.get_params_groups.
  """
  return with_tables(
    tabled(cosine_table(lr, min_lr, steps, warmup_steps=warmup_steps)),
    tabled(cosine_table(weight_decay, weight_decay_end, steps)),
    backbone_lr=backbone_lr,
    clip_grad=clip_grad,
  )


def with_tables(
  rate: optax.ScalarOrSchedule,
  decay: optax.ScalarOrSchedule,
  *,
  backbone_lr: float,
  clip_grad: float,
) -> optax.GradientTransformation:
  """Returns the optimiser under any schedules of learning rate and weight decay."""
  clip = [clip_each(clip_grad)] if clip_grad > 0 else []
  return optax.chain(
    *clip,
    optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
    optax.add_decayed_weights(decay, mask=decay_mask),
    optax.masked(optax.scale(backbone_lr), is_backbone),
    optax.scale_by_learning_rate(rate),
  )


def is_backbone(params: Params) -> Params:
  """Returns a tree of bools: True for the parameters that learn at the backbone's rate."""
  return trees.mask_by_pattern(params, BACKBONE)

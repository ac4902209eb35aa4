"""Whether a run is still well: followed on the device, so that nothing waits for it, and told."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sbir import trees
from sbir.types import Params, Scalar

NUM_GROUPS_SHOWN = 6


class Health(NamedTuple):
  """What is known of all steps so far."""

  first_bad: Int[Array, ""]  # the step after which too many in a row were bad; 0 while all is well
  last_finite: Float[Array, ""]  # the newest finite loss before that
  finite: Bool[Array, "leaves+1"]  # of that step: of each parameter's gradient, and of the loss
  in_a_row: Int[Array, ""]  # bad steps, up to the newest
  skipped: Int[Array, ""]  # bad steps in all


def good_health(params: Params) -> Health:
  """Returns the health before the first step, on the host."""
  num = len(jax.tree.leaves(params)) + 1
  zero = np.int32(0)
  return Health(zero, np.float32(np.nan), np.ones(num, bool), zero, zero)


@jax.jit
def watch(
  health: Health, step: Scalar, loss: Scalar, finite: Bool[Array, "n"], allowed: Scalar
) -> Health:
  """Returns the health after `step`; once more than `allowed` steps in a row were bad, it stays as
  it was found."""
  is_good = jnp.all(finite)
  in_a_row = jnp.where(is_good, 0, health.in_a_row + 1)
  after = Health(
    first_bad=jnp.where(in_a_row > allowed, step, 0),
    last_finite=jnp.where(jnp.isfinite(loss), loss, health.last_finite),
    finite=finite,
    in_a_row=in_a_row,
    skipped=health.skipped + ~is_good,
  )
  return jax.tree.map(lambda new, old: jnp.where(health.first_bad == 0, new, old), after, health)


def diagnosis(health: Health, params: Params) -> str:
  """Returns what went wrong, "" if nothing did: the step, the last finite loss, and which groups of
  parameters have a gradient that is not finite."""
  if not int(health.first_bad):
    return ""
  more = f", {int(health.in_a_row)} steps in a row" if int(health.in_a_row) > 1 else ""
  where = bad_groups(params, np.asarray(health.finite)[:-1])
  groups = f"gradients of {where}" if where else "no gradient, the loss alone"
  return (
    f"loss or gradient is not finite at step {int(health.first_bad)}{more}, the last finite loss "
    f"was {float(health.last_finite):.6g}; not finite: {groups}"
  )


def bad_groups(params: Params, finite: Sequence[bool]) -> str:
  """Returns the groups (names without their last part) of the leaves that are not finite."""
  names = [name for name, is_good in zip(trees.flatten(params), finite, strict=True) if not is_good]
  groups = list(dict.fromkeys(name.rpartition("/")[0] or name for name in names))
  if names and len(names) == len(finite):
    return f"all {len(groups)} groups of parameters"
  more = len(groups) - NUM_GROUPS_SHOWN
  return ", ".join(groups[:NUM_GROUPS_SHOWN]) + (f" and {more} more" if more > 0 else "")

"""One update as a pure, jitted function, and the state it maps."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from sbir.mesh import make_mesh, replicated
from sbir.task import Task
from sbir.types import Batch, Extra, Key, Params, Scalar

Metrics = dict[str, Scalar]
TrainStep = Callable[["TrainState", Params, Batch], tuple["TrainState", Metrics]]


class TrainState(NamedTuple):
  """All that a run is made of, beside the data iterator. `step` counts finished updates."""

  step: Int[Array, ""]
  params: Params
  opt_state: optax.OptState
  extra: Extra
  key: Key


def make_train_step(
  task: Task, optimizer: optax.GradientTransformation, mesh: Mesh | None = None
) -> TrainStep:
  """Returns the jitted `step(state, frozen, batch) -> (state, metrics)`; `state` is donated.

  Metrics hold "loss", "grad_norm" and what the task adds, as device scalars. The key of a step is
  fold_in(state.key, state.step), so a resumed run draws what the straight run drew.
  """

  def step(state: TrainState, frozen: Params, batch: Batch) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(state.key, state.step)
    loss_of = jax.value_and_grad(task.loss, has_aux=True)
    (loss, out), grads = loss_of(state.params, state.extra, frozen, batch, key)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads), **out.metrics}
    return TrainState(state.step + 1, params, opt_state, out.extra, state.key), metrics

  layout = replicated(make_mesh() if mesh is None else mesh)
  return jax.jit(step, donate_argnums=0, out_shardings=(layout, layout))


def init_state(
  task: Task, optimizer: optax.GradientTransformation, key: Key, batch: Batch
) -> TrainState:
  """Returns the state after no updates; pure, so `jax.eval_shape` of it costs nothing."""
  init_key, train_key = jax.random.split(key)
  params, extra = task.init(init_key, batch)
  return TrainState(jnp.int32(0), params, optimizer.init(params), extra, train_key)


class Health(NamedTuple):
  """Kept on the device so that nothing waits for it: the first bad step and the last good loss."""

  first_bad: Int[Array, ""]  # 0 while all is well
  last_finite: Float[Array, ""]


@jax.jit
def watch(health: Health, step: Scalar, loss: Scalar, grad_norm: Scalar) -> Health:
  """Returns the health after `step`; once bad, it stays as it was found."""
  is_good = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
  was_good = health.first_bad == 0
  first_bad = jnp.where(was_good & ~is_good, step, health.first_bad)
  return Health(first_bad, jnp.where(was_good & jnp.isfinite(loss), loss, health.last_finite))

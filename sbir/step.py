"""One update as a pure, jitted function, and the state it maps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int

from sbir.mesh import make_mesh, replicated
from sbir.task import Task
from sbir.types import Batch, Extra, Key, Params

Metrics = dict[str, Array]
TrainStep = Callable[["TrainState", Params, Batch], tuple["TrainState", Metrics]]


class TrainState(NamedTuple):
  """All that a run is made of, beside the data iterator. `step` counts finished updates."""

  step: Int[Array, ""]
  params: Params
  opt_state: optax.OptState
  extra: Extra
  key: Key


def make_train_step(
  task: Task,
  optimizer: optax.GradientTransformation,
  mesh: Mesh | None = None,
  *,
  layout: Any = None,
  skips_nonfinite: bool = False,
) -> TrainStep:
  """Returns the jitted `step(state, frozen, batch) -> (state, metrics)`; `state` is donated.

  Metrics hold "loss", "grad_norm", what the task adds, as device scalars, and "finite": bool[leaves
  + 1], whether the gradient of each parameter is finite, and the loss. The key of a step is
  fold_in(state.key, state.step), so a resumed run draws what the straight run drew.

  `layout` is that of the state (`sbir.layout`; default: whole on every device), and the step leaves
  it so. With `skips_nonfinite` an update that is not finite leaves everything as it was but `step`.
  """
  whole = replicated(make_mesh() if mesh is None else mesh)
  lay = jax.lax.with_sharding_constraint

  def step(state: TrainState, frozen: Params, batch: Batch) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(state.key, state.step)
    loss_of = jax.value_and_grad(task.loss, has_aux=True)
    params = state.params
    if layout is not None:  # every device needs all of both for its rows
      params, frozen = lay((params, frozen), whole)
    (loss, out), grads = loss_of(params, state.extra, frozen, batch, key)
    if layout is not None:
      grads = lay(grads, layout.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    squares = jnp.stack([jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(grads)])
    finite = jnp.isfinite(jnp.append(squares, loss))
    after = TrainState(state.step + 1, params, opt_state, out.extra, state.key)
    if skips_nonfinite:
      is_good = jnp.all(finite)
      kept = jax.tree.map(lambda new, old: jnp.where(is_good, new, old), after, state)
      after = kept._replace(step=after.step, key=state.key)
    norm = jnp.sqrt(jnp.sum(squares))
    return after, {"loss": loss, "grad_norm": norm, "finite": finite, **out.metrics}

  return jax.jit(step, donate_argnums=0, out_shardings=(layout or whole, whole))


def init_state(
  task: Task, optimizer: optax.GradientTransformation, key: Key, batch: Batch
) -> TrainState:
  """Returns the state after no updates; pure, so `jax.eval_shape` of it costs nothing."""
  init_key, train_key = jax.random.split(key)
  params, extra = task.init(init_key, batch)
  return TrainState(jnp.int32(0), params, optimizer.init(params), extra, train_key)

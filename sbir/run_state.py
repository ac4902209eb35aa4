"""The state of a run: made fresh, or taken from a checkpoint; and what of it is saved."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from sbir.checkpoint import Checkpoints
from sbir.layout import layout_of
from sbir.mesh import put, put_replicated
from sbir.step import TrainState, init_state
from sbir.task import Task
from sbir.types import Batch, Key, Params

# Fresh parameters -> those to begin from, and what versions.json says of the file they are from.
WarmStart = Callable[[Params], tuple[Params, Mapping[str, str]]]


def make_state(
  task: Task,
  optimizer: optax.GradientTransformation,
  key: Key,
  batch: Batch,
  mesh: Mesh,
  warm_start: WarmStart | None,
) -> tuple[TrainState, Mapping[str, str]]:
  """Returns the state a run begins with, on the mesh, and which file it is from."""
  init = functools.partial(init_state, task, optimizer)
  layout = layout_of(jax.eval_shape(init, key, batch), mesh)
  state = jax.jit(init, out_shardings=layout)(key, batch)
  if warm_start is None:
    return state, {}
  params, file = warm_start(put_replicated(state.params, mesh))
  return state._replace(params=put(params, layout.params)), file


def cut_layout(state: TrainState, mesh: Mesh) -> Any:
  """Returns the layout of a state that is cut over the mesh, None where all of it is whole."""
  return layout_of(state, mesh) if mesh.shape["fsdp"] > 1 else None


def beside_params(state: TrainState) -> dict[str, Any]:
  """Returns what is saved beside the parameters; the key as its numbers."""
  return {
    "step": state.step,
    "opt_state": state.opt_state,
    "extra": state.extra,
    "key": jax.random.key_data(state.key),
  }


def restore_state(
  checkpoints: Checkpoints,
  step: int,
  task: Task,
  optimizer: optax.GradientTransformation,
  key: Key,
  batch: Batch,
  mesh: Mesh,
) -> tuple[TrainState, Any]:
  """Returns the saved state, laid out on this mesh, and the data iterator's position."""

  def parts(key: Key, batch: Batch) -> tuple[Params, dict[str, Any]]:
    state = init_state(task, optimizer, key, batch)
    return state.params, beside_params(state)

  shapes = jax.eval_shape(parts, key, batch)
  shapes = jax.tree.map(
    lambda leaf, layout: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=layout),
    shapes,
    layout_of(shapes, mesh),
  )
  params, rest, position = checkpoints.restore(step, *shapes)
  key = jax.random.wrap_key_data(rest["key"])
  return TrainState(rest["step"], params, rest["opt_state"], rest["extra"], key), position

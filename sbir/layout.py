"""Which part of which array of the train state each device holds: rules over names.

Parameters and the optimiser's moments are cut over the mesh's axis "fsdp"; the same rule cuts a
parameter and its moments, whose names end alike. A step gathers the parameters, as every device
needs all of them for its rows of the batch, and cuts the gradients again before the update.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sbir.mesh import replicated
from sbir.types import UserError

# (regular expression found in a name, the axis to cut or None for whole). The first that is found
# decides; where none is, the largest axis that divides is cut, of arrays with MIN_SIZE numbers.
Rules = Sequence[tuple[str, int | None]]
RULES: Rules = (
  ("^extra/", None),  # every row of a batch meets all keys of a queue, all prototypes
)
MIN_SIZE = 4096  # below, an array is a bias or a norm: gathering it costs more than it saves


def layout_of(
  tree: Any, mesh: Mesh, rules: Rules = RULES, *, min_size: int = MIN_SIZE
) -> Any:  # a tree of NamedSharding
  """Returns the layout of every leaf of `tree` (arrays or their shapes), in its structure.

  Raises: UserError if a rule asks for an axis that is not there or does not divide.
  """
  num_shards = mesh.shape["fsdp"]
  if num_shards == 1:
    return jax.tree.map(lambda _: replicated(mesh), tree)

  def of_leaf(path: Any, leaf: Any) -> NamedSharding:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    axis = axis_to_cut(name, leaf.shape, num_shards, rules, min_size=min_size)
    cut = () if axis is None else (*(None,) * axis, "fsdp")
    return NamedSharding(mesh, PartitionSpec(*cut))

  return jax.tree_util.tree_map_with_path(of_leaf, tree)


def axis_to_cut(
  name: str,
  shape: Sequence[int],
  num_shards: int,
  rules: Rules = RULES,
  *,
  min_size: int = MIN_SIZE,
) -> int | None:
  """Returns which axis of the array `name` is cut into `num_shards`, None if it stays whole."""
  for pattern, axis in rules:
    if re.search(pattern, name):
      _check_axis(name, shape, num_shards, pattern, axis)
      return axis
  size = 1
  for length in shape:
    size *= length
  fitting = [axis for axis, length in enumerate(shape) if length % num_shards == 0]
  if size < min_size or not fitting:
    return None
  return max(fitting, key=lambda axis: (shape[axis], axis))


def _check_axis(
  name: str, shape: Sequence[int], num_shards: int, pattern: str, axis: int | None
) -> None:
  if axis is not None and (axis >= len(shape) or shape[axis] % num_shards):
    raise UserError(
      f"rule {pattern!r} cuts axis {axis} of {name} {tuple(shape)}, expected one that divides by "
      f"mesh.fsdp={num_shards}; change the rule or mesh.fsdp"
    )

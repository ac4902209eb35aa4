"""Which device holds what: one mesh ("data", "fsdp"), the batch split over both of its axes."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sbir.types import Batch, UserError

AXES = ("data", "fsdp")


def make_mesh(
  data: int = -1, fsdp: int = 1, *, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """Returns a mesh of data x fsdp devices (default: all there are); one -1 takes what is left."""
  devices = jax.devices() if devices is None else devices
  shape = fill(data, fsdp, len(devices))
  # Auto: with the default (Explicit) axes, Linen's Dropout raises.
  return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def fill(data: int, fsdp: int, num_devices: int) -> tuple[int, int]:
  """Returns (data, fsdp) with a -1 replaced; UserError unless they make exactly `num_devices`."""
  if data == -1 and fsdp > 0 and num_devices % fsdp == 0:
    data = num_devices // fsdp
  elif fsdp == -1 and data > 0 and num_devices % data == 0:
    fsdp = num_devices // data
  if data * fsdp != num_devices or data < 1:
    raise UserError(
      f"mesh.data={data} x mesh.fsdp={fsdp} does not make the {num_devices} devices there are; "
      f"use mesh.data=-1 mesh.fsdp=1"
    )
  return data, fsdp


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the layout of what every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
  """Returns the layout of a batch: its first axis is cut over all devices."""
  return NamedSharding(mesh, PartitionSpec(AXES))


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
  """Returns the host batch on the devices; each process brings its own share of the global batch.

  Raises: UserError if the batch does not divide by the devices of this process.
  """
  for batch_size in {len(value) for value in batch.values()}:
    check_batch_size(batch_size, len(mesh.local_devices))
  layout = split_batch(mesh)
  return {
    name: jax.make_array_from_process_local_data(layout, value) for name, value in batch.items()
  }


def check_batch_size(batch_size: int, num_devices: int) -> None:
  """Raises UserError unless every device gets as many rows of a batch."""
  if batch_size % num_devices:
    below = batch_size - batch_size % num_devices
    nearest = f"{below} or {below + num_devices}" if below else f"{num_devices}"
    raise UserError(
      f"batch_size={batch_size} must divide by {num_devices} devices; nearest: {nearest}"
    )


def put_replicated(tree: Any, mesh: Mesh) -> Any:
  """Returns the tree with every leaf whole on every device of the mesh."""
  return put(tree, replicated(mesh))


def put(tree: Any, layout: Any) -> Any:
  """Returns the tree laid out as `layout` says: one sharding, or a tree of them.

  Of several processes each brings the whole tree, or arrays that all of them share.
  """
  if all(sharding.is_fully_addressable for sharding in jax.tree.leaves(layout)):
    return jax.device_put(tree, layout)
  # device_put takes nothing to other processes' devices; a program's arguments are the same in all.
  return jax.jit(lambda leaves: leaves, out_shardings=layout)(tree)

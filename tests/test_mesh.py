import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from sbir import mesh
from sbir.types import UserError


@pytest.mark.parametrize(
  ("data", "fsdp", "shape"), [(-1, 1, (8, 1)), (2, -1, (2, 4)), (-1, 4, (2, 4)), (2, 4, (2, 4))]
)
def test_the_open_axis_takes_the_devices_that_are_left(data, fsdp, shape):
  assert mesh.fill(data, fsdp, 8) == shape


@pytest.mark.parametrize(("data", "fsdp"), [(3, 1), (-1, 3), (-1, -1), (0, 1), (-2, -4), (-1, 0)])
def test_a_mesh_that_the_devices_do_not_fill_is_refused(data, fsdp):
  with pytest.raises(UserError, match=f"mesh.data={data} x mesh.fsdp={fsdp} .* 8 devices"):
    mesh.fill(data, fsdp, 8)


def test_the_axes_leave_sharding_to_the_compiler():
  assert mesh.make_mesh().axis_types == (AxisType.Auto, AxisType.Auto)
  assert mesh.make_mesh().axis_names == ("data", "fsdp")


def test_a_batch_arrives_on_the_devices_as_it_was():
  batch = {"photo": np.arange(24, dtype=np.uint8).reshape(4, 3, 2), "id": np.arange(4)}
  put = mesh.put_batch(batch, mesh.make_mesh())
  jax.tree.map(np.testing.assert_array_equal, put, batch)
  assert put["photo"].dtype == np.uint8
  assert put["photo"].sharding.spec == PartitionSpec(("data", "fsdp"))

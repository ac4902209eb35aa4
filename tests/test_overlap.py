"""overlapped: order, what is alive when, rows that do not divide by the devices."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from sbir.mesh import make_mesh
from sbir.overlap import overlapped
from tests.lazy_results import Lazy
from tests.paths import REPO


def batches(num_batches, batch_size=2):
  """Yields batches whose row r of all rows holds r; the mask says something else."""
  for start in range(0, num_batches * batch_size, batch_size):
    rows = np.arange(start, start + batch_size, dtype=np.int32)
    yield {"rows": rows, "twice": 2.0 * rows.astype(np.float32), "mask": rows < 1}


@jax.jit
def both(batch):
  return {"sum": batch["rows"] + batch["twice"], "names": jax.numpy.int32(len(batch))}


@pytest.mark.parametrize("in_flight", [1, 2, 5])
@pytest.mark.parametrize("mesh", [None, make_mesh()])
def test_results_come_in_order_each_beside_its_batch(in_flight, mesh):
  out = list(overlapped(both, batches(4), mesh, in_flight=in_flight))
  np.testing.assert_array_equal(
    np.concatenate([result["sum"] for result, _ in out]), 3 * np.arange(8)
  )
  np.testing.assert_array_equal(np.concatenate([batch["rows"] for _, batch in out]), range(8))
  assert all(isinstance(result["sum"], np.ndarray) for result, _ in out)


def test_the_mask_stays_on_the_host():
  ((result, batch),) = overlapped(both, batches(1), make_mesh())
  assert result["names"] == 2 and set(batch) == {"rows", "twice", "mask"}


@pytest.mark.parametrize(
  ("in_flight", "expected"),
  [
    (1, "make 0, send 0, fetch 0, make 1, send 1, fetch 1, make 2, send 2, fetch 2"),
    (2, "make 0, send 0, make 1, send 1, fetch 0, make 2, send 2, fetch 1, fetch 2"),
    (3, "make 0, send 0, make 1, send 1, make 2, send 2, fetch 0, fetch 1, fetch 2"),
  ],
)
def test_a_result_is_fetched_once_the_next_batches_are_under_way(in_flight, expected):
  events = []

  def make():
    for number in range(3):
      events.append(f"make {number}")
      yield {"number": np.array([number])}

  def send(batch):
    events.append(f"send {int(batch['number'][0])}")
    return Lazy(int(batch["number"][0]), events)

  list(overlapped(send, make(), in_flight=in_flight))
  assert ", ".join(events) == expected


def test_rows_that_do_not_divide_by_the_devices_are_evened_and_cut_back():
  code = """if True:
    import jax, numpy as np
    from sbir.mesh import make_mesh
    from sbir.overlap import overlapped
    from tests.test_overlap import batches
    mesh, seen = make_mesh(), []
    def twice(batch):
      seen.append(batch["rows"].sharding.shard_shape(batch["rows"].shape))
      return {"a": 2 * batch["rows"], "b": [batch["twice"]]}
    for batch_size in (1, 3, 4, 5):
      out = list(overlapped(twice, batches(3, batch_size), mesh))
      for name in ("a", "b"):
        got = np.concatenate([r[name] if name == "a" else r[name][0] for r, _ in out])
        np.testing.assert_array_equal(got, 2 * np.arange(3 * batch_size))
    assert seen == [(1,)] * 9 + [(2,)] * 3, seen
  """
  flags = "--xla_force_host_platform_device_count=4"
  environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
  subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO, env=environment)


def test_no_batch_in_flight_is_refused():
  with pytest.raises(ValueError, match="in_flight=0 must be at least 1"):
    list(overlapped(both, batches(1), in_flight=0))

"""What the benchmarks time, count and divide."""

import time

import jax
import jax.numpy as jnp
import pytest

from benchmarks import flops, startup, steps, timing, xmrd_angle
from benchmarks.options import Options
from benchmarks.timing import Timing
from sbir.nn import attention


def test_ways_take_turns_after_a_warm_up_of_each():
  calls = []
  found = timing.interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
  assert "".join(calls) == "ab" + "ababab"
  assert len(found["a"].seconds) == len(found["b"].seconds) == 3


def test_the_warm_up_is_not_counted():
  waits = iter([0.2, 0.0])
  found = timing.interleaved({"a": lambda: time.sleep(next(waits))}, 1)
  assert found["a"].high < 0.2


class Pending:
  """A result that is not there until it is waited for."""

  def __init__(self, log):
    self._log = log

  def block_until_ready(self):
    self._log.append("waited")
    return self


def test_what_a_way_has_started_is_waited_for():
  log = []
  timing.interleaved({"a": lambda: Pending(log)}, 2)
  assert log == ["waited"] * 3


def test_the_median_is_given_with_the_fastest_and_the_slowest_turn():
  assert timing.timing([3.0, 1.0, 2.0]) == Timing(2.0, 1.0, 3.0, (3.0, 1.0, 2.0))
  rate = timing.rate(Timing(2.0, 1.0, 4.0, ()), 8)
  assert rate == {"median": 4.0, "low": 2.0, "high": 8.0}
  assert timing.spread(rate) == "4.00 (2.00 to 8.00)"
  assert timing.spread({"median": 12.0, "low": 9.0, "high": 14.0}) == "12.0 (9.0 to 14.0)"


def test_the_time_of_a_turn_is_that_of_one_of_its_steps():
  found = timing.interleaved({"a": lambda: time.sleep(0.01)}, 2, times=5)
  assert all(0.01 <= seconds < 0.03 for seconds in found["a"].seconds)


def test_ratios_are_of_turns_beside_each_other():
  fast, slow = timing.timing([1.0, 2.0, 10.0]), timing.timing([4.0, 4.0, 30.0])
  assert timing.times_faster(fast, slow) == {"median": 3.0, "low": 2.0, "high": 4.0}


def test_the_operations_of_a_matrix_product_are_those_by_hand():
  assert flops.of_function(jnp.matmul, jnp.zeros((8, 16)), jnp.zeros((16, 32))) == 2 * 8 * 16 * 32


def test_attention_is_counted_as_two_products_where_a_fused_kernel_does_it(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(attention, "_fits_cudnn", lambda *_: True)
  monkeypatch.setattr(attention, "_fused", lambda query, key, value: query)  # counts as nothing
  tokens = jnp.zeros((2, 16, 64))
  products = 2 * (2 * 2 * 16 * 16 * 64)
  assert (
    products <= flops.of_function(lambda x: attention.attend(x, x, x, 2), tokens) < 1.2 * products
  )


def test_the_peak_is_that_of_the_faster_product_by_dtype():
  lasting = lambda seconds: Timing(seconds, seconds, seconds, ())
  names = {
    "matmul 10 float32": 1.0,
    "matmul 20 float32": 4.0,
    "matmul 10 bfloat16": 0.5,
    "other": 1,
  }
  found = flops.peaks({name: lasting(seconds) for name, seconds in names.items()})
  assert found == {"float32": 4000.0, "bfloat16": 4000.0}


def test_the_peak_is_measured_in_the_dtypes_that_are_asked_for():
  products = flops.matmuls(("float32", "bfloat16"), Options(rehearse=True))
  assert {name: call().dtype.name for name, call in products.items()} == {
    "matmul 64 float32": "float32",
    "matmul 64 bfloat16": "bfloat16",
  }


def test_a_way_is_told_in_images_and_shares_of_the_peak():
  way = steps.Way(lambda: time.sleep(0.02), images=4, flops=1e6)
  slow = steps.Way(lambda: time.sleep(0.06), images=4)
  found = steps.measure({"a": way, "b": slow}, Options(2, rehearse=True), {"gain": ("a", "b")})
  seconds = sorted(found["ways"]["a"]["seconds"])
  assert found["ways"]["a"]["images_per_second"]["high"] == pytest.approx(4 / seconds[0])
  peak = found["matmul_gflops"]["float32"] * 1e9
  assert found["ways"]["a"]["share_of_peak"] == pytest.approx(1e6 * 2 / sum(seconds) / peak)
  assert found["ways"]["b"]["share_of_peak"] is None
  assert 1.5 < found["times_faster"]["gain"]["median"] < 4.5
  assert "% of the peak" in steps.way_lines(found)[0]
  assert "% of the peak" not in steps.way_lines(found)[1]
  assert steps.faster_line(found, "gain", 2.0).endswith("(target: 2)")


def test_parity_is_relative_to_float32():
  assert steps.parity({"float32": -2.0, "bfloat16": -2.02}) == {"bfloat16": pytest.approx(0.01)}


def test_the_direct_angle_loss_must_agree():
  one = {"loss": 1.0, "gradient": [1.0, 2.0]}
  xmrd_angle._check_same(one, one)
  for other in ({**one, "loss": 1.1}, {**one, "gradient": [1.0, 2.2]}):
    with pytest.raises(AssertionError, match="apart"):
      xmrd_angle._check_same(one, other)


def test_every_main_is_found():
  mains = startup.find_mains()
  expected = {"benchmarks", "sbir.convert", "sbir.data.doctor", "xmodal.demo", "pskd.train_student"}
  assert expected < set(mains)
  assert not [main for main in mains if main.startswith("benchmarks.")]

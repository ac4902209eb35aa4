"""Batches made ahead by threads: the same, in the same order, and never many at once."""

import threading
import time

import numpy as np
import pytest

from sbir.data.padding import in_order, padded
from sbir.types import UserError


@pytest.mark.parametrize("num_threads", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 9])
def test_batches_are_full_and_in_order_whatever_the_threads(num_threads, batch_size):
  def load(part):
    time.sleep(0.002 * (part[0] % 3 == 0))  # the first of each three is late
    return {"rows": part}

  out = list(padded(np.arange(10, 17), batch_size, load, num_threads=num_threads))
  assert {len(batch["rows"]) for batch in out} == {batch_size}
  kept = np.concatenate([batch["rows"][batch["mask"]] for batch in out])
  np.testing.assert_array_equal(kept, np.arange(10, 17))
  rest = np.concatenate([batch["rows"][~batch["mask"]] for batch in out])
  assert set(rest.tolist()) <= {16}


def test_no_rows_are_no_batches():
  assert list(padded(np.arange(0), 4, dict)) == []


def test_several_are_made_at_the_same_time():
  both = threading.Barrier(2, timeout=5)
  assert list(in_order(lambda i: both.wait() >= 0 and i, range(4), 2)) == [0, 1, 2, 3]


@pytest.mark.parametrize("num_threads", [1, 2])
def test_only_a_few_are_made_before_they_are_asked_for(num_threads):
  begun = []
  made = in_order(lambda i: begun.append(i) or i, range(100), num_threads)
  for taken in range(1, 5):
    next(made)
    time.sleep(0.02)
    assert taken <= len(begun) <= taken + num_threads


@pytest.mark.parametrize("num_threads", [0, 2])
def test_what_goes_wrong_is_raised_in_its_turn(num_threads):
  def make(i):
    if i == 2:
      raise UserError("image 2: truncated")
    return i

  made = in_order(make, range(9), num_threads)
  assert [next(made), next(made)] == [0, 1]
  with pytest.raises(UserError, match="image 2: truncated"):
    next(made)


def test_who_stops_early_leaves_no_thread_behind():
  made = in_order(lambda i: i, range(100), 3)
  next(made)
  made.close()
  assert not [t for t in threading.enumerate() if t.name.startswith("load")]


def test_a_batch_of_no_rows_is_refused():
  with pytest.raises(UserError, match="batch_size=0 must be at least 1"):
    next(padded(np.arange(3), 0, dict))

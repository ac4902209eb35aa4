"""Filling stored rows: all of them, once, and on from where it was stopped."""

import jax
import numpy as np
import pytest

from sbir import stored_rows
from sbir.fill_rows import fill
from sbir.mesh import make_mesh
from sbir.stored_rows import StoredRows
from sbir.types import UserError

MESH = make_mesh()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
  monkeypatch.setattr(stored_rows, "SHARD_ROWS", 8)


def open_rows(root, num_rows=22, group=11):
  return StoredRows(root, {"what": "squares"}, num_rows=num_rows, row_shape=(2,), group=group)


class Loader:
  """Loads row i as the number i, remembers what was asked for, and may break off at a row."""

  def __init__(self, end=1000):
    self.asked, self.end = [], end

  def __call__(self, numbers):
    self.asked.append(numbers.tolist())
    if numbers[-1] >= self.end:
      raise KeyboardInterrupt
    return {"number": numbers.astype(np.float32)}


@jax.jit
def squares(batch):
  return (batch["number"] ** 2)[:, None] + np.zeros(2, np.float32)


def run(rows, load, batch_size=5):
  fill(rows, load, squares, batch_size=batch_size, mesh=MESH, desc="squares")


@pytest.mark.parametrize("batch_size", [1, 5, 8, 22, 30])
def test_every_row_holds_what_was_computed_of_it(tmp_path, capsys, batch_size):
  rows, load = open_rows(tmp_path), Loader()
  run(rows, load, batch_size)
  np.testing.assert_array_equal(rows.take(np.arange(22))[:, 1], np.arange(22.0) ** 2)
  assert open_rows(tmp_path).missing() == []
  assert {len(numbers) for numbers in load.asked} == {batch_size}
  assert len(load.asked) == -(-22 // batch_size)
  assert "22/22" in capsys.readouterr().err  # no padding is counted


def test_a_stopped_filling_goes_on_and_computes_only_what_is_missing(tmp_path, capsys):
  with pytest.raises(KeyboardInterrupt):
    run(open_rows(tmp_path), Loader(end=15))
  left = open_rows(tmp_path)
  assert left.missing() == [1, 2, 3]
  load = Loader()
  run(left, load)
  assert sorted({i for numbers in load.asked for i in numbers}) == list(range(8, 22))
  np.testing.assert_array_equal(left.take(np.arange(22))[:, 0], np.arange(22.0) ** 2)
  assert "8/22" in capsys.readouterr().err  # the bar begins where the first was stopped


def test_what_is_complete_is_said_at_once_and_nothing_is_loaded(tmp_path, capsys):
  run(open_rows(tmp_path), Loader())
  capsys.readouterr()
  load = Loader()
  run(open_rows(tmp_path), load)
  said = capsys.readouterr().err
  assert load.asked == [] and said.startswith("squares: complete, 22 rows") and said[-1] == "\n"


def test_more_views_compute_the_new_ones_only(tmp_path):
  run(open_rows(tmp_path), Loader())
  load = Loader()
  run(open_rows(tmp_path, 33), load)
  assert sorted({i for numbers in load.asked for i in numbers}) == list(range(22, 33))


def test_damage_is_mended_and_the_rest_left_alone(tmp_path):
  rows = open_rows(tmp_path)
  run(rows, Loader())
  path = sorted(rows.folder.glob("*.npy"))[2]
  before = path.read_bytes()
  path.write_bytes(before[:-1])
  load = Loader()
  run(open_rows(tmp_path), load)
  assert sorted({i for numbers in load.asked for i in numbers}) == list(range(11, 19))
  assert path.read_bytes() == before


def test_a_void_row_is_stored_as_no_numbers_and_refused_when_it_is_asked_for(tmp_path):
  rows, void = open_rows(tmp_path), [3, 9, 21]
  words = {"batch_size": 5, "mesh": MESH, "desc": "squares"}
  fill(rows, Loader(), squares, is_void=lambda numbers: np.isin(numbers, void), **words)
  others = np.setdiff1d(np.arange(22), void)
  np.testing.assert_array_equal(open_rows(tmp_path).take(others)[:, 1], others.astype(float) ** 2)
  assert open_rows(tmp_path).missing() == []
  for row in void:
    with pytest.raises(UserError, match=rf"row {row} holds no numbers: its image could not be re"):
      rows.take(np.array([0, row, 1]))


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path):
  (tmp_path / "file").write_text("")
  load = Loader()
  with pytest.raises(UserError, match=r"cache\.dir .* cannot be made: .*file is a file"):
    run(open_rows(tmp_path / "file"), load)
  assert load.asked == []

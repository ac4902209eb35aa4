"""Rows on disk: what is written comes back, and nothing else is ever taken for it."""

import json
import os
import threading

import numpy as np
import pytest

from sbir import stored_rows
from sbir.stored_rows import StoredRows
from sbir.types import UserError

ABOUT = {"what": "targets", "teacher": "abc", "views": {"seed": 1}}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
  monkeypatch.setattr(stored_rows, "SHARD_ROWS", 4)


def open_rows(root, num_rows=10, row_shape=(3,), about=ABOUT, group=0):
  return StoredRows(root, about, num_rows=num_rows, row_shape=row_shape, group=group)


def numbers(rows, shape=(3,)):
  """The numbers that row i is made of in these tests."""
  return np.asarray(rows).reshape(-1, *[1] * len(shape)) + np.zeros(shape, np.float32) + 0.1


def write(rows, shards=None):
  for shard in rows.missing() if shards is None else shards:
    rows.write(shard, numbers(rows.rows_of(shard), rows.row_shape))
  return rows


def files(rows):
  return sorted(rows.folder.glob("*.npy"))


@pytest.mark.parametrize("shape", [(3,), (2, 5), ()], ids=str)
def test_rows_come_back_as_they_were_written_in_any_order_and_more_than_once(tmp_path, shape):
  write(open_rows(tmp_path, row_shape=shape))
  rows = open_rows(tmp_path, row_shape=shape)
  asked = np.array([9, 0, 4, 4, 3, 8, 1])
  found = rows.take(asked)
  assert rows.missing() == [] and found.dtype == np.float32 and found.shape == (7, *shape)
  np.testing.assert_array_equal(found, numbers(asked, shape).astype(np.float32))
  found[:] = 0  # a copy: what is stored stays
  np.testing.assert_array_equal(rows.take([9]), numbers([9], shape).astype(np.float32))
  assert rows.take(np.zeros(0, np.int32)).shape == (0, *shape)


def test_every_row_is_in_one_shard_and_no_shard_is_in_two_groups(tmp_path):
  rows = open_rows(tmp_path, 20, group=10)
  shards = [rows.rows_of(shard).tolist() for shard in rows.missing()]
  assert shards == [
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [8, 9],
    [10, 11, 12, 13],
    [14, 15, 16, 17],
    [18, 19],
  ]
  write(rows)
  np.testing.assert_array_equal(rows.take(np.arange(20)), numbers(np.arange(20)).astype(np.float32))


def test_more_groups_keep_what_is_there_and_fewer_lose_nothing(tmp_path):
  write(open_rows(tmp_path, 10, group=5))
  more = open_rows(tmp_path, 15, group=5)
  assert more.missing() == [4, 5]
  np.testing.assert_array_equal(
    more.take(np.arange(10)), open_rows(tmp_path, 10, group=5).take(np.arange(10))
  )
  assert open_rows(tmp_path, 5, group=5).missing() == []
  assert len(files(more)) == 4


def test_opening_writes_nothing(tmp_path):
  rows = open_rows(tmp_path / "cache")
  assert rows.missing() == [0, 1, 2]
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  "other",
  [
    {"about": {**ABOUT, "teacher": "abd"}},
    {"about": {**ABOUT, "views": {"seed": 2}}},
    {"row_shape": (1,)},
    {"group": 2},
  ],
  ids=str,
)
def test_another_description_or_layout_finds_nothing(tmp_path, other):
  write(open_rows(tmp_path))
  rows = open_rows(tmp_path, **other)
  assert rows.missing() == list(range(rows.num_shards))
  assert open_rows(tmp_path, about=dict(reversed(ABOUT.items()))).missing() == []


def test_the_folder_says_in_words_what_it_holds(tmp_path):
  rows = write(open_rows(tmp_path))
  assert json.loads((rows.folder / "about.json").read_text())["about"] == ABOUT


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "remove"])
def test_a_damaged_shard_is_said_filled_again_and_never_used(tmp_path, capsys, harm):
  path = files(write(open_rows(tmp_path)))[1]
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  if harm == "remove":
    path.unlink()
  else:
    path.write_bytes({"flip": data, "cut": data[:-4], "empty": b""}[harm])
  rows = open_rows(tmp_path)
  assert rows.missing() == [1]
  said = capsys.readouterr().err
  assert ("damaged shards: 1," in said and said.count("\n") == 1) or harm == "remove"
  rows.take([0, 9])
  with pytest.raises(UserError, match="shard 1 is missing"):
    rows.take([0, 5])
  rows.write(1, 2 * numbers(rows.rows_of(1)))  # another device: other bits, another name
  np.testing.assert_array_equal(rows.take([5]), 2 * numbers([5]).astype(np.float32))
  again = open_rows(tmp_path)
  assert again.missing() == [] and len(files(again)) == 3
  assert capsys.readouterr().err == ""


def test_what_was_being_written_when_the_process_died_does_not_count(tmp_path, monkeypatch):
  rows = write(open_rows(tmp_path), [0])

  def die(*args):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, "replace", die)
  with pytest.raises(KeyboardInterrupt):
    write(rows, [1])
  assert rows.missing() == [1, 2] == open_rows(tmp_path).missing()


def test_two_processes_may_fill_one_folder_and_neither_takes_the_others_rows_away(tmp_path):
  one, two = open_rows(tmp_path), open_rows(tmp_path)
  write(one)
  for shard in two.missing():  # another kind of device: other bits
    two.write(shard, numbers(two.rows_of(shard)) + 1e-6)
  np.testing.assert_allclose(one.take(np.arange(10)), two.take(np.arange(10)), atol=1e-5)
  assert open_rows(tmp_path).missing() == []


def test_rows_are_taken_by_many_threads_from_more_shards_than_are_kept_open(tmp_path, monkeypatch):
  monkeypatch.setattr(stored_rows, "OPEN_SHARDS", 2)
  rows, wrong = write(open_rows(tmp_path, 40)), []

  def ask(seed):
    asked = np.random.default_rng(seed).integers(0, 40, (50, 8))
    wrong.extend(a for a in asked if (rows.take(a) != numbers(a).astype(np.float32)).any())

  before = len(os.listdir("/dev/fd"))
  threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert wrong == []
  assert len(os.listdir("/dev/fd")) <= before + 2


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"cannot be written .*--config.cache.dir=DIR"):
    write(open_rows(tmp_path / "file"))


@pytest.mark.parametrize("asked", [[10], [-1]])
def test_a_row_that_does_not_exist_is_no_users_mistake(tmp_path, asked):
  with pytest.raises(IndexError):
    write(open_rows(tmp_path)).take(asked)
  with pytest.raises(ValueError, match="shard 2 has shape"):
    open_rows(tmp_path).write(2, numbers(np.arange(4)))


def test_only_stale_folders_of_ours_are_removed_and_nothing_else_in_them(tmp_path, capsys):
  old, kept = ({**ABOUT, "teacher": name} for name in ("old", "kept"))
  gone, mixed = write(open_rows(tmp_path, about=old)), write(open_rows(tmp_path, 4, (2,), old))
  (mixed.folder / "notes.txt").write_text("mine")
  (tmp_path / "stranger").mkdir()
  (tmp_path / "stranger" / "about.json").write_text(json.dumps({"about": old, "layout": {}}))
  (tmp_path / "broken").mkdir()
  (tmp_path / "broken" / "about.json").write_text("{")
  other, ours = write(open_rows(tmp_path, about=kept)), write(open_rows(tmp_path))
  ours.remove_stale(lambda about: about["teacher"] in ("old", "abc"))
  assert not gone.folder.exists()
  assert [path.name for path in mixed.folder.iterdir()] == ["notes.txt"]
  assert (tmp_path / "stranger" / "about.json").exists() and (tmp_path / "broken").exists()
  assert open_rows(tmp_path).missing() == [] == open_rows(tmp_path, about=kept).missing()
  assert other.folder.exists()
  said = capsys.readouterr().err
  assert said.count("stale, removed") == 2 and said.count("so it stays") == 1

"""An index whose writer is killed at any moment is what it was, or what it was to become."""

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from sbir import index_build, index_check
from sbir.photo_index import TABLE, open_index
from sbir.photo_table import PhotoTable
from sbir.sqlite_file import SqliteFile
from tests.paths import REPO
from tests.photo_folders import save_model, save_photos

NUM, NUM_MORE = 300, 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A model, photos, and more photos to come."""
  root = tmp_path_factory.mktemp("kill")
  save_model(root / "package")
  save_photos(root / "photos", NUM)
  save_photos(root / "more", NUM_MORE, seed=1, form="more{:03d}.jpg")
  return root


def start(command, root, *more):
  asked = ["--index", str(root / "index"), "--photos", str(root / "photos"), *more]
  return subprocess.Popen(
    [sys.executable, "-m", "sbir.index", command, *asked],
    cwd=REPO,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def kill_while_it_writes(process, root, least, draw):
  """Kills a writer a random moment after so many files wait; returns whether it was not done."""
  while process.poll() is None and num_waiting(root) < least:
    time.sleep(0.005)
  with contextlib.suppress(subprocess.TimeoutExpired):
    process.wait(draw.uniform(0, 0.05))
  process.kill()
  _, said = process.communicate()
  assert process.returncode in (0, -signal.SIGKILL), said
  return process.returncode != 0


def num_waiting(root):
  """Returns how many files wait in a table that is being written, 0 before there is one."""
  if not (root / "index" / TABLE).exists():
    return 0
  table = PhotoTable(root / "index" / TABLE, read_only=True)
  try:
    return table.counts()["pending"]
  finally:
    table.close()


def names_in(place):
  index = open_index(str(place))
  try:
    return set(index.table.names(index.table.live_ids()).values())
  finally:
    index.close()


def in_folder(root):
  photos = root / "photos"
  return {str(path.relative_to(photos)) for path in photos.rglob("*.jpg")}


@pytest.mark.slow
def test_a_build_killed_at_random_moments_goes_on_where_it_was(folder, tmp_path):
  shutil.copytree(folder / "photos", tmp_path / "photos")
  draw, waiting = random.Random(0), [0]
  for least in (1, 100, 200):
    process = start("build", tmp_path, "--model", str(folder / "package"))
    if not kill_while_it_writes(process, tmp_path, least, draw):
      break
    waiting.append(num_waiting(tmp_path) or NUM)  # none waits once all is there
  assert waiting == sorted(waiting) and waiting[1] > 0  # nothing that was done is lost
  index_build.build(str(tmp_path / "index"), str(folder / "package"), str(tmp_path / "photos"))
  assert names_in(tmp_path / "index") == in_folder(tmp_path)
  assert index_check.verify(str(tmp_path / "index"), None, 20).problems == []


@pytest.mark.slow
def test_an_add_killed_at_random_moments_leaves_the_old_index_or_the_new_one(folder, tmp_path):
  shutil.copytree(folder / "photos", tmp_path / "photos")
  place = str(tmp_path / "index")
  index_build.build(place, str(folder / "package"), str(tmp_path / "photos"))
  old = in_folder(tmp_path)
  shutil.copytree(folder / "more", tmp_path / "photos", dirs_exist_ok=True)
  (tmp_path / "photos" / "000.jpg").unlink()
  new = in_folder(tmp_path)
  draw = random.Random(1)
  for least in (1, 100, NUM_MORE):
    was_killed = kill_while_it_writes(start("add", tmp_path), tmp_path, least, draw)
    now = names_in(place)
    assert now in ((old, new) if was_killed else (new,))
    problems = index_check.verify(place, None, 20).problems
    assert problems == ([] if now == new else ["000.jpg cannot be read; run add"])
  index_build.add(place)
  assert names_in(place) == new
  assert index_check.verify(place, None, 20).problems == []


class Killed(BaseException):
  """Stands for the end of the process."""


@pytest.mark.parametrize("is_committed", [False, True])
def test_whatever_transaction_is_the_last_the_index_is_old_or_new(
  folder, tmp_path, monkeypatch, is_committed
):
  save_photos(tmp_path / "photos", 6)
  place = str(tmp_path / "index")
  index_build.build(place, str(folder / "package"), str(tmp_path / "photos"))
  save_photos(tmp_path / "photos", 70, seed=2, form="new{:02d}.jpg")  # two batches
  (tmp_path / "photos" / "000.jpg").unlink()
  new, writing = in_folder(tmp_path), SqliteFile.writing
  old, number_of_kills = names_in(place), 0

  @contextlib.contextmanager
  def dying(file):
    left[0] -= 1
    if left[0] < 0 and is_committed:
      raise Killed
    with writing(file) as db:
      yield db
      if left[0] < 0:
        raise Killed

  for nth in range(20):
    left = [nth]
    monkeypatch.setattr(SqliteFile, "writing", dying)
    try:
      index_build.add(place)
    except Killed:
      number_of_kills += 1
      assert names_in(place) in (old, new), nth
    else:
      break
    finally:
      monkeypatch.setattr(SqliteFile, "writing", writing)
  assert number_of_kills >= 3 and names_in(place) == new
  assert index_check.verify(place, None, 5).problems == []

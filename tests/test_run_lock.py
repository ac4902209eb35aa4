"""One process at a time in a run folder."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from sbir import run_lock
from sbir.run_lock import locked
from sbir.types import UserError
from tests.paths import REPO

HOLDING = """
import sys
from sbir.run_lock import locked
with locked(sys.argv[1]):
  print("held", flush=True)
  sys.stdin.read()
"""


def start(folder):
  return subprocess.Popen(
    [sys.executable, "-c", HOLDING, str(folder)],
    cwd=REPO,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )


@pytest.fixture
def holder(tmp_path):
  """A process that holds the folder."""
  process = start(tmp_path)
  assert process.stdout.readline() == "held\n"
  yield process
  process.kill()
  process.wait()


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path, holder):
  message = f"in use by process {holder.pid} on {socket.gethostname()}, expected none; wait for it"
  with pytest.raises(UserError, match=message), locked(tmp_path):
    pass
  assert json.loads((tmp_path / run_lock.NAME).read_text())["pid"] == holder.pid


def test_what_a_killed_process_left_is_taken_over_and_that_is_said(tmp_path, holder, capfd):
  holder.kill()
  holder.wait()
  with locked(tmp_path):
    assert json.loads((tmp_path / run_lock.NAME).read_text())["pid"] == os.getpid()
  assert "left by a process that is gone; taken over" in capfd.readouterr().err
  assert list(tmp_path.iterdir()) == []


def test_a_number_that_another_process_has_now_does_not_hold_the_folder(tmp_path):
  owner = {"host": socket.gethostname(), "pid": os.getppid(), "started": "1"}
  (tmp_path / run_lock.NAME).write_text(json.dumps(owner))
  with locked(tmp_path):
    pass


@pytest.mark.parametrize("silent_for", [0, run_lock.DEAD_SECONDS + 9])
def test_a_process_of_another_machine_is_dead_when_it_gives_no_sign(tmp_path, silent_for):
  path = tmp_path / run_lock.NAME
  path.write_text(json.dumps({"host": "elsewhere", "pid": 7, "started": "1"}))
  os.utime(path, (time.time() - silent_for,) * 2)
  if silent_for:
    with locked(tmp_path):
      pass
  else:
    with pytest.raises(UserError, match="process 7 on elsewhere"), locked(tmp_path):
      pass


def test_a_lock_is_touched_as_long_as_it_is_held(tmp_path, monkeypatch):
  monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.05)
  with locked(tmp_path):
    path = tmp_path / run_lock.NAME
    os.utime(path, (0, 0))
    deadline = time.time() + 20
    while path.stat().st_mtime < 1 and time.time() < deadline:
      time.sleep(0.05)
    assert path.stat().st_mtime > 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_lock_that_says_nothing_of_use_is_stale(tmp_path, text):
  (tmp_path / run_lock.NAME).write_text(text)
  with locked(tmp_path):
    pass


def test_of_many_that_try_at_once_one_holds_it(tmp_path):
  (tmp_path / run_lock.NAME).write_text("")  # stale, so that all of them try to take it over
  started, deadline = [start(tmp_path) for _ in range(6)], time.time() + 60
  while sum(process.poll() is None for process in started) > 1 and time.time() < deadline:
    time.sleep(0.05)
  assert [process.communicate()[0] for process in started].count("held\n") == 1


def test_a_folder_made_for_the_lock_alone_goes_with_it(tmp_path):
  with pytest.raises(ZeroDivisionError), locked(tmp_path / "run"):
    1 / 0  # noqa: B018
  assert not (tmp_path / "run").exists()


def test_a_folder_of_a_process_that_holds_it_already_is_refused(tmp_path):
  with locked(tmp_path), pytest.raises(UserError, match="in use"), locked(tmp_path):
    pass

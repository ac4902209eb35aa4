"""Several processes of one main on this machine, with a small main in their place."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from sbir import rehearse
from tests.paths import REPO

# What process I does is the I-th argument; the others do what the last says.
MAIN = """
import json, os, signal, sys, time

process_id = int(sys.argv[sys.argv.index("--process-id") + 1])
signals = []
for number in (signal.SIGINT, signal.SIGTERM):
  signal.signal(number, lambda number, _: signals.append(signal.Signals(number).name))

def show():
  names = ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "PYTHONPATH")
  print(json.dumps([sys.argv[1:], {name: os.environ[name] for name in names}]))

def write():
  print("a line")
  sys.stderr.write("\\r 1%\\r 2%\\r 3%\\n\\nan error\\nthe end")

def wait(seconds=30.0):
  print("ready")
  end = time.monotonic() + seconds
  while not signals and time.monotonic() < end:
    time.sleep(0.01)

def save(seconds="0.2"):
  wait()
  time.sleep(float(seconds))  # a second signal would come now
  print("saved after", *signals)
  sys.exit(75)

def finish():
  wait(1.0)
  print("stopped" if signals else "undisturbed")

def stay():
  while True: time.sleep(1)

def fail(status="3"):
  time.sleep(0.3)  # the others have begun
  sys.exit(int(status))

def crash():
  os.kill(os.getpid(), signal.SIGKILL)

def tty():
  print("stderr is a terminal:", sys.stderr.isatty())

what = json.loads(sys.argv[1])
name, *arguments = what[min(process_id, len(what) - 1)].split()
globals()[name](*arguments)
"""


@pytest.fixture
def command(tmp_path):
  """Returns a function that gives the command of a rehearsal of what the processes do."""
  (tmp_path / "toy_main.py").write_text(MAIN)

  def give(num_processes, *what, options=(), arguments=()):
    ours = [sys.executable, "-m", "sbir.cluster", "local", str(num_processes), *options]
    return [*ours, "--", "toy_main", json.dumps(what), *arguments]

  return give


@pytest.fixture
def environment(tmp_path):
  return {**os.environ, "PYTHONPATH": f"{REPO}{os.pathsep}{tmp_path}"}


@pytest.fixture
def run(command, environment):
  """Returns a function that rehearses, and returns what came of it."""

  def start(*arguments, **options):
    words = command(*arguments, **options)
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)

  return start


def test_each_process_is_told_which_it_is_and_gets_the_arguments_unchanged(run, tmp_path):
  given = ["--x=a b", "it's", "", "--", "--no-compile-cache"]
  result = run(3, "show", options=["--devices=2"], arguments=given)
  assert result.returncode == 0, result.stderr
  lines = sorted(result.stdout.splitlines())
  ports = set()
  for process_id, line in enumerate(lines):
    mark, text = line[:4], line[4:]
    (_, *words), environment = json.loads(text)
    assert mark == f"[{process_id}] "
    assert words[: len(given)] == given
    rest = dict(zip(*[iter(words[len(given) :])] * 2, strict=True))
    ports.add(rest.pop("--coordinator"))
    assert rest == {"--num-processes": "3", "--process-id": str(process_id)}
    assert (environment["JAX_PLATFORMS"], environment["JAX_NUM_CPU_DEVICES"]) == ("cpu", "2")
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(REPO)
    assert str(tmp_path) in environment["PYTHONPATH"]
  assert len(lines) == 3 and len(ports) == 1
  assert re.fullmatch(r"127\.0\.0\.1:\d+", ports.pop())


def test_what_a_process_writes_comes_line_by_line_where_it_was_written(run):
  result = run(1, "write")
  assert result.stdout == "[0] a line\n"
  assert result.stderr == "[0]  1%\n[0]  2%\n[0]  3%\n[0] an error\n[0] the end\n"


def test_when_a_process_fails_the_others_are_told_to_stop_and_its_status_is_ours(run):
  start = time.monotonic()
  result = run(3, "save 0", "fail 3", "save 0")
  assert result.returncode == 3
  assert time.monotonic() - start < rehearse.GRACE  # they are told at once
  assert "process 1 ended first, with status 3" in result.stderr
  assert {"[0] saved after SIGTERM", "[2] saved after SIGTERM"} <= set(result.stdout.splitlines())


def test_a_process_that_does_not_stop_is_killed(command, environment):
  *_, main, what = command(2, "stay", "fail 4")
  code = (
    "import os, sys\n"
    "from sbir import rehearse\n"
    "commands = rehearse.command_lines(sys.argv[1:], 2, port=1)\n"
    "sys.exit(rehearse.rehearse(commands, os.environ, grace=0.3))"
  )
  start = time.monotonic()
  result = subprocess.run([sys.executable, "-c", code, main, what], env=environment, timeout=60)
  assert result.returncode == 4
  assert time.monotonic() - start < rehearse.GRACE


def test_a_process_that_is_killed_has_the_status_a_shell_shows(run):
  assert run(2, "save 0", "crash").returncode == 128 + signal.SIGKILL


def test_the_first_that_fails_decides(run):
  assert run(2, "fail 5", "save 0").returncode == 5


@pytest.fixture
def started(command, environment):
  """Returns a function that starts a rehearsal, and waits until all its processes are ready."""
  running = []

  def start(num_processes, *what):
    process = subprocess.Popen(
      command(num_processes, *what),
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )
    running.append(process)
    ready = [process.stdout.readline() for _ in range(num_processes)]
    assert sorted(ready) == [f"[{n}] ready\n" for n in range(num_processes)]
    return process

  yield start
  for process in running:
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_each_process_once_and_their_status_is_ours(number, started):
  process = started(3, "save")
  os.killpg(process.pid, number)  # as a terminal does: to the launcher and all in its group
  stdout, stderr = process.communicate(timeout=30)
  assert process.returncode == 75, stderr
  assert sorted(stdout.splitlines()) == [f"[{n}] saved after {number.name}" for n in range(3)]
  assert stderr == ""


def test_who_is_told_to_stop_has_time_when_another_has_saved(started):
  process = started(2, "save 0", "save 1")
  process.send_signal(signal.SIGTERM)
  stdout, _ = process.communicate(timeout=30)
  assert "[1] saved after SIGTERM\n" in stdout
  assert process.returncode == 75


def test_when_one_process_has_saved_by_itself_the_others_may_too(run):
  result = run(2, "fail 75", "finish")
  assert result.returncode == 75
  assert result.stdout == "[1] ready\n[1] undisturbed\n"


def test_on_a_terminal_the_first_process_writes_as_it_is(command, environment):
  ours, theirs = pty.openpty()
  process = subprocess.Popen(command(2, "tty"), env=environment, stdout=theirs, stderr=theirs)
  os.close(theirs)
  written = b""
  try:
    while part := os.read(ours, 4096):
      written += part
  except OSError:  # so the end of a terminal looks on Linux
    pass
  os.close(ours)
  assert process.wait(timeout=30) == 0
  lines = written.decode().split("\r\n")
  assert "stderr is a terminal: True" in [line.removeprefix("\r\033[K") for line in lines]
  assert "\r\033[K[1] stderr is a terminal: False" in lines


def test_a_free_port_is_one_that_nothing_listens_on():
  with socket.socket() as listener:
    port = rehearse.free_port()
    listener.bind(("127.0.0.1", port))
    assert rehearse.free_port() != port

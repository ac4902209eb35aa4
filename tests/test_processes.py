"""How several processes find each other: the flags, their mistakes, and who says so."""

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbir import processes
from sbir.processes import Share, split_flags
from sbir.user_error import UserError
from tests.paths import REPO

GOOD = ["--coordinator", "host:1234", "--num-processes", "4", "--process-id=3"]
WORDS = st.lists(st.text(min_size=1).filter(lambda text: text.split("=")[0] not in processes.FLAGS))


@given(before=WORDS, after=WORDS)
def test_the_three_flags_are_taken_out_and_all_else_is_left_as_it_was(before, after):
  flags, rest = split_flags([*before, *GOOD, *after])
  assert flags == {
    "--coordinator": "host:1234",
    "--num-processes": "4",
    "--process-id": "3",
  }
  assert rest == [*before, *after]


@given(words=WORDS)
def test_without_flags_there_is_one_process(words):
  assert split_flags(words) == ({}, words)
  assert processes.share() == Share(0, 1) and processes.is_first()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (GOOD[:2], "--num-processes, --process-id is missing; several processes need all of"),
    (GOOD[:4], "--process-id is missing"),
    (["--coordinator"], "--coordinator has no value"),
    (["--coordinator=host", *GOOD[2:]], "--coordinator host must be HOST:PORT of process 0"),
    (["--coordinator=:80", *GOOD[2:]], "--coordinator :80 must be HOST:PORT"),
    ([*GOOD[:4], "--process-id=4"], "--process-id 4: expected whole numbers, the id from 0 to one"),
    ([*GOOD[:4], "--process-id=-1"], "--process-id -1: expected whole numbers"),
    ([*GOOD[:2], "--num-processes=two", "--process-id=0"], "--num-processes two"),
  ],
)
def test_flags_that_cannot_be_meant_are_refused(arguments, message):
  with pytest.raises(UserError) as error:
    split_flags(arguments)
  assert message in str(error.value)


def run(*arguments, **environment):
  command = [sys.executable, "-m", "tests.toy", *arguments]
  environment = {**os.environ, **environment}
  return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)


def test_a_mistake_in_the_flags_is_one_line_with_status_two(tmp_path):
  done = run(str(tmp_path), "--coordinator", "nowhere")
  assert (done.returncode, done.stdout) == (2, "")
  assert done.stderr.startswith("error: --num-processes, --process-id is missing")
  assert done.stderr.count("\n") == 1


def test_help_is_given_without_looking_for_the_others():
  done = run("--help", *GOOD)
  assert done.returncode == 0 and "--coordinator HOST:PORT" in done.stdout


def test_a_batch_script_by_itself_is_one_process(tmp_path):
  slurm = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
  done = run(str(tmp_path), "--steps", "2", **slurm)
  assert done.returncode == 0, done.stderr


def test_sigterm_outside_of_a_training_ends_a_main_with_the_status_that_means_again():
  code = """if True:
    import time
    from sbir import cli
    cli.tool(lambda _: print("on", flush=True) or time.sleep(60))
  """
  command = [sys.executable, "-c", code]
  process = subprocess.Popen(
    command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )
  assert process.stdout.readline() == "on\n"
  time.sleep(0.1)
  process.send_signal(signal.SIGTERM)
  _, said = process.communicate(timeout=60)
  assert process.returncode == 75
  assert said == "SIGTERM: ended; run the same command again, and what can go on goes on\n"

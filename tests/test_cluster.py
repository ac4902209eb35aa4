"""What is handed to SLURM and to a TPU pod, to the letter, and how it is asked for."""

import json
import os
import shlex
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbir import cluster, kubernetes_job, submit
from tests.paths import REPO

PROGRAM = ["xmodal.train_teacher", "--workdir", "runs/my shoes", "--config.data.dir=it's $HOME"]
SCRIPT = """#!/usr/bin/env bash
#SBATCH --job-name=xmodal.train_teacher
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --time=1:00:00
#SBATCH --constraint=a100
export PYTHONPATH='/home/me/my code'${PYTHONPATH:+:$PYTHONPATH}
status=0
srun --kill-on-bad-exit=0 --cpus-per-task=4 /venv/python -m xmodal.train_teacher --workdir \
'runs/my shoes' '--config.data.dir=it'"'"'s $HOME' || status=$?
# 75: told to stop, and saved. The same job in the queue again goes on from there.
if [ "$status" = 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""
ANY_WORDS = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
# A program that takes the place of another, and notes its arguments in a file of its name.
NOTE = """#!/bin/sh
: >"$NOTES/$(basename "$0")"
for word; do printf '%s\\0' "$word" >>"$NOTES/$(basename "$0")"; done
"""


def sbatch_script(program, **given):
  usual = dict(python="/venv/python", root="/repo", nodes=1, gpus_per_node=1)
  return submit.sbatch_script(program, **{**usual, **given})


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
  """Returns two functions: one puts a program on the PATH, one tells how it was called."""
  for name in ("bin", "notes"):
    (tmp_path / name).mkdir()
  monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
  monkeypatch.setenv("NOTES", str(tmp_path / "notes"))

  def put(name, end="exit 0"):
    (tmp_path / "bin" / name).write_text(NOTE + end + "\n")
    (tmp_path / "bin" / name).chmod(0o755)

  def words_of(name):
    """Returns the arguments that a program was called with; None if it was not."""
    notes = tmp_path / "notes" / name
    return notes.read_text().split("\0")[:-1] if notes.exists() else None

  return put, words_of


def call(arguments, program, capsys):
  """Returns (exit status, stdout, stderr) of a command of sbir.cluster, in this process."""
  try:
    status = cluster.main([str(argument) for argument in arguments], program)
  except SystemExit as stopped:
    status = stopped.code
  return status, *capsys.readouterr()


def test_a_slurm_job_of_two_nodes_is_this_script():
  script = sbatch_script(
    PROGRAM,
    root="/home/me/my code",
    nodes=2,
    gpus_per_node=8,
    cpus_per_task=4,
    options=["--time=1:00:00", "--constraint=a100"],
  )
  assert script == SCRIPT


def test_without_gpus_slurm_starts_one_process_on_each_node():
  script = sbatch_script(PROGRAM, nodes=3, gpus_per_node=0)
  assert "--ntasks-per-node=1\n" in script and "gpus" not in script


@given(ANY_WORDS)
def test_any_arguments_survive_the_script_of_a_slurm_job(words):
  script = sbatch_script(["some.main", *words])
  srun = script.partition("status=0\n")[2].rpartition(" || status=$?")[0]
  python = ["/venv/python", "-m"]
  assert shlex.split(srun) == ["srun", "--kill-on-bad-exit=0", *python, "some.main", *words]


@pytest.mark.parametrize(("status", "is_requeued"), [(0, False), (1, False), (75, True)])
def test_a_slurm_job_queues_itself_again_when_it_was_told_to_stop(status, is_requeued, stand_in):
  put, words_of = stand_in
  put("srun", f"exit {status}")
  put("scontrol")
  environment = {**os.environ, "SLURM_JOB_ID": "17"}
  done = subprocess.run(["bash"], input=sbatch_script(PROGRAM), text=True, env=environment)
  assert done.returncode == status
  assert words_of("srun")[-len(PROGRAM) :] == PROGRAM
  assert words_of("scontrol") == (["requeue", "17"] if is_requeued else None)


def test_a_tpu_pod_is_asked_so():
  command = submit.tpu_command(
    PROGRAM, name="pod-32", zone="us-east1-d", project="shoes", folder="~/sketch-retrieval"
  )
  assert command == [
    *["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod-32", "--zone=us-east1-d"],
    *["--project=shoes", "--worker=all"],
    "--command=cd sketch-retrieval && ./launch.sh setup --accelerator tpu && exec .venv/bin/python "
    "-m xmodal.train_teacher --workdir 'runs/my shoes' '--config.data.dir=it'\"'\"'s $HOME'",
  ]


@given(ANY_WORDS, st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_arguments_survive_the_shell_of_a_tpu_worker(words, folder):
  program = ["some.main", *words]
  *_, remote = submit.tpu_command(program, name="pod", zone="zone", folder=f"/{folder}")
  words_there = shlex.split(remote.removeprefix("--command="))
  setup = ["&&", "./launch.sh", "setup", "--accelerator", "tpu", "&&"]
  python = ["exec", ".venv/bin/python", "-m"]
  assert words_there == ["cd", f"/{folder}", *setup, *python, *program]


POD = ["tpu", "--name=pod", "--zone=zone"]
JOB = ["k8s", "--image=i", "--processes=2"]


@pytest.mark.parametrize(
  ("arguments", "program", "message"),
  [
    ([], PROGRAM, "the following arguments are required: command"),
    (["slrum"], PROGRAM, "invalid choice: 'slrum'"),
    (["local", "2"], [], "nothing is to be started, expected -- MAIN ARGS... at the end"),
    (["local", "2", "pskd.train_teacher"], [], "nothing is to be started"),
    (["local"], PROGRAM, "the following arguments are required: N"),
    (["local", "0"], PROGRAM, "argument N: '0': expected a whole number from 1 on"),
    (["local", "2", "--devices=1.5"], PROGRAM, "'1.5': expected a whole number from 1 on"),
    (["local", "2", "--devises=2"], PROGRAM, "arguments: --devises=2; nearest: --devices"),
    (["local", "2"], ["./train.py"], "MAIN is './train.py', expected a module such as xmodal."),
    (["local", "2"], ["xmodal.train_teachr"], "there is no module xmodal.train_teachr"),
    (["local", "2"], ["nomodal.train"], "there is no module nomodal.train"),
    (["slurm", "--dry-run"], ["nomodal.train"], "there is no module nomodal.train"),
    (["slurm", "--gpus-per-node=-1"], PROGRAM, "'-1': expected a whole number from 1 on"),
    (["slurm", "--job-name=a b"], PROGRAM, "'a b': expected one word, without blanks or quotes"),
    (["slurm", "--sbatch=--x\nrm"], PROGRAM, "expected one word, without blanks or quotes"),
    (["tpu"], PROGRAM, "the following arguments are required: --name, --zone"),
    ([*POD, "--dir="], PROGRAM, "'' is empty, expected the path of a folder"),
    (["k8s"], PROGRAM, "the following arguments are required: --image, --processes"),
    ([*JOB, "--name=My_Job"], PROGRAM, "--name 'My_Job': expected small letters, digits and"),
    ([*JOB, f"--name={'a' * 62}"], PROGRAM, "62 letters, expected 61 at most; shorten it"),
  ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, program, message, capsys):
  status, stdout, stderr = call(arguments, program, capsys)
  assert (status, stdout) == (2, "")
  assert stderr.startswith("error: ") and stderr.count("\n") == 1
  assert message in stderr


@pytest.mark.parametrize(
  ("arguments", "tool"), [(["slurm"], "sbatch"), (POD, "gcloud"), (JOB, "kubectl")]
)
def test_where_nothing_can_be_submitted_one_line_says_so(arguments, tool, capsys, monkeypatch):
  monkeypatch.setenv("PATH", "")
  status, _, stderr = call(arguments, PROGRAM, capsys)
  assert status == 2
  assert stderr == (
    f"error: there is no {tool} on the PATH, expected on a machine that submits; "
    "--dry-run prints what it would get\n"
  )


@pytest.mark.parametrize(
  ("arguments", "tool", "words"),
  [
    (["slurm", "--nodes=2", "--partition=p"], "sbatch", []),
    (JOB, "kubectl", ["apply", "-f", "-"]),
  ],
)
def test_a_dry_run_prints_what_is_handed_over(arguments, tool, words, stand_in, tmp_path, capsys):
  put, words_of = stand_in
  put(tool, f"cat >{tmp_path / 'stdin'}; exit 3")
  status, printed, _ = call([*arguments, "--dry-run"], PROGRAM, capsys)
  assert status == 0 and words_of(tool) is None
  assert call(arguments, PROGRAM, capsys)[0] == 3
  assert words_of(tool) == words
  assert (tmp_path / "stdin").read_text() == printed


def test_a_dry_run_for_a_tpu_pod_prints_the_command(stand_in, capsys):
  put, words_of = stand_in
  put("gcloud", "exit 4")
  _, printed, _ = call([*POD, "--project=p", "--dry-run"], PROGRAM, capsys)
  assert call([*POD, "--project=p"], PROGRAM, capsys)[0] == 4
  assert shlex.split(printed) == ["gcloud", *words_of("gcloud")]
  assert "--project=p" in words_of("gcloud") and f"cd {REPO.name} && " in printed


def test_the_options_of_a_slurm_job_reach_its_script(capsys):
  options = ["--time=2:00:00", "--partition=p", "--account=a", "--job-name=j", "--sbatch=--mem=9G"]
  arguments = ["slurm", "--dry-run", "--nodes=2", "--gpus-per-node=4", "--cpus-per-task=3"]
  _, script, _ = call([*arguments, *options], PROGRAM, capsys)
  assert script == sbatch_script(
    PROGRAM,
    python=sys.executable,
    root=str(REPO),
    nodes=2,
    gpus_per_node=4,
    cpus_per_task=3,
    options=[*options[:4], "--mem=9G"],
  )


def test_the_options_of_a_kubernetes_job_reach_its_manifest(capsys):
  options = ["--gpus=8", "--claim=c", "--mount=/m", "--name=n", "--dry-run"]
  _, text, _ = call([*JOB, *options], PROGRAM, capsys)
  wanted = dict(image="i", name="n", num_processes=2, gpus=8, claim="c", mount="/m")
  assert json.loads(text) == kubernetes_job.manifest(PROGRAM, **wanted)


def test_what_follows_the_first_two_hyphens_is_not_ours():
  assert cluster.split(["local", "2", "--", "a.b", "--", "-x"]) == (
    ["local", "2"],
    ["a.b", "--", "-x"],
  )
  assert cluster.split(["local", "2"]) == (["local", "2"], [])


@pytest.mark.parametrize("command", ["", *cluster.COMMANDS])
def test_each_command_explains_itself_without_loading_jax(command):
  code = (
    "import runpy, sys\n"
    f"sys.argv = ['cluster', *{command.split()}, '--help']\n"
    "try: runpy.run_module('sbir.cluster', run_name='__main__', alter_sys=True)\n"
    "except SystemExit as stopped: sys.exit(stopped.code or 'jax' in sys.modules)\n"
  )
  result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
  assert result.returncode == 0, result.stderr
  assert "-- MAIN ARGS..." in result.stdout

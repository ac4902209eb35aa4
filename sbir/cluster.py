"""Starts one main as many processes, which then train together.

  python -m sbir.cluster local 2 --devices 2 -- MAIN ARGS...      a rehearsal on this machine's CPU
  python -m sbir.cluster slurm --nodes 2 --gpus-per-node 8 -- MAIN ARGS...
  python -m sbir.cluster tpu --name POD --zone ZONE -- MAIN ARGS...
  python -m sbir.cluster k8s --image IMAGE --processes 2 -- MAIN ARGS...

MAIN is a module such as xmodal.train_teacher; ARGS reach it unchanged. Each command explains itself
with --help. With --dry-run, all but local print what they would hand over, and do nothing.
`./launch.sh local` and so on set up .venv first.
"""

import argparse
import importlib.util
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from sbir import cli, kubernetes_job, rehearse, submit

ROOT = Path(__file__).absolute().parent.parent
SEPARATOR = "--"


def main(arguments: Sequence[str], program: Sequence[str]) -> int:
  """Runs one command on `program`, a main and its arguments, and returns the exit status."""
  command = COMMANDS.get(arguments[0]) if arguments else None
  if command:
    return command(arguments[1:], program)
  flags = cli.parser(__doc__)
  flags.add_argument("command", choices=list(COMMANDS))
  flags.parse_args(arguments)  # shows the help, or says what is wrong
  raise AssertionError(arguments)


def local(arguments: Sequence[str], program: Sequence[str]) -> int:
  """Rehearses on this machine what a cluster would run: N processes on its CPU.

  Lines appear behind the number of their process: "[1] ...". When a process fails, the others are
  stopped, and its exit status is returned. Ctrl-C and SIGTERM reach each process once.
  """
  flags = _parser(local)
  flags.add_argument("processes", type=count, metavar="N", help="how many processes")
  flags.add_argument("--devices", type=count, default=1, metavar="D", help="of each; default: 1")
  options = _parse(flags, arguments, program)
  _check_module(program[0])
  port = rehearse.free_port()
  return rehearse.rehearse(
    rehearse.command_lines(program, options.processes, port),
    rehearse.environment(os.environ, options.devices, str(ROOT)),
  )


def slurm(arguments: Sequence[str], program: Sequence[str]) -> int:
  """Submits a SLURM job: a process for each GPU (without GPUs: for each node).

  Two minutes before its time is up, or when its nodes are wanted, the job is told to stop; it saves
  and puts itself into the queue again. Output: NAME-JOBID.out in the current folder. This folder,
  with its .venv, must be the same on all nodes.
  """
  flags = _parser(slurm)
  flags.add_argument("--nodes", type=count, default=1, metavar="N", help="default: 1")
  flags.add_argument(
    "--gpus-per-node", type=count_or_none, default=1, metavar="G", help="default: 1; 0: CPU only"
  )
  flags.add_argument("--cpus-per-task", type=count, metavar="C", help="CPU cores of a process")
  for name in ("time", "partition", "account", "job-name"):
    flags.add_argument(f"--{name}", type=one_word, metavar=name[0].upper(), help="as sbatch has it")
  flags.add_argument(
    "--sbatch",
    action="append",
    default=[],
    type=one_word,
    metavar="OPTION",
    help="any other option of sbatch, such as --sbatch=--constraint=a100; may be repeated",
  )
  _add_dry_run(flags)
  options = _parse(flags, arguments, program)
  _check_module(program[0])
  named = {name: getattr(options, name) for name in ("time", "partition", "account", "job_name")}
  words = [f"--{name.replace('_', '-')}={value}" for name, value in named.items() if value]
  script = submit.sbatch_script(
    program,
    python=sys.executable,
    root=str(ROOT),
    nodes=options.nodes,
    gpus_per_node=options.gpus_per_node,
    cpus_per_task=options.cpus_per_task,
    options=[*words, *options.sbatch],
  )
  return _hand_over(["sbatch"], script, options.dry_run)


def tpu(arguments: Sequence[str], program: Sequence[str]) -> int:
  """Runs on all workers of a TPU pod, over ssh; the run lives as long as the connection.

  This repository must be checked out in the home folder of every worker, at the same commit; the
  first time, .venv is made there. Relative paths in ARGS begin in the repository there. Data and
  run folder must be the same for all workers: on a disk or bucket that is mounted there.
  """
  flags = _parser(tpu)
  flags.add_argument("--name", required=True, metavar="NAME", help="of the TPU VM, or USER@NAME")
  flags.add_argument("--zone", required=True, metavar="ZONE", help="where it is")
  flags.add_argument("--project", metavar="PROJECT", help="default: gcloud's own")
  flags.add_argument(
    "--dir",
    type=cli.folder,
    default=ROOT.name,
    metavar="DIR",
    help="the repository on the workers, seen from their home folders; default: %(default)s",
  )
  _add_dry_run(flags)
  options = _parse(flags, arguments, program)
  command = submit.tpu_command(
    program, name=options.name, zone=options.zone, folder=options.dir, project=options.project
  )
  return _hand_over(command, None, options.dry_run)


def k8s(arguments: Sequence[str], program: Sequence[str]) -> int:
  """Submits a Kubernetes job (1.26 or newer): a pod for each process, with all GPUs of the pod.

  IMAGE has this toolkit installed, so that its `python -m MAIN` runs. A pod that is told to stop
  saves and is made again, and so are all pods after a node was lost; a mistake in ARGS ends the job
  at once. `--dry-run` prints the manifest as JSON, to edit and `kubectl apply -f` yourself.
  """
  flags = _parser(k8s)
  flags.add_argument("--image", required=True, metavar="IMAGE", help="with the toolkit and jax")
  flags.add_argument("--processes", required=True, type=count, metavar="N", help="how many pods")
  flags.add_argument(
    "--gpus", type=count_or_none, default=0, metavar="G", help="of each pod; default: 0"
  )
  flags.add_argument("--name", metavar="NAME", help="of the job; default: from MAIN")
  flags.add_argument("--claim", metavar="PVC", help="a volume claim for data and run folder")
  flags.add_argument("--mount", default="/data", metavar="PATH", help="where; default: /data")
  _add_dry_run(flags)
  options = _parse(flags, arguments, program)
  name = options.name or kubernetes_job.job_name(program[0])
  if mistake := kubernetes_job.name_mistake(name, options.processes):
    cli.fail(mistake)
  manifest = kubernetes_job.manifest(
    program,
    image=options.image,
    name=name,
    num_processes=options.processes,
    gpus=options.gpus,
    claim=options.claim,
    mount=options.mount,
  )
  text = json.dumps(manifest, indent=2) + "\n"
  return _hand_over(["kubectl", "apply", "-f", "-"], text, options.dry_run)


COMMANDS: dict[str, Callable[[Sequence[str], Sequence[str]], int]] = {
  "local": local,
  "slurm": slurm,
  "tpu": tpu,
  "k8s": k8s,
}


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
  """Returns (what is ours, MAIN and its ARGS): what is before and after the first `--`."""
  words = list(arguments)
  at = words.index(SEPARATOR) if SEPARATOR in words else len(words)
  return words[:at], words[at + 1 :]


def count(text: str) -> int:
  """Returns the number of a flag that counts something there must be one of."""
  if not re.fullmatch(r"0*[1-9][0-9]*", text):
    raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1 on")
  return int(text)


def count_or_none(text: str) -> int:
  """Returns the number of a flag that counts something there may be none of."""
  return 0 if text == "0" else count(text)


def one_word(text: str) -> str:
  """Returns a value for a line of #SBATCH, which blanks and quotes would break."""
  if not text or re.search(r"[\s'\"\\#]", text):
    raise argparse.ArgumentTypeError(f"{text!r}: expected one word, without blanks or quotes")
  return text


def _parser(command: Callable[..., int]) -> ArgumentParser:
  flags = cli.parser(inspect.getdoc(command))
  flags.prog += f" {command.__name__}"
  return flags


def _add_dry_run(flags: ArgumentParser) -> None:
  flags.add_argument("--dry-run", action="store_true", help="print it, and do nothing")


def _parse(flags: ArgumentParser, arguments: Sequence[str], program: Sequence[str]) -> Namespace:
  """Returns the options of a command, once there is also a main to start."""
  flags.usage = flags.format_usage().removeprefix("usage: ").rstrip() + " -- MAIN ARGS..."
  options, surplus = flags.parse_known_args(arguments)
  if not program:
    flags.error("nothing is to be started, expected -- MAIN ARGS... at the end")
  if surplus:
    flags.error(f"unrecognized arguments: {' '.join(surplus)}")
  if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", program[0]):
    flags.error(f"MAIN is {program[0]!r}, expected a module such as xmodal.train_teacher")
  return options


def _check_module(name: str) -> None:
  """Ends with one line, before many processes do, if there is no module of that name here."""
  try:
    found = importlib.util.find_spec(name)
  except ModuleNotFoundError:
    found = None
  if not found:
    cli.fail(f"there is no module {name}, expected one such as xmodal.train_teacher")


def _hand_over(command: Sequence[str], text: str | None, is_dry_run: bool) -> int:
  """Runs a command with `text` on its stdin and returns its status, or only prints what would go:
  the text, or else the command."""
  if is_dry_run:
    print(text if text is not None else shlex.join(command) + "\n", end="")
    return 0
  if not shutil.which(command[0]):
    cli.fail(
      f"there is no {command[0]} on the PATH, expected on a machine that submits; "
      "--dry-run prints what it would get"
    )
  done = subprocess.run(command, input=text, text=True)
  return rehearse.shell_status(done.returncode)


if __name__ == "__main__":
  own, handed_on = split(sys.argv[1:])
  cli.tool(lambda arguments: main(arguments, handed_on), own)

"""Builds what is handed to SLURM and to a TPU pod: text and argument lists; nothing is run here."""

import shlex
from collections.abc import Sequence

from sbir.processes import EXIT_STOPPED

SECONDS_TO_SAVE = 120  # between SLURM's SIGTERM and the end of a job's time


def as_process(
  program: Sequence[str], coordinator: str, num_processes: int, process_id: str
) -> list[str]:
  """Returns `program`, a main and its arguments, told which of the processes it is."""
  flags = ["--coordinator", coordinator, "--num-processes", str(num_processes)]
  return [*program, *flags, "--process-id", process_id]


def sbatch_script(
  program: Sequence[str],
  *,
  python: str,
  root: str,
  nodes: int,
  gpus_per_node: int,
  options: Sequence[str] = (),
  cpus_per_task: int | None = None,
) -> str:
  """Returns the script that sbatch reads from stdin: `program`, a main and its arguments.

  One process for each GPU: jax gives a process of a SLURM job the one GPU of its SLURM_LOCALID, so
  each must see all of the node (no --gpus-per-task). Without GPUs, one process for each node.
  `options` are words such as --time=1:00:00, for sbatch.
  """
  cpus = [f"--cpus-per-task={cpus_per_task}"] if cpus_per_task else []
  gpus = [f"--gpus-per-node={gpus_per_node}"] if gpus_per_node else []
  wanted = [
    f"--job-name={program[0]}",
    f"--nodes={nodes}",
    f"--ntasks-per-node={max(gpus_per_node, 1)}",
    *gpus,
    *cpus,
    "--output=%x-%j.out",
    "--open-mode=append",
    "--requeue",
    f"--signal=TERM@{SECONDS_TO_SAVE}",
    *options,  # last, so that they win
  ]
  head = "".join(f"#SBATCH {option}\n" for option in wanted)
  # cpus again: srun has not taken them from sbatch since Slurm 22.05. And without waiting for the
  # others (some sites kill at the first status that is not 0), who still saves would be killed.
  srun = shlex.join(["srun", "--kill-on-bad-exit=0", *cpus, python, "-m", *program])
  return f"""#!/usr/bin/env bash
{head}export PYTHONPATH={shlex.quote(root)}${{PYTHONPATH:+:$PYTHONPATH}}
status=0
{srun} || status=$?
# {EXIT_STOPPED}: told to stop, and saved. The same job in the queue again goes on from there.
if [ "$status" = {EXIT_STOPPED} ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""


def tpu_command(
  program: Sequence[str], *, name: str, zone: str, folder: str, project: str | None = None
) -> list[str]:
  """Returns the gcloud command that runs `program` on all workers of a TPU pod.

  `folder`, relative to the home folder there, holds the repository on every worker; the first time,
  .venv is made in it.
  """
  steps = [
    ["cd", folder.removeprefix("~/")],
    ["./launch.sh", "setup", "--accelerator", "tpu"],
    ["exec", ".venv/bin/python", "-m", *program],
  ]
  return [
    *["gcloud", "compute", "tpus", "tpu-vm", "ssh", name, f"--zone={zone}"],
    *([f"--project={project}"] if project else []),
    "--worker=all",
    "--command=" + " && ".join(shlex.join(step) for step in steps),
  ]

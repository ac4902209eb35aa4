"""Builds the Kubernetes manifest of a training: an Indexed Job, and a Service for its names."""

import re
from collections.abc import Sequence
from typing import Any

from sbir.processes import EXIT_STOPPED
from sbir.submit import as_process

PORT = 8476  # of the coordinator; each pod has its ports for itself, so that any would do
SECONDS_TO_SAVE = 600  # until a pod that was told to stop is killed: for a step and a checkpoint
CRASHES = 6  # Kubernetes' own default
CONTAINER = "main"
LONGEST_NAME = 63  # of a host, in DNS


def job_name(main: str) -> str:
  """Returns a name for the job of a main: xmodal.train_teacher becomes xmodal-train-teacher."""
  return re.sub(r"[^a-z0-9]+", "-", main.lower()).strip("-")


def name_mistake(name: str, num_processes: int) -> str | None:
  """Returns what is wrong with a job's name, the name of hosts too; None if nothing is."""
  if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
    return f"--name {name!r}: expected small letters, digits and hyphens, such as my-training"
  longest = LONGEST_NAME - len(f"-{num_processes - 1}")
  if len(name) > longest:
    return f"--name {name}: {len(name)} letters, expected {longest} at most; shorten it"
  return None


def manifest(
  program: Sequence[str],
  *,
  image: str,
  name: str,
  num_processes: int,
  gpus: int = 0,
  claim: str | None = None,
  mount: str = "/data",
) -> dict[str, Any]:
  """Returns what `kubectl apply` takes: `program`, a main and its arguments, in one pod each.

  `claim` is a PersistentVolumeClaim that all pods see at `mount`: data and run folder.
  """
  service = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": name},
    "spec": {
      "clusterIP": "None",  # headless: it gives each pod a name, NAME-0.NAME and so on
      "selector": {"job-name": name},
      "publishNotReadyAddresses": True,
    },
  }
  job = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": name},
    "spec": {
      "completionMode": "Indexed",
      "completions": num_processes,
      "parallelism": num_processes,
      # When one process crashes, jax ends all the others, and Kubernetes counts each of them.
      "backoffLimit": CRASHES * num_processes,
      "podFailurePolicy": {"rules": _failure_rules()},
      "template": {"spec": _pod(program, image, name, num_processes, gpus, claim, mount)},
    },
  }
  return {"apiVersion": "v1", "kind": "List", "items": [service, job]}


def _failure_rules() -> list[dict[str, Any]]:
  """Returns what a failed pod means: the first rule that fits decides, any other counts."""

  def exited(status: int) -> dict[str, Any]:
    return {"containerName": CONTAINER, "operator": "In", "values": [status]}

  return [
    {"action": "Ignore", "onExitCodes": exited(EXIT_STOPPED)},  # told to stop, and saved
    {"action": "FailJob", "onExitCodes": exited(2)},  # a mistake in the command stays one
    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
  ]


def _pod(
  program: Sequence[str],
  image: str,
  name: str,
  num_processes: int,
  gpus: int,
  claim: str | None,
  mount: str,
) -> dict[str, Any]:
  words, index = [literal(word) for word in program], "$(JOB_COMPLETION_INDEX)"
  command = as_process(words, f"{name}-0.{name}:{PORT}", num_processes, index)
  container: dict[str, Any] = {
    "name": CONTAINER,
    "image": image,
    "command": ["python", "-m", *command],
    "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}],
  }
  volumes = {}  # where it is mounted: what
  if gpus:
    container["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
    # GPUs of a pod talk through /dev/shm, of which a container has 64 MB.
    volumes["/dev/shm"] = {"name": "shm", "emptyDir": {"medium": "Memory"}}
  if claim:
    volumes[mount] = {"name": "data", "persistentVolumeClaim": {"claimName": claim}}
  if volumes:
    container["volumeMounts"] = [
      {"name": volume["name"], "mountPath": path} for path, volume in volumes.items()
    ]
  return {
    "restartPolicy": "Never",  # the job makes new pods, as the failure policy demands
    "subdomain": name,
    "terminationGracePeriodSeconds": SECONDS_TO_SAVE,
    "containers": [container],
    **({"volumes": list(volumes.values())} if volumes else {}),
  }


def literal(argument: str) -> str:
  """Returns an argument as Kubernetes hands it on unchanged: it fills in $(NAME), and $$ is $."""
  return argument.replace("$", "$$")

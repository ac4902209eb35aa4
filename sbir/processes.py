"""Several processes that train one network: how they find each other, and who speaks and writes.

One process is the ordinary case, in which all of this does nothing. jax is imported only where
there are several.
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sbir import progress
from sbir.user_error import UserError

Result = TypeVar("Result")

FLAGS = ("--coordinator", "--num-processes", "--process-id")
EXAMPLE = "--coordinator HOST:PORT --num-processes 2 --process-id 0"
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: asked to stop; run the same command again
MESSAGE_BYTES = 2048  # of what the first process tells the others


class Share(NamedTuple):
  """Which part of every batch a process loads: the `index`-th of `count` equal ones."""

  index: int = 0
  count: int = 1


WHOLE = Share()
_joined = WHOLE


def share() -> Share:
  """Returns this process's place among all that train together."""
  return _joined


def is_first() -> bool:
  """Returns whether this process is the one that prints and writes."""
  return _joined.index == 0


def split_flags(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
  """Returns ({flag: value} of the three flags, the other arguments).

  Raises: UserError unless all three are there or none is, each with a value that makes sense.
  """
  found: dict[str, str] = {}
  rest: list[str] = []
  left = list(arguments)
  while left:
    name, has_value, value = left.pop(0).partition("=")
    if name not in FLAGS:
      rest.append(name + has_value + value)
    elif not has_value and not left:
      raise UserError(f"{name} has no value; write for instance {EXAMPLE}")
    else:
      found[name] = value if has_value else left.pop(0)
  if found:
    _check(found)
  return found, rest


def join(flags: Mapping[str, str]) -> None:
  """Joins the other processes: those that the flags name, or of a SLURM step or a TPU pod.

  Returns when all are there. Then only the first prints, and `share` says which one this is. To be
  called before anything is computed; without flags, and nothing of a cluster around, does nothing.

  Raises: UserError if the others cannot be reached.
  """
  if not (flags or _in_slurm_step() or _on_tpu()):
    return
  import jax

  # The only way in which several processes can compute together on CPUs.
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  known: dict[str, Any] = {}
  if flags:
    coordinator, num_processes, process_id = (flags[name] for name in FLAGS)
    known = {
      "coordinator_address": coordinator,
      "num_processes": int(num_processes),
      "process_id": int(process_id),
    }
  try:
    jax.distributed.initialize(**known)
  except (RuntimeError, ValueError) as error:
    reason = str(error).splitlines()[0]
    raise UserError(
      f"the other processes cannot be joined ({reason}); start all of them, with {EXAMPLE} "
      "and the address of process 0"
    ) from None
  _take_place(Share(jax.process_index(), jax.process_count()))


def _take_place(place: Share) -> None:
  """Makes the first process's stdout hold what we print alone, and the others' nothing."""
  global _joined
  _joined = place
  if not is_first():
    progress.silence()
  sys.stdout.flush()
  ours = os.dup(1) if is_first() else os.open(os.devnull, os.O_WRONLY)
  os.dup2(2, 1)  # what libraries print below Python, as Gloo does, goes to stderr
  sys.stdout = open(ours, "w", buffering=1)  # noqa: SIM115


def barrier(name: str) -> None:
  """Returns when every process has come here."""
  if _joined.count > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def on_first(do: Callable[[], Result]) -> Result | None:
  """Returns do() in the first process, None in all others, and in all only when it is done.

  Raises: UserError in every process if the first raises it.
  """
  if _joined.count == 1:
    return do()
  result, mistake = None, ""
  if is_first():
    try:
      result = do()
    except UserError as error:
      mistake = str(error)
  if mistake := tell_all(mistake):
    raise UserError(mistake)
  return result


def tell_all(text: str) -> str:
  """Returns in every process the text of the first, cut to MESSAGE_BYTES."""
  if _joined.count == 1:
    return text
  import numpy as np
  from jax.experimental import multihost_utils

  room = np.zeros(MESSAGE_BYTES, np.uint8)
  encoded = np.frombuffer(text.encode()[:MESSAGE_BYTES], np.uint8)
  room[: len(encoded)] = encoded
  told = np.asarray(multihost_utils.broadcast_one_to_all(room), np.uint8)
  return told.tobytes().rstrip(b"\0").decode(errors="ignore")


def _check(flags: Mapping[str, str]) -> None:
  if missing := [name for name in FLAGS if name not in flags]:
    raise UserError(f"{', '.join(missing)} is missing; several processes need all of {EXAMPLE}")
  host, _, port = flags["--coordinator"].rpartition(":")
  if not (host and port.isdigit()):
    raise UserError(
      f"--coordinator {flags['--coordinator']} must be HOST:PORT of process 0, as in {EXAMPLE}"
    )
  numbers = [flags[name] for name in FLAGS[1:]]
  if not all(number.isdigit() for number in numbers) or not int(numbers[1]) < int(numbers[0]):
    raise UserError(
      f"--num-processes {numbers[0]} --process-id {numbers[1]}: expected whole numbers, the "
      "id from 0 to one below the number"
    )


def _in_slurm_step() -> bool:
  """Returns whether srun has started several of us; a batch script by itself is one process."""
  return int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1 and "SLURM_PROCID" in os.environ


def _on_tpu() -> bool:
  """Returns whether this is a machine with a TPU, of a pod perhaps: jax asks the others itself."""
  has_chip = any(Path("/dev").glob("accel*")) or any(Path("/dev/vfio").glob("[0-9]*"))
  return has_chip and importlib.util.find_spec("libtpu") is not None

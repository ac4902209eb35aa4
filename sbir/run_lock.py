"""One process at a time in a run folder; what a killed one leaves behind is recognised."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sbir import progress
from sbir.places import is_remote, place
from sbir.types import UserError

NAME = "lock.json"
BEAT_SECONDS = 20.0  # how often the owner shows that it is alive
DEAD_SECONDS = 300.0  # on another machine, without a sign for so long: dead


@contextlib.contextmanager
def locked(workdir: str | os.PathLike[str], name: str = "workdir") -> Iterator[None]:
  """Holds the run folder for this process; one that it had to make goes if nothing else is in it.

  The lock names host and process, and is touched again and again. It is stale, and taken over, when
  no such process runs on this host any more, or a foreign one has not touched it for DEAD_SECONDS.
  A store has no way to write only what is not there: two that begin within the same moment there
  are not told apart. `name` stands before the folder in messages.

  Raises: UserError if a living process holds it, or nothing can be written there.
  """
  path = place(workdir) / NAME
  is_new = not path.parent.exists()
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    _take_in_store(path, name) if is_remote(path) else _take(path, name)
  except OSError as error:
    raise UserError(
      f"{name} {workdir} cannot be locked: {path} cannot be written ({error.strerror}); make "
      f"room, or use another --{name}"
    ) from None
  stop = threading.Event()
  beat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
  beat.start()
  try:
    yield
  finally:
    stop.set()
    beat.join(BEAT_SECONDS)  # in a store it could write the lock again after it is gone
    if _owner(path) == _me():
      path.unlink(missing_ok=True)
    if is_new:
      with contextlib.suppress(OSError):
        path.parent.rmdir()


def _take(path: Path, name: str) -> None:
  own = path.with_name(f".{NAME}.{socket.gethostname()}.{os.getpid()}")
  own.write_text(json.dumps(_me()) + "\n")
  try:
    while not _placed(own, path):
      owner = _dead_owner(path, name)
      _remove_stale(path, owner)
  finally:
    own.unlink(missing_ok=True)


def _take_in_store(path: Path, name: str) -> None:
  if _dead_owner(path, name) is not None:
    progress.say(f"{path}: left by a process that is gone; taken over")
  path.write_text(json.dumps(_me()) + "\n")


def _dead_owner(path: Path, name: str) -> dict[str, Any] | None:
  """Returns whose lock it is, None if it says nothing of use.

  Raises: UserError if that one lives.
  """
  owner = _owner(path)
  if owner is not None and not _is_dead(owner, path):
    raise UserError(
      f"{name} {path.parent} is in use by process {owner['pid']} on {owner['host']}, expected "
      f"none; wait for it, or stop it (if there is none such, delete {path})"
    )
  return owner


def _placed(own: Path, path: Path) -> bool:
  """Returns whether the lock is ours: it appears whole, and of two that try at once one fails."""
  try:
    os.link(own, path)
  except FileExistsError:
    return False
  return True


def _remove_stale(path: Path, owner: dict[str, Any] | None) -> None:
  """Takes the lock of `owner` away; that of another, who was quicker, is put back."""
  aside = path.with_name(f".{NAME}.stale.{os.getpid()}")
  try:
    os.rename(path, aside)
  except FileNotFoundError:
    return
  if _owner(aside) == owner:
    progress.say(f"{path}: left by a process that is gone; taken over")
  else:
    _placed(aside, path)
  aside.unlink()


def _me() -> dict[str, Any]:
  return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _owner(path: Path) -> dict[str, Any] | None:
  """Returns what the lock says, None where it is gone or says nothing of use."""
  try:
    found = json.loads(path.read_text())
  except (OSError, ValueError):
    return None
  is_whole = isinstance(found, dict) and found.keys() == _me().keys()
  return found if is_whole and isinstance(found["pid"], int) else None


def _is_dead(owner: dict[str, Any], path: Path) -> bool:
  if owner["host"] != socket.gethostname():
    try:
      return time.time() - path.stat().st_mtime > DEAD_SECONDS
    except OSError:
      return True
  return _started(owner["pid"]) != owner["started"]


def _started(pid: int) -> str:
  """Returns when a process of this host started, in the kernel's words: numbers of processes come
  again. "" if there is none; "unknown" where the system does not tell."""
  try:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
  except OSError:
    pass
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return ""
  except OSError:
    pass
  return "unknown"


def _beat(path: Path, stop: threading.Event) -> None:
  while not stop.wait(BEAT_SECONDS):
    with contextlib.suppress(OSError):
      if not is_remote(path):
        os.utime(path)
      elif _owner(path) == _me():
        path.write_text(json.dumps(_me()) + "\n")

"""The folder of one run: which config it belongs to, and with which versions it was made."""

import importlib.metadata
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sbir.places import exists, is_dir, is_remote, place
from sbir.types import UserError
from sbir.user_path import nearest

# What may change between two starts of one run: how long and how often, never what is trained.
FREE_KEYS = frozenset(
  {
    "steps",
    "save_every",
    "log_every",
    "eval_every",
    "keep",
    "log_tensorboard",
    "workdir",
    "cache.dir",
    "data.cache",
    "data.cache_dir",
    "mesh.data",
    "mesh.fsdp",
    "data.on_error",
    "skip_nonfinite",
  }
)
# The last file of a step that is saved in a store, as Orbax has it.
COMMITTED = "commit_success.txt"
FREE_KEYS_HINT = "steps, save_every, log_every, eval_every"
PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "numpy",
  "ml_collections",
)


def read_config(workdir: str | os.PathLike[str]) -> dict[str, Any]:
  """Returns the config.json of a run folder.

  Raises: UserError if the folder is missing or holds no readable run.
  """
  path = place(workdir) / "config.json"
  try:
    if not is_dir(workdir):
      raise UserError(
        f"run folder {workdir} does not exist; give the --workdir of a finished training"
      )
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
      raise ValueError(f"it holds a {type(found).__name__}, expected the keys of a config")
  except UserError:
    raise
  except FileNotFoundError:
    raise UserError(
      f"{workdir} is not a run folder: it has no config.json; give the --workdir of a training"
    ) from None
  except (OSError, ValueError, RecursionError) as error:
    reason = getattr(error, "strerror", None) or error
    raise UserError(f"{path} cannot be read ({reason}); train again in a new folder") from None
  return found


def read_versions(workdir: str | os.PathLike[str]) -> dict[str, Any]:
  """Returns the versions.json of a run folder, {} where there is none that can be read: it tells of
  a run, nothing depends on it."""
  try:
    found = json.loads((place(workdir) / "versions.json").read_text())
  except (OSError, ValueError, RecursionError):
    return {}
  return found if isinstance(found, dict) else {}


def read_training(workdir: str | os.PathLike[str], method: str, key: str) -> dict[str, Any]:
  """Returns the config of a training of `method`; `key` is the config key that names the folder.

  Raises: UserError if none is named, or what is there is no run of that method.
  """
  if not os.fspath(workdir):
    raise UserError(f"{key}='' must name a run folder; add --config.{key}=DIR")
  config = read_config(workdir)
  if not {"method", "stage"} <= config.keys() or config["method"] != method:
    raise UserError(
      f"{key}={workdir} is the run folder of something else, expected a training of {method}'s; "
      "give the --workdir of one"
    )
  return config


def latest_step(workdir: str | os.PathLike[str]) -> int | None:
  """Returns the newest saved step, or None; looks at folder names only, so it costs nothing."""
  return max(saved_steps(workdir), default=None)


def saved_steps(workdir: str | os.PathLike[str]) -> list[int]:
  """Returns the saved steps, rising."""
  folder = place(workdir) / "checkpoints"
  if not is_dir(folder):
    return []
  steps = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
  if not is_remote(folder):
    return steps
  return [step for step in steps if (folder / str(step) / COMMITTED).exists()]


def is_finished(workdir: str | os.PathLike[str], steps: int) -> bool:
  """Returns whether the run in `workdir` has already done `steps` updates."""
  return (latest_step(workdir) or 0) >= steps


def check(workdir: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
  """Checks, and writes nothing, that `workdir` can hold the run that `config` describes.

  Raises: UserError if the folder cannot be written, or holds a run with another config.
  """
  check_writable(place(workdir))
  if exists(place(workdir) / "config.json"):
    _check_same(workdir, read_config(workdir), _plain(config))


def open_run(
  workdir: str | os.PathLike[str], config: Mapping[str, Any], init: Mapping[str, str] | None = None
) -> None:
  """Makes the folder and writes config.json and versions.json, after `check`.

  `init` says from which file the run begins, {"path", "file", "sha256"}; without it versions.json
  keeps what it says of that.
  """
  check(workdir, config)
  recorded = versions()
  if init := init or read_versions(workdir).get("init"):
    recorded["init"] = dict(init)
  try:
    folder = place(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", _plain(config))
    write_json(folder / "versions.json", recorded)
  except OSError as error:
    raise UserError(
      f"workdir {workdir} cannot be written ({error.strerror}); choose another"
    ) from None


def write_json(path: Path, value: Any) -> None:
  """Writes `value` as JSON, whole or not at all."""
  write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
  """Writes `text` to `path` through a temporary neighbour, so no reader ever sees half of it."""
  write_bytes(path, text.encode())


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes named arrays as .npz, whole or not at all."""
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  write_bytes(path, buffer.getvalue())


def write_bytes(path: Path, data: bytes) -> None:
  """Writes `data` to `path` through a temporary neighbour, so no reader ever sees half of it. A
  store needs none: objects appear whole."""
  if is_remote(path):
    path.write_bytes(data)
    return
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with open(temporary, "wb") as f:
      f.write(data)
      f.flush()
      os.fsync(f.fileno())
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


def versions() -> dict[str, Any]:
  """Returns what a number depends on beside the config: packages, Python, devices, git commit."""
  import jax

  return {
    "python": platform.python_version(),
    "platform": platform.platform(),
    "devices": [device.device_kind for device in jax.devices()],
    "git": _git_commit(),
    "command": sys.argv,
    "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
  }


def _git_commit() -> str:
  """Returns the commit of the source tree ("+changes" if edited), or "" outside a checkout."""
  here = Path(__file__).resolve().parent
  ask = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+changes"]
  try:
    return subprocess.run(ask, capture_output=True, text=True, timeout=10).stdout.strip()
  except (OSError, subprocess.TimeoutExpired):
    return ""


def _plain(config: Mapping[str, Any]) -> Any:
  """Returns the config as it reads back from JSON (tuples become lists), for comparison."""
  plain = config.to_dict() if hasattr(config, "to_dict") else dict(config)
  return json.loads(json.dumps(plain))


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
  if not isinstance(tree, Mapping) or not tree:
    return {prefix: tree}
  rows: dict[str, Any] = {}
  for name, value in tree.items():
    rows |= _flatten(value, f"{prefix}.{name}" if prefix else name)
  return rows


def _check_same(workdir: Any, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
  """Raises UserError listing the keys in which the two configs differ and may not."""
  before, now = _flatten(old), _flatten(new)
  names = [name for name in sorted(before | now) if name not in FREE_KEYS]
  changed = [
    f"{name}: {before.get(name, 'absent')!r} there, {now.get(name, 'absent')!r} here"
    for name in names
    if before.get(name, "absent") != now.get(name, "absent")
  ]
  if changed:
    raise UserError(
      f"workdir {workdir} holds another run ({'; '.join(changed)}); use another --workdir, or give "
      f"the same config (only {FREE_KEYS_HINT} may change)"
    )


def check_writable(folder: Path, name: str = "workdir") -> None:
  """Raises UserError, which calls the folder `name`, if it is no folder that could be written.

  Of one in a store it asks only whether the store answers.
  """
  if is_remote(folder):
    _check_reached(folder, name)
    return
  there = nearest(folder, os.path.exists)
  if not os.path.isdir(there):
    raise UserError(f"{name} {folder} cannot be made: {there} is a file; choose another")
  if not os.access(there, os.W_OK):
    raise UserError(f"{name} {folder} cannot be written: no permission in {there}; choose another")


def _check_reached(folder: Path, name: str) -> None:
  try:
    if not folder.is_dir() and folder.exists():
      raise UserError(f"{name} {folder} is a file, expected a folder; choose another")
  except OSError as error:
    raise UserError(
      f"{name} {folder} cannot be reached ({error.strerror}); check its name and your login"
    ) from None

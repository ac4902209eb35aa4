"""What a saved step's files were when they were saved, so that a damaged one is known before use.

Orbax puts a checkpoint in place whole or not at all, but what happens to its files later (a full or
failing disk, a copy cut short) it may not see, and a lost piece can read as zeros.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from sbir import run_folder

FOLDER = "checksums"
DAMAGED = "damaged"


def record(workdir: str | os.PathLike[str], step: int) -> None:
  """Writes down size and SHA-256 of every file of a saved step; forgets steps that are gone."""
  folder = Path(workdir) / FOLDER
  folder.mkdir(exist_ok=True)
  run_folder.write_json(folder / f"{step}.json", _sums(_checkpoint(workdir, step)))
  kept = {str(saved) for saved in run_folder.saved_steps(workdir)}
  for path in folder.glob("*.json"):
    if path.stem not in kept:
      path.unlink()


def damage(workdir: str | os.PathLike[str], step: int) -> str | None:
  """Returns what is wrong with a saved step's files: "" if nothing, None if it is not known, as of
  a step whose process was killed before it had written the sums."""
  try:
    expected = json.loads((Path(workdir) / FOLDER / f"{step}.json").read_text())
  except (OSError, ValueError):
    return None
  found = _sums(_checkpoint(workdir, step))
  for name in sorted(expected.keys() | found.keys()):
    if name not in found:
      return f"{name} is gone"
    if found[name] != expected.get(name):
      return f"{name} is not as it was saved"
  return ""


def set_aside(workdir: str | os.PathLike[str], step: int) -> Path:
  """Moves a saved step to the folder "damaged" beside, under its name, and returns where it is."""
  folder = Path(workdir) / DAMAGED
  folder.mkdir(exist_ok=True)
  target, number = folder / str(step), 1
  while target.exists():
    number += 1
    target = folder / f"{step}_{number}"
  shutil.move(_checkpoint(workdir, step), target)
  (Path(workdir) / FOLDER / f"{step}.json").unlink(missing_ok=True)
  return target


def _checkpoint(workdir: str | os.PathLike[str], step: int) -> Path:
  return Path(workdir) / "checkpoints" / str(step)


def _sums(folder: Path) -> dict[str, list]:
  found = {}
  for path in sorted(folder.rglob("*")):
    if path.is_file():
      with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
      found[path.relative_to(folder).as_posix()] = [path.stat().st_size, digest]
  return found

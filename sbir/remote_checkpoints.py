"""The checkpoints of a run folder in a store: Orbax works on this machine's disk, and whole steps
are copied there and back. Orbax 0.12.8 itself writes to gs:// but not to s3://; this is one way for
all.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sbir import processes, progress, run_folder
from sbir.places import named_after, place, users_cache
from sbir.types import UserError


class Mirror:
  """A folder on this disk that has the steps of a run folder in a store."""

  def __init__(self, workdir: str | os.PathLike[str]):
    """Fetches the steps that are there and not here. Raises: UserError if that fails, or several
    processes train: each would save its own part of a step."""
    if processes.share().count > 1:
      raise UserError(
        f"workdir {workdir} is in a store, where one process alone can save, and "
        f"{processes.share().count} train; use a folder on a disk that all share"
      )
    self._there = place(workdir) / "checkpoints"
    self.folder = users_cache("runs") / named_after(str(workdir)) / "checkpoints"
    try:
      self._refresh(workdir)
    except OSError as error:
      raise UserError(
        f"checkpoints of {workdir} cannot be copied to {self.folder} ({error.strerror}); check the "
        "login and the room there"
      ) from None

  def _refresh(self, workdir: str | os.PathLike[str]) -> None:
    self.folder.mkdir(parents=True, exist_ok=True)
    steps = {str(step) for step in run_folder.saved_steps(workdir)}
    for path in self.folder.iterdir():
      if path.is_dir() and not (path.name in steps and self._is_same(path.name)):
        shutil.rmtree(path)
    for step in sorted(steps.difference(os.listdir(self.folder)), key=int):
      _fetch(self._there / step, self.folder / step)

  def save(self, step: int) -> None:
    """Copies a new step to the store, its mark last, and removes there what is no longer here.

    Raises: UserError if the store does not take it.
    """
    here, there = self.folder / str(step), self._there / str(step)
    try:
      there.rmtree(missing_ok=True)  # what an interrupted copy has left
      (here / run_folder.COMMITTED).write_text(f"{uuid.uuid4()}\n")
      for path in sorted(here.rglob("*"), key=lambda path: path.name == run_folder.COMMITTED):
        if path.is_file():
          (there / path.relative_to(here).as_posix()).send(path)
      for path in list(self._there.iterdir()):
        if path.name.isdigit() and not (self.folder / path.name).is_dir():
          (path / run_folder.COMMITTED).unlink(missing_ok=True)
          path.rmtree(missing_ok=True)
    except OSError as error:
      raise UserError(
        f"checkpoint {there} cannot be saved ({error.strerror}); see to the store and run the same "
        "command again: it goes on from the last saved step"
      ) from None

  def _is_same(self, step: str) -> bool:
    mark = self.folder / step / run_folder.COMMITTED
    return (
      mark.is_file()
      and mark.read_bytes() == (self._there / step / run_folder.COMMITTED).read_bytes()
    )


@contextmanager
def fetched(there: Path) -> Iterator[Path]:
  """Gives a copy of one folder of a checkpoint, for as long as it is read."""
  with tempfile.TemporaryDirectory() as here:
    _fetch(there, Path(here) / there.name)
    yield Path(here) / there.name


def _fetch(there: Path, here: Path) -> None:
  try:
    names = list(there.files_below())
    # The mark last here too: a copy without it is taken for none.
    names.sort(key=lambda name: name == run_folder.COMMITTED)
    for name in progress.track(names, f"copying {there}", len(names)):
      (here / name).parent.mkdir(parents=True, exist_ok=True)
      (there / name).fetch(here / name)
  except OSError as error:
    raise UserError(
      f"checkpoint {there} cannot be copied to {here} ({error.strerror}); check the login and the "
      "room there"
    ) from None

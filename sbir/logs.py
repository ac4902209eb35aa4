"""Metrics of a run: metrics.jsonl always, TensorBoard if asked; the only file that imports clu."""

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sbir import progress, run_folder
from sbir.places import is_remote, place
from sbir.types import Params, UserError

TIMING_FIELDS = ("examples_per_second", "data_wait", "seconds")  # all that two equal runs differ in


class MetricLog:
  """Appends one JSON object a line to metrics.jsonl, and the same numbers to TensorBoard.

  Lines after `restored_step` are dropped first: those steps are about to be done again. With
  `writes` False nothing is touched: of several processes one writes. TensorBoard's events go to
  folders on a disk only.
  """

  def __init__(
    self, workdir: Path, *, restored_step: int = 0, tensorboard: bool = True, writes: bool = True
  ):
    self._writes, self._writer = writes, None
    if not writes:
      return
    self._path = place(workdir) / "metrics.jsonl"
    kept = [row for row in read_metrics(workdir) if row["step"] <= restored_step]
    self._text = "".join(json.dumps(row) + "\n" for row in kept)
    run_folder.write_text(self._path, self._text)
    self._file = None if is_remote(workdir) else self._path.open("a")
    self._workdir, self._wants_tensorboard = workdir, tensorboard
    if tensorboard and is_remote(workdir):
      self._wants_tensorboard = False
      progress.say(f"{workdir} is in a store: metrics.jsonl alone, no events for TensorBoard")

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Writes the numbers of one step; a number that is not finite is written as null.

    Raises: UserError if it cannot be written, as on a full disk.
    """
    if not self._writes:
      return
    names = sorted(metrics, key=lambda name: name != "loss")  # the loss first, for human readers
    row = {name: _finite(metrics[name]) for name in names}
    try:
      self._append(json.dumps({"step": step, **row}) + "\n")
    except OSError as error:
      raise UserError(
        f"{self._path} cannot be written ({error.strerror}); make room and run the same command "
        "again: it goes on from the last saved step"
      ) from None
    if self._wants_tensorboard:
      numbers = {name: value for name, value in row.items() if value is not None}
      self._tensorboard().write_scalars(step, numbers)

  def close(self) -> None:
    """Flushes and closes both files."""
    if self._writes:
      with contextlib.suppress(OSError):  # what could not be written was said when it was
        self._file and self._file.close()
    if self._writer is not None:
      self._writer.close()

  def _append(self, line: str) -> None:
    """Adds a line; the whole text anew in a store, for objects cannot be added to."""
    if self._file is None:
      self._text += line
      run_folder.write_text(self._path, self._text)
      return
    self._file.write(line)
    self._file.flush()

  def _tensorboard(self) -> Any:
    if self._writer is None:
      from clu.metric_writers import SummaryWriter  # imports tensorflow: seconds

      self._writer = SummaryWriter(str(Path(self._workdir) / "tensorboard"))
    return self._writer

  def __enter__(self) -> "MetricLog":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
  """Returns the lines of metrics.jsonl, up to the first that is none of ours, as a killed process
  leaves one unfinished."""
  path = place(workdir) / "metrics.jsonl"
  rows: list[dict[str, Any]] = []
  for line in path.read_bytes().splitlines() if path.exists() else ():
    try:
      row = json.loads(line)
    except (ValueError, RecursionError):
      break
    if not isinstance(row, dict) or type(row.get("step")) is not int:
      break
    rows.append(row)
  return rows


def parameter_table(params: Params) -> str:
  """Returns a table of every parameter: name, shape, dtype, size, and the total."""
  from clu import parameter_overview

  return parameter_overview.get_parameter_overview(params, include_stats=False)


def _finite(value: Any) -> float | int | None:
  number = value if isinstance(value, int) else float(value)
  return number if math.isfinite(number) else None

"""Metrics of a run: metrics.jsonl always, TensorBoard if asked; the only file that imports clu."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sbir import run_folder
from sbir.types import Params

TIMING_FIELDS = ("examples_per_second", "data_wait", "seconds")  # all that two equal runs differ in


class MetricLog:
  """Appends one JSON object a line to metrics.jsonl, and the same numbers to TensorBoard.

  Lines after `restored_step` are dropped first: those steps are about to be done again.
  """

  def __init__(self, workdir: Path, *, restored_step: int = 0, tensorboard: bool = True):
    self._path = Path(workdir) / "metrics.jsonl"
    kept = [row for row in read_metrics(workdir) if row["step"] <= restored_step]
    run_folder.write_text(self._path, "".join(json.dumps(row) + "\n" for row in kept))
    self._file = self._path.open("a")
    self._workdir, self._wants_tensorboard, self._writer = workdir, tensorboard, None

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Writes the numbers of one step; a number that is not finite is written as null."""
    names = sorted(metrics, key=lambda name: name != "loss")  # the loss first, for human readers
    row = {name: _finite(metrics[name]) for name in names}
    self._file.write(json.dumps({"step": step, **row}) + "\n")
    self._file.flush()
    if self._wants_tensorboard:
      numbers = {name: value for name, value in row.items() if value is not None}
      self._tensorboard().write_scalars(step, numbers)

  def close(self) -> None:
    """Flushes and closes both files."""
    self._file.close()
    if self._writer is not None:
      self._writer.close()

  def _tensorboard(self) -> Any:
    if self._writer is None:
      from clu.metric_writers import SummaryWriter  # imports tensorflow: seconds

      self._writer = SummaryWriter(str(Path(self._workdir) / "tensorboard"))
    return self._writer

  def __enter__(self) -> "MetricLog":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
  """Returns the lines of metrics.jsonl, up to the first that is none of ours, as a killed process
  leaves one unfinished."""
  path = Path(workdir) / "metrics.jsonl"
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

"""An evaluation as files and text: JSON for programs, a table for people, one CSV line a query."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

from sbir import run_folder
from sbir.instances import TOP, InstanceReport
from sbir.places import place
from sbir.protocols import PROTOCOLS
from sbir.types import UserError


def table(report: InstanceReport) -> str:
  """Returns the report as text for people: percentages, interval and chance beside each other."""
  lines = [
    f"{report.queries} sketches, gallery of {report.gallery} photos, {report.distance}",
    f"protocol {report.protocol}: {PROTOCOLS[report.protocol]}",
    f"{'':24}{'measured':>10}{'95 % interval':>18}{'chance':>10}",
  ]
  for label, value, interval, chance in metric_rows(report):
    lines.append(f"{label:<24}{value:>8} %{interval:>18}{chance:>8} %")
  return "\n".join(lines + [f"note: {note}" for note in report.warnings]) + "\n"


def metric_rows(report: InstanceReport) -> list[tuple[str, str, str, str]]:
  """Returns (metric, measured, 95 % interval, chance) in per cent, as text."""
  rows = []
  for name, value in report.metrics.items():
    low, high = report.intervals.get(name, (None, None))
    interval = "" if low is None else f"{100 * low:.1f} - {100 * high:.1f}"
    label = name.replace("acc@", "Acc@").replace("_", " ")
    rows.append((label, f"{100 * value:.1f}", interval, f"{100 * report.chance[name]:.1f}"))
  return rows


def csv_text(report: InstanceReport) -> str:
  """Returns one line a query: its name, its photo's id and rank, the ids of the ten nearest."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(["query", "photo", "rank", *(f"top{place + 1}" for place in range(TOP))])
  rows = zip(report.query_rows, report.target_rows, report.ranks, report.nearest_rows, strict=True)
  for query, target, rank, top in rows:
    top_ids = [report.gallery_ids[row] if row >= 0 else "" for row in top]
    writer.writerow([report.query_names[query], report.gallery_ids[target], rank, *top_ids])
  return text.getvalue()


def save_report(
  report: InstanceReport,
  folder: str | Path,
  name: str = "evaluation",
  *,
  about: Mapping[str, str] | None = None,
) -> list[Path]:
  """Writes NAME.json, NAME.txt and NAME.csv, each whole or not at all; returns their paths.

  `about` are lines such as {"data": "shoe_v2"}. Raises: UserError if the folder cannot be written.
  """
  summary = {**report.summary(), "about": dict(about or {})}
  text = "".join(f"{key}: {value}\n" for key, value in (about or {}).items()) + table(report)
  return write_files(
    folder,
    {
      f"{name}.json": json.dumps(summary, indent=2, sort_keys=True) + "\n",
      f"{name}.txt": text,
      f"{name}.csv": csv_text(report),
    },
  )


def write_files(folder: str | Path, texts: Mapping[str, str]) -> list[Path]:
  """Writes {file name: text} into `folder`, each whole or not at all; returns the paths.

  Raises: UserError if the folder cannot be written.
  """
  folder = place(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
      run_folder.write_text(folder / name, text)
  except OSError as error:
    raise UserError(
      f"{error.filename or folder} cannot be written ({error.strerror}); choose another folder"
    ) from None
  return [folder / name for name in texts]

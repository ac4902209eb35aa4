"""A category evaluation as files and text: tables for people, JSON and CSV lines for programs."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sbir.report import write_files
from sbir.retrieval.category_stats import (
  CHANCE_TEXT,
  chance,
  class_mean,
  class_rows,
  headlines,
  intervals,
)
from sbir.retrieval.presets import PRESETS, TOP, CategoryReport
from sbir.types import UserError

NO_VALUE = "-"


def percent(value: float | None) -> str:
  """Returns a fraction as a percentage with one decimal, a dash for None or nan."""
  return NO_VALUE if value is None or math.isnan(value) else f"{100 * value:.1f}"


def headline_rows(report: CategoryReport) -> list[tuple[str, str, str, str, str]]:
  """Returns (metric, mean, 95 % interval, mean over classes, chance) in per cent, as text."""
  bounds, by_class, random = intervals(report), class_mean(report), chance(report)
  return [
    (
      name,
      percent(report.metrics[name]),
      " - ".join(percent(bound) for bound in bounds[name]),
      percent(by_class[name]),
      percent(random[name]),
    )
    for name in headlines(report)
  ]


def preset_rows(report: CategoryReport) -> list[tuple[str, ...]]:
  """Returns a header, then what each preset prints, in per cent, as text."""
  names = list(next(iter(report.presets.values()), ()))
  rows = [("as published by", "distance", *names)]
  for preset, values in report.presets.items():
    used = report.distance if report.distance == "hamming" else PRESETS[preset].distance
    rows.append((preset, used, *(percent(values[name]) for name in names)))
  return rows


def class_table(report: CategoryReport) -> list[tuple[str, ...]]:
  """Returns a header, then one row a class in sorted order, in per cent, as text."""
  names = [name for name in ("map@all[voc]", "prec@100[N]") if name in report.metrics]
  rows = [("class", "queries", "gallery", *names)]
  for row in class_rows(report):
    figures = (percent(row.metrics[name]) for name in names)
    rows.append((row.name, str(row.queries), str(row.gallery), *figures))
  return rows


def table(report: CategoryReport, about: Mapping[str, str] | None = None) -> str:
  """Returns the report as text for people; `about` are lines such as {"protocol": "zero-shot"}."""
  num_classes = len(np.unique(report.query_label))
  heading = ("metric, %", "measured", "95 % interval", "class mean", "chance")
  lines = [
    f"{report.queries} queries of {num_classes} classes, gallery of {report.gallery}, "
    f"{report.dim} dimensions, {report.distance}",
    *(f"{name}: {text}" for name, text in (about or {}).items()),
    "",
    *_columns([heading, *headline_rows(report)]),
    CHANCE_TEXT,
    "",
    *([*_columns(preset_rows(report)), ""] if report.presets else []),
    *_columns([("by definition, %", "", "", ""), *_definition_rows(report)]),
    "",
    *_columns(class_table(report)),
    *(f"note: {note}" for note in report.warnings),
  ]
  return "\n".join(lines) + "\n"


def as_json(report: CategoryReport, about: Mapping[str, str] | None = None) -> dict:
  """Returns the summary and what stands beside it as plain values; None for nan."""
  classes = [
    {"class": row.name, "queries": row.queries, "gallery": row.gallery, **_plain(row.metrics)}
    for row in class_rows(report)
  ]
  bounds = {
    name: list(_plain(dict(enumerate(b))).values()) for name, b in intervals(report).items()
  }
  return {
    **report.summary(),
    "about": dict(about or {}),
    "distance": report.distance,
    "intervals": bounds,
    "mean_over_classes": _plain(class_mean(report)),
    "chance": _plain(chance(report)),
    "chance_text": CHANCE_TEXT,
    "classes": classes,
  }


def query_csv(
  report: CategoryReport,
  query_names: Sequence[str] | None = None,
  gallery_names: Sequence[str] | None = None,
) -> str:
  """Returns one line a query: class, figures, and the ten nearest items, * before the right ones.

  Names default to rows, counted from 0. Raises: UserError if there are not as many as embeddings.
  """
  query_names = _names(query_names, report.queries, "query")
  gallery_names = _names(gallery_names, report.gallery, "gallery")
  names, tops = headlines(report), [f"top{place + 1}" for place in range(TOP)]
  rows = [("query", "class", "relevant", *names, *tops)]
  for i, label in enumerate(report.query_label.tolist()):
    figures = (_full(report.per_query[name][i]) for name in names)
    found = zip(report.nearest_rows[i], report.nearest_is_right[i], strict=True)
    top = ("" if row < 0 else "*" * bool(right) + gallery_names[row] for row, right in found)
    label = label.decode() if isinstance(label, bytes) else label
    rows.append((query_names[i], label, report.num_relevant[i], *figures, *top))
  return _csv(rows)


def class_csv(report: CategoryReport) -> str:
  """Returns one line a class: how many queries and gallery items, and its mean figures."""
  names = headlines(report)
  rows = [("class", "queries", "gallery", *names)]
  for row in class_rows(report):
    rows.append((row.name, row.queries, row.gallery, *(_full(row.metrics[n]) for n in names)))
  return _csv(rows)


def save_report(
  report: CategoryReport,
  folder: str | Path,
  name: str = "evaluation",
  *,
  about: Mapping[str, str] | None = None,
  query_names: Sequence[str] | None = None,
  gallery_names: Sequence[str] | None = None,
) -> list[Path]:
  """Writes NAME.json, NAME.txt, NAME_queries.csv and NAME_classes.csv; returns their paths.

  Each is written whole or not at all. Raises: UserError if the folder cannot be written.
  """
  text = json.dumps(as_json(report, about), indent=2, allow_nan=False) + "\n"
  return write_files(
    folder,
    {
      f"{name}.json": text,
      f"{name}.txt": table(report, about),
      f"{name}_queries.csv": query_csv(report, query_names, gallery_names),
      f"{name}_classes.csv": class_csv(report),
    },
  )


def _definition_rows(report: CategoryReport) -> list[tuple[str, str, str, str]]:
  """Returns plain beside interpolated precision averages, and precision over k beside over R."""
  sides: tuple[list, list] = ([], [])
  for name, value in report.metrics.items():
    sides[name.endswith(("voc]", "[R]"))].append((name, percent(value)))
  return [(*left, *right) for left, right in zip(*sides, strict=True)]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
  """Returns the rows as lines, names to the left and figures to the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  is_name = [not any(row[i][:1].isdigit() for row in rows[1:]) for i in range(len(widths))]
  return [
    "  ".join(
      cell.ljust(width) if left else cell.rjust(width)
      for cell, width, left in zip(row, widths, is_name, strict=True)
    ).rstrip()
    for row in rows
  ]


def _csv(rows: Sequence[Sequence[object]]) -> str:
  text = io.StringIO()
  csv.writer(text, lineterminator="\n").writerows(rows)
  return text.getvalue()


def _full(value: float) -> str:
  return "" if math.isnan(value) else repr(float(value))


def _plain(values: Mapping) -> dict:
  return {name: None if math.isnan(value) else value for name, value in values.items()}


def _names(names: Sequence[str] | None, count: int, side: str) -> list[str]:
  names = range(count) if names is None else names
  if len(names) != count:
    raise UserError(
      f"{len(names)} {side} names for {count} {side} embeddings, expected one each; "
      "give both in one order"
    )
  return [str(name) for name in names]

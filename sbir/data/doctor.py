"""Examines a data folder before it is trained on: python -m sbir.data.doctor --help"""

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from sbir.cli import parser, tool
from sbir.data.class_diagnosis import SIDES, class_count, diagnose_classes, sides
from sbir.data.class_splits import SPLITS_BY_NAME, own_list, unseen_classes
from sbir.data.diagnosis import ERROR, Finding, count, diagnose, many
from sbir.data.files import FileSource, Listing
from sbir.data.folder import sketchy_split_rule
from sbir.data.inspection import image_findings, inspect
from sbir.data.manifest import has_split_column, is_manifest
from sbir.data.published import PUBLISHED, PUBLISHED_BY_CLASS
from sbir.data.records import SPLITS
from sbir.data.sources import list_files
from sbir.data.zero_shot import is_outlier, list_all
from sbir.progress import track
from sbir.types import UserError

SHOWN = 5  # examples of a finding in the table; --json has all

HELP = """\
Examine a folder of photos and sketches before training on it.

Opens every image once and changes nothing.

errors (status 1: training or its measurement would be wrong)
  unreadable or truncated images; files the manifest lists but are not there; names that fit no
  pattern; an empty split; a photo id used twice; sketches whose photo is not there; the same image
  in train and in test
warnings (status 0)
  photos without sketches; identical images; images of one colour; class names that look like
  slips; pairs of two categories; photo ids in both splits; counts that no paper or release has
status 2: the folder is missing, or is no data set of that name

With --split the set is examined for zero-shot retrieval of classes: no sketch needs its photo, but
every class needs photos and sketches. Other errors then: an unseen class that is not there, a class
under two names or in both lists, the same image in a seen and in an unseen class.

examples:
  python -m sbir.data.doctor --dataset shoe_v2 --source ~/ShoeV2
  python -m sbir.data.doctor --dataset mine --source ~/mine --json    (with ~/mine/manifest.csv)
  python -m sbir.data.doctor --dataset sketchy --source ~/Sketchy --split sketchy21
"""


def main(argv: Sequence[str]) -> int:
  """Returns the exit status: 0, or 1 if training would be wrong. Raises: as both `examine`s."""
  args = _parser().parse_args(argv)
  if args.seen and not args.split:
    raise UserError(f"--seen={args.seen} without --split, expected the unseen classes too; add it")
  if args.split:
    report = examine_classes(args.dataset, args.source, args.split, args.seen)
  else:
    report = examine(args.dataset, args.source)
  print(json.dumps(report, ensure_ascii=False) if args.json else as_text(report))
  return report["status"]


def examine(name: str, folder: str | os.PathLike) -> dict[str, Any]:
  """Returns the report on a data folder as plain values, ready for JSON.

  Raises: UserError if the folder is missing, or is no data set of that name.
  """
  listings = {split: list_files("auto", name, folder, split) for split in SPLITS}
  findings = diagnose(name, listings) + image_findings(_inspect_all(listings))
  counted = {split: count(listings[split].records) for split in SPLITS}
  return _report(
    name, folder, _split_rule(name, folder), counted, PUBLISHED.get(name, {}), findings
  )


def examine_classes(
  name: str, folder: str | os.PathLike, split: str, seen: str = ""
) -> dict[str, Any]:
  """Returns the report on a data folder that is divided by class, as plain values.

  `split` and `seen` are those of `read_split`. Raises: UserError if the folder is missing or is no
  folder of classes, or a list cannot be read.
  """
  unseen = unseen_classes(split, "--split")
  trained = own_list(seen, "--seen") if seen else []
  listing = list_all("auto", name, folder)
  listings = sides(listing, unseen, trained)
  findings = diagnose_classes(name, split, listing, unseen, trained)
  findings += image_findings(_inspect_all(listings), SIDES, by_class=True)
  return _report(
    name,
    folder,
    f"the classes of {split}" + _outliers(name, listings),
    {side: class_count(listings[side].records) for side in SIDES},
    PUBLISHED_BY_CLASS.get(split, {}),
    findings,
  )


def _report(
  name: str,
  folder: str | os.PathLike,
  split_rule: str,
  counted: dict[str, NamedTuple],
  published: dict[str, dict[str, NamedTuple]],
  findings: list[Finding],
) -> dict[str, Any]:
  findings = sorted(findings, key=lambda finding: finding.level != ERROR)
  errors = sum(finding.level == ERROR for finding in findings)
  return {
    "dataset": name,
    "source": str(folder),
    "split_rule": split_rule,
    "splits": {split: counts._asdict() for split, counts in counted.items()},
    "published": {
      where: {split: counts._asdict() for split, counts in splits.items()}
      for where, splits in published.items()
    },
    "findings": [dataclasses.asdict(finding) for finding in findings],
    "errors": errors,
    "warnings": len(findings) - errors,
    "status": 1 if errors else 0,
  }


def _inspect_all(listings: dict[str, Listing]) -> list:
  sources = [FileSource(x.name, x.split, x.root, x.records) for x in listings.values()]
  todo = [(source, index) for source in sources for index in range(len(source.records))]
  return [inspect(source, index) for source, index in track(todo, "opening images", len(todo))]


def _split_rule(name: str, folder: str | os.PathLike) -> str:
  if is_manifest(folder):
    if has_split_column(folder):
      return "the manifest's column"
    return "no split column: 10 photos of each category, by hash"
  return sketchy_split_rule(folder) if name == "sketchy" else "the folders train* and test*"


def as_text(report: dict[str, Any]) -> str:
  """Returns the report for reading."""
  lines = [f"{report['dataset']} in {report['source']}; split by {report['split_rule']}", ""]
  lines += [*_table(_count_rows(report)), ""]
  for finding in report["findings"]:
    lines += _finding_lines(Finding(**finding))
  verdict = "training would be wrong" if report["errors"] else "fit for training"
  errors, warnings = many(report["errors"], "error"), many(report["warnings"], "warning")
  lines.append(f"{errors}, {warnings}: {verdict}")
  return "\n".join(lines)


def _outliers(name: str, listings: dict[str, Listing]) -> str:
  """Returns in words how many sketches are counted here but left out of training and test."""
  records = [record for listing in listings.values() for record in listing.records]
  number = sum(is_outlier(name, record) for record in records)
  return f"; {many(number, 'outlier sketch')} not used, as for TVT and PSKD" if number else ""


def _count_rows(report: dict[str, Any]) -> list[list[str]]:
  here = {split: dict(counts) for split, counts in report["splits"].items()}
  columns = list(next(iter(here.values())))
  here["all"] = {column: sum(counts[column] for counts in here.values()) for column in columns}
  rows = [[" / ".join(columns), "here", *report["published"]]]
  for split, counts in here.items():
    said = [splits.get(split) for splits in report["published"].values()]
    rows.append([split, _cell(counts), *map(_cell, said)])
  return rows


def _cell(counts: dict[str, int | None] | None) -> str:
  if counts is None:
    return "-"
  return " / ".join("-" if number is None else str(number) for number in counts.values())


def _table(rows: list[list[str]]) -> list[str]:
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _finding_lines(finding: Finding) -> list[str]:
  lines = [f"{finding.level}: {finding.check}: {finding.message}"]
  lines += [f"    {example}" for example in finding.examples[:SHOWN]]
  if len(finding.examples) > SHOWN:
    lines.append(f"    and {len(finding.examples) - SHOWN} more (all with --json)")
  return lines


def _parser() -> argparse.ArgumentParser:
  flags = parser(HELP)
  add = flags.add_argument
  add(
    "--dataset",
    required=True,
    help="shoe_v2, chair_v2, sketchy; with --split tuberlin, quickdraw; any with a manifest.csv",
  )
  add("--source", required=True, metavar="DIR", help="folder with the images, as released")
  published = ", ".join(name for name in SPLITS_BY_NAME if name != "demo")
  add("--split", default="", metavar="NAME", help=f"{published}, or a text file of unseen classes")
  add("--seen", default="", metavar="FILE", help="the classes to train on, if not all the others")
  add("--json", action="store_true", help="print one JSON object instead of the table")
  return flags


if __name__ == "__main__":
  tool(main)

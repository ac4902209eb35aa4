r"""Shows PSKD on the embedded data: train on some classes, find photos of others from sketches.

  python -m pskd.demo                        (or ./launch.sh demo pskd)
  python -m pskd.demo --json --workdir runs/demo/pskd

No download: 16 kinds of objects are drawn from a seed, as photos and as hand-like sketches. A
teacher and a student train on 11 kinds from random weights; then sketches of the 5 others are asked
for photos of their kind. Ends with a table, pictures and a report. About five minutes on two CPU
cores. The same command again resumes, or shows the finished result.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sbir import cli

WORKDIR = "runs/demo/pskd"


def main(arguments: Sequence[str]) -> None:
  """Parses the command line, runs everything and prints what was found."""
  overrides, rest = cli.split_overrides(arguments)
  flags = cli.parser(__doc__)
  flags.add_argument(
    "--workdir", default=WORKDIR, metavar="W", type=cli.folder, help=f"run folder ({WORKDIR})"
  )
  flags.add_argument("--json", action="store_true", help="end with one JSON object on one line")
  flags.add_argument("--config.KEY", metavar="VALUE", help="override a value in every stage")
  options = flags.parse_args(rest)
  begun = time.monotonic()
  from pskd import pipeline

  results = pipeline.run("demo", options.workdir, overrides)
  print(f"\n{pipeline.format_rows(results)}")
  print(f"\nreport:     {Path(options.workdir) / 'evaluation' / 'report.html'}")
  print(f"run folder: {options.workdir}")
  if options.json:
    print(json.dumps(_summary(results, round(time.monotonic() - begun, 1), options.workdir)))


def _summary(results, seconds: float, workdir: str) -> dict[str, object]:
  report, rows, name = results.student, results.rows, "map@all[voc]"
  return {
    "method": "pskd",
    name: report.metrics[name],
    "prec@100[N]": report.metrics["prec@100[N]"],
    "queries": report.queries,
    "gallery": report.gallery,
    "chance_map": rows["chance"][name],
    "untrained_map": rows["untrained"][name],
    "teacher_map": rows["teacher"][name],
    "seconds": seconds,
    "workdir": str(workdir),
  }


if __name__ == "__main__":
  sys.stdout.reconfigure(line_buffering=True)
  cli.tool(main)

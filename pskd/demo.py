r"""Shows PSKD on the embedded data: train on some classes, find photos of others from sketches.

  python -m pskd.demo                        (or ./launch.sh demo pskd)
  python -m pskd.demo --json --workdir runs/demo/pskd

No download: 16 kinds of objects are drawn from a seed, as photos and as hand-like sketches. A
teacher and a student train on 11 kinds from random weights; then sketches of the 5 others are asked
for photos of their kind. Ends with a table, pictures and a report. About two minutes on two CPU
cores. The same command again resumes, or shows the finished result.
"""

import json
import sys
import time
from collections.abc import Sequence

from sbir import chain, cli
from sbir.places import place

WORKDIR = "runs/demo/pskd"


def main(arguments: Sequence[str]) -> None:
  """Parses the command line, runs everything and prints what was found."""
  workdir, as_json, overrides = chain.parse_demo(arguments, __doc__, WORKDIR)
  begun = time.monotonic()
  from pskd import pipeline

  results = pipeline.run("demo", workdir, overrides)
  print(f"\n{pipeline.format_rows(results)}")
  print(f"\nreport:     {place(workdir) / 'evaluation' / 'report.html'}")
  print(f"package:    {place(workdir) / pipeline.PACKAGE}")
  print(f"run folder: {workdir}")
  if as_json:
    print(json.dumps(_summary(results, round(time.monotonic() - begun, 1), workdir)))


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

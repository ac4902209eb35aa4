r"""Shows the whole method on the embedded data: train, then find photos from sketches.

  python -m xmodal.demo                        (or ./launch.sh demo)
  python -m xmodal.demo --json --workdir runs/demo/xmodal

No download: 16 kinds of objects are drawn from a seed, as photos and as hand-like sketches. Trains
a teacher and two students from random weights, asks every test sketch for its photo among photos
never seen in training, and ends with a table and a report. About three minutes on two CPU cores.
The same command again resumes, or shows the finished result.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sbir import chain, cli
from sbir.places import place

WORKDIR = "runs/demo/xmodal"
CUTS = ("acc@1", "acc@5", "acc@10")


def main(arguments: Sequence[str]) -> None:
  """Parses the command line, runs everything and prints what was found."""
  workdir, as_json, overrides = chain.parse_demo(arguments, __doc__, WORKDIR)
  begun = time.monotonic()
  from xmodal import pipeline, references

  report = pipeline.run("demo", workdir, overrides)
  others = references.measure_references(workdir)
  rows = {
    "chance": report.chance,
    "untrained students": others["untrained"],
    "photo + sketch students": report.metrics,
    "teacher, sees both (upper reference)": others["teacher"],
  }
  print(f"\n{report.queries} sketches, each asked against {report.gallery} unseen photos")
  print(format_rows(rows))
  print(f"\nreport:     {place(workdir) / 'evaluation' / 'report.html'}")
  print(f"package:    {place(workdir) / pipeline.PACKAGE}")
  print(f"run folder: {workdir}")
  if as_json:
    seconds = round(time.monotonic() - begun, 1)
    print(json.dumps(_summary(report, others["untrained"], seconds, workdir)))


def format_rows(rows: Mapping[str, Mapping[str, float]]) -> str:
  """Returns a table of Acc@1, Acc@5 and Acc@10 in percent, a line for each entry of `rows`."""
  head = f"{'':38}" + "".join(f"{name.replace('acc', 'Acc'):>9}" for name in CUTS)
  lines = (
    f"{name:38}" + "".join(f"{100 * values[cut]:>7.1f} %" for cut in CUTS)
    for name, values in rows.items()
  )
  return "\n".join((head, *lines))


def _summary(report, untrained, seconds: float, workdir: str) -> dict[str, Any]:
  return {
    "method": "xmodal",
    **{cut: report.metrics[cut] for cut in CUTS},
    "queries": report.queries,
    "gallery": report.gallery,
    "chance_acc@1": report.chance["acc@1"],
    "untrained_acc@1": untrained["acc@1"],
    "seconds": seconds,
    "workdir": str(workdir),
  }


if __name__ == "__main__":
  sys.stdout.reconfigure(line_buffering=True)
  cli.tool(main)

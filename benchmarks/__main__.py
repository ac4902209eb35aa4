"""Runs the benchmarks: python -m benchmarks --help"""

import argparse
import difflib
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks import metrics
from sbir.cli import parser, tool

# A benchmark is a module with run() -> plain values and as_text(values) -> what people read. What
# is slow to import it imports inside run(). Its first line of documentation is shown by --help.
BENCHMARKS = {"metrics": metrics}

HELP = """\
Measure how fast this code is and how much memory it takes, on this machine, now.

benchmarks:
{names}

Other work on the machine spoils the figures: a ratio is taken within one run, so it suffers less.

examples:
  python -m benchmarks                          all of them
  python -m benchmarks metrics --json out.json  one, with its figures as JSON too
"""


def main(argv: Sequence[str]) -> None:
  """Runs the named benchmarks and prints each as soon as it is done. Raises: UserError."""
  from sbir.report import write_files
  from sbir.types import UserError

  args = _parser().parse_args(argv)
  names = args.names or list(BENCHMARKS)
  for name in names:
    if name not in BENCHMARKS:
      near = difflib.get_close_matches(name, BENCHMARKS, n=1)
      hint = f"; nearest: {near[0]}" if near else ""
      raise UserError(f"benchmark {name!r} must be one of: {', '.join(BENCHMARKS)}{hint}")
  results: dict[str, object] = {"machine": machine()}
  for name in names:
    results[name] = BENCHMARKS[name].run()
    print(BENCHMARKS[name].as_text(results[name]), flush=True)
  if args.json:
    path = Path(args.json)
    write_files(path.parent, {path.name: json.dumps(results, indent=2) + "\n"})


def machine() -> dict[str, object]:
  """Returns what the figures depend on beside the code."""
  return {
    "platform": platform.platform(),
    "python": platform.python_version(),
    "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
  }


def _parser() -> argparse.ArgumentParser:
  lines = [f"  {name:<10}{module.__doc__.splitlines()[0]}" for name, module in BENCHMARKS.items()]
  flags = parser(HELP.format(names="\n".join(lines)))
  flags.add_argument("names", nargs="*", metavar="NAME", help="which to run (default: all)")
  flags.add_argument("--json", metavar="FILE", help="also write all figures to this file")
  return flags


if __name__ == "__main__":
  tool(main)

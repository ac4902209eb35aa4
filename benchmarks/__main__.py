"""Runs the benchmarks: python -m benchmarks --help"""

import argparse
import difflib
import importlib
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.options import TORCH_PYTHON, Options
from sbir import host_memory
from sbir.cli import parser, tool

# A benchmark is a module of this package with run(options) -> plain values and as_text(values) ->
# what people read. What is slow to import it imports inside run(). Its first line of documentation
# is shown by --help.
NAMES = (
  "vit_forward",
  "vit_train",
  "vit_products",
  "xmodal_teacher",
  "xmodal_student_cached",
  "xmodal_student_uncached",
  "xmrd_angle",
  "pskd_student",
  "input_pipeline",
  "embed",
  "metrics",
  "startup",
  "gallery",
)

HELP = """\
Measure how fast this code is and how much memory it takes, on this machine, now.

benchmarks:
{names}

What is compared runs in turns, A B A B ..., in one run; the median is given with the fastest and
the slowest turn. Other work on the machine spoils the figures, ratios least.

examples:
  python -m benchmarks                            all of them
  python -m benchmarks metrics --json out.json    one, with its figures as JSON too
  python -m benchmarks vit_train --compare torch  beside PyTorch (./launch.sh bench installs it)
"""


def main(argv: Sequence[str]) -> None:
  """Runs the named benchmarks and prints each as soon as it is done. Raises: UserError."""
  args = _parser().parse_args(argv)
  names = args.names or list(NAMES)
  for name in names:
    _check_name(name)
  options = _options(args)
  if options.rehearse:
    _compile_quickly()
  from benchmarks import machine

  results: dict[str, object] = {"machine": machine.describe(argv)}
  print(machine.as_text(results["machine"]), flush=True)
  for name in names:
    module = _module(name)
    results[name] = module.run(options)
    print("\n" + module.as_text(results[name]), flush=True)
    host_memory.give_back()  # the next one may need it in a process of its own
    if args.json:  # at once: the next one may fail, or be stopped
      _write(Path(args.json), results)


def _options(args: argparse.Namespace) -> Options:
  """Returns what the command line says, checked. Raises: UserError."""
  from sbir.types import UserError

  for name, least in (("repeats", 1), ("batch", 0)):
    value = getattr(args, name)
    if value < least:
      raise UserError(f"--{name} {value} must be at least {least}")
  options = Options(args.repeats, args.batch, args.rehearse, args.compare, args.torch_python)
  if options.compare:
    from benchmarks.torch_side import check

    check(options)
  return options


def _compile_quickly() -> None:
  import jax

  jax.config.update("jax_disable_most_optimizations", True)


def _check_name(name: str) -> None:
  from sbir.types import UserError

  if name not in NAMES:
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"; nearest: {near[0]}" if near else ""
    raise UserError(f"benchmark {name!r} must be one of: {', '.join(NAMES)}{hint}")


def _module(name: str):
  return importlib.import_module(f"benchmarks.{name}")


def _write(path: Path, results: dict[str, object]) -> None:
  from sbir.report import write_files

  write_files(path.parent, {path.name: json.dumps(results, indent=2) + "\n"})


def _parser() -> argparse.ArgumentParser:
  width = max(map(len, NAMES)) + 2
  lines = [f"  {name:<{width}}{_module(name).__doc__.splitlines()[0]}" for name in NAMES]
  flags = parser(HELP.format(names="\n".join(lines)))
  flags.add_argument("names", nargs="*", metavar="NAME", help="which to run (default: all)")
  flags.add_argument("--json", metavar="FILE", help="also write all figures to this file")
  flags.add_argument("--repeats", type=int, default=5, metavar="N", help="turns (default: 5)")
  flags.add_argument(
    "--batch", type=int, default=0, metavar="N", help="images in a step (default: by device)"
  )
  flags.add_argument(
    "--compare", choices=["torch"], default="", help="run the ViTs in PyTorch eager too"
  )
  flags.add_argument(
    "--torch-python",
    type=Path,
    default=TORCH_PYTHON,
    metavar="FILE",
    help="the Python that has torch (default: that of .venv-bench)",
  )
  flags.add_argument(
    "--rehearse",
    action="store_true",
    help="tiny shapes, to see that all of it runs here: the figures mean nothing",
  )
  return flags


if __name__ == "__main__":
  tool(main)

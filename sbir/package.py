r"""Makes a model package of a run: a folder that travels, is searched with, exported and uploaded.

  python -m sbir.package --run runs/shoe_v2 --out shoe_model              a pipeline's workdir
  python -m sbir.package --run runs/shoe_v2/teacher --out teacher_model   one training
  python -m sbir.package --photo P --sketch S --out pair_model            two students, each the run
                                                                          folder or a package of one

The package has config.json, model.safetensors, preprocessor_config.json and README.md, the model
card, with the figures of the evaluation that lies beside the run (or --evaluation DIR). A pipeline
and a demo leave theirs in WORKDIR/package. Use it with

  import sbir
  model = sbir.from_pretrained("shoe_model")
  model.encode_photos(["a.jpg"]) @ model.encode_sketches(["drawing.png"]).T

or give it to python -m sbir.export. A package that is at --out already is replaced.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sbir import cli
from sbir.places import place

if TYPE_CHECKING:
  from sbir.package_folder import Package


def main(arguments: Sequence[str]) -> None:
  """Parses the command line and writes the package."""
  options = _parse(arguments)
  from sbir.models import Model
  from sbir.package_folder import check_free, write_package

  check_free(options.out)
  package = package_of(options)
  model = Model(package, "the new package")  # what cannot be read again is not written
  write_package(options.out, package)
  count = sum(leaf.size for leaf in _leaves(package))
  takes = " and ".join(model.network.modalities)
  print(f"{options.out}: {package.config['architecture']}, {count:,} parameters, takes {takes}")
  print(f"model card: {place(options.out) / 'README.md'}")


def package_of(options: Namespace) -> "Package":
  """Returns the package asked for. Raises: UserError if there is no such run."""
  if options.run:
    return package_workdir(options.run, options.evaluation, options.select)
  return _package_two(options.photo, options.sketch, options.evaluation)


def package_workdir(workdir: str, evaluation: str | None, select: str) -> "Package":
  """Returns the package of one training, or of the models that a pipeline ends with.

  Raises: UserError if `workdir` is neither, or its training has not saved anything yet.
  """
  from pskd import package_run as pskd
  from sbir import run_folder
  from sbir.types import UserError
  from xmodal import package_run as xmodal

  folder = place(workdir)
  if (folder / "config.json").is_file():
    if run_folder.read_config(folder).get("method") == "pskd":
      return pskd.package_run(folder, evaluation, select=select)
    return xmodal.package_run(folder, evaluation)
  if evaluation is None and (folder / "evaluation" / "evaluation.json").is_file():
    evaluation = str(folder / "evaluation")
  if (folder / "photo_student").is_dir() and (folder / "sketch_student").is_dir():
    runs = {name: folder / f"{name}_student" for name in ("photo", "sketch")}
    return xmodal.package_pair(runs, evaluation)
  if (folder / "student").is_dir():
    return pskd.package_run(folder / "student", evaluation, select=select)
  raise UserError(
    f"--run {workdir} is neither a training's run folder nor the workdir of a finished pipeline; "
    "give the --workdir of one"
  )


def _package_two(photo: str, sketch: str, evaluation: str | None) -> "Package":
  from sbir.package_folder import is_package, read_package
  from xmodal.package_join import join
  from xmodal.package_run import package_pair, package_run

  given = {"photo": photo, "sketch": sketch}
  if not any(is_package(folder) for folder in given.values()):
    return package_pair(given, evaluation)
  read = lambda folder: read_package(folder) if is_package(folder) else package_run(folder)
  return join({name: read(folder) for name, folder in given.items()}, given)


def _parse(arguments: Sequence[str]) -> Namespace:
  flags = cli.parser(__doc__)
  flags.add_argument("--run", metavar="W", type=cli.folder, help="a run folder, or a pipeline's")
  for name in ("photo", "sketch"):
    words = f"a {name} student: its run folder, or a package"
    flags.add_argument(f"--{name}", metavar="DIR", type=cli.folder, help=words)
  flags.add_argument(
    "--out", required=True, metavar="DIR", type=cli.folder, help="where the package goes"
  )
  flags.add_argument(
    "--evaluation", metavar="DIR", type=cli.folder, help="the evaluation whose figures it shows"
  )
  flags.add_argument(
    "--select", choices=("last", "best"), default="last", help="which step of a PSKD training"
  )
  options = flags.parse_args(arguments)
  if bool(options.run) == bool(options.photo or options.sketch):
    flags.error("give either --run W, or --photo and --sketch")
  if not options.run and not (options.photo and options.sketch):
    flags.error("--photo and --sketch go together")
  return options


def _leaves(package: "Package") -> list:
  import jax

  return jax.tree.leaves(package.params)


if __name__ == "__main__":
  sys.stdout.reconfigure(line_buffering=True)
  cli.tool(main)

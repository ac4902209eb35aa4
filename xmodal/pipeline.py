r"""Trains and evaluates XModalViT whole: teacher, photo student, sketch student, test results.

  python -m xmodal.pipeline shoe_v2 --data DIR --workdir runs/shoe_v2
  python -m xmodal.pipeline shoe304 --data DIR --workdir runs/shoe304 --config.seed=1

Names: demo, shoe304, shoe_v2, chair_v2, sketchy. Each stage has a folder in the workdir (teacher,
photo_student, sketch_student, evaluation); the folder "package" has both students, to search with.
The same command again resumes where it was stopped and skips what is finished. --config.KEY=VALUE
goes to every stage that has KEY; to change one stage alone, run its own main on that folder first.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sbir import chain, cli
from sbir.places import local, place

if TYPE_CHECKING:
  from ml_collections import ConfigDict

  from sbir.instances import InstanceReport

STUDENTS = ("photo", "sketch")
STUDENT_STAGES = tuple(f"{name}_student" for name in STUDENTS)
PACKAGE = "package"
FILES = {
  "teacher": "configs/xmodal/teacher.py",
  "photo_student": "configs/xmodal/student.py",
  "sketch_student": "configs/xmodal/student.py",
  "evaluation": "configs/xmodal/evaluate.py",
}


def main(arguments: Sequence[str]) -> None:
  """Parses the command line and runs every stage."""
  request = chain.parse(arguments, __doc__)
  from sbir.report import table

  report = run(*request)
  print(table(report), end="")
  print(f"report: {place(request.workdir) / 'evaluation' / 'report.html'}")
  print(f"package of both students: {place(request.workdir) / PACKAGE}")


def run(name: str, workdir: str | Path, overrides: Mapping[str, str]) -> "InstanceReport":
  """Runs or resumes all stages of config `name` in `workdir`; returns the evaluation's report.

  Leaves the package of both students in `workdir`/package.
  """
  from sbir import processes
  from sbir.package_folder import write_package
  from xmodal.measure import evaluate_encoders
  from xmodal.package_run import package_pair
  from xmodal.stages import train_stage

  configs = load_configs(name, workdir, overrides)
  check(configs, workdir)
  evaluation = configs.pop("evaluation")
  for stage, config in configs.items():
    train_stage(config, str(place(workdir) / stage))
  folder = place(workdir)
  report = evaluate_encoders(evaluation, folder / "evaluation")
  runs = {name: folder / f"{name}_student" for name in STUDENTS}
  package = package_pair(runs, folder / "evaluation")
  processes.on_first(lambda: write_package(folder / PACKAGE, package))
  return report


def check(configs: Mapping[str, "ConfigDict"], workdir: str | Path) -> None:
  """Raises UserError for what would stop any stage, so that none stops after hours of another."""
  from sbir import run_folder
  from sbir.package_folder import check_free
  from xmodal.checks import check_evaluation, check_training
  from xmodal.stages import open_split

  for stage, config in configs.items():
    (check_evaluation if stage == "evaluation" else check_training)(config)
    run_folder.check(place(workdir) / stage, config)
    if stage in STUDENT_STAGES and config.cache.dir:
      run_folder.check_writable(local(config.cache.dir, "cache.dir"), "cache.dir")
  check_free(place(workdir) / PACKAGE)
  open_split(configs["teacher"], "test")


def load_configs(
  name: str, workdir: str | Path, overrides: Mapping[str, str]
) -> dict[str, "ConfigDict"]:
  """Returns {"teacher", "photo_student", "sketch_student", "evaluation": config}, linked up.

  Raises: UserError for an unknown name, or an override that no stage has.
  """
  return chain.load_configs(FILES, name, overrides, _links(place(workdir)))


def _links(folder: Path) -> dict[str, dict[str, str]]:
  """Returns what makes each stage find the run folders of those before it."""
  teacher = str(folder / "teacher")
  links = {f"{m}_student": {"modality": m, "teacher": teacher} for m in STUDENTS}
  evaluation = {m: str(folder / f"{m}_student") for m in STUDENTS}
  return {"teacher": {}, **links, "evaluation": evaluation}


if __name__ == "__main__":
  cli.tool(main)

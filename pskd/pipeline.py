r"""Trains and evaluates PSKD whole: teacher, student, and what each finds of unseen classes.

  python -m pskd.pipeline sketchy21 --data DIR --workdir runs/sketchy21
  python -m pskd.pipeline sketchy_mini --data DIR --workdir runs/mini --config.seed=1

Names: demo, sketchy_mini, sketchy21, sketchy25, tuberlin, quickdraw. Each stage has a folder in the
workdir (teacher, student, teacher_evaluation, evaluation); the folder "package" has the student, to
search with. The same command again resumes where it was stopped and skips what is finished.
--config.KEY=VALUE goes to every stage that has KEY; to change one stage alone, run its own main on
that folder first.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sbir import chain, cli
from sbir.places import place

if TYPE_CHECKING:
  from ml_collections import ConfigDict

  from sbir.retrieval.presets import CategoryReport

FILES = {
  "teacher": "configs/pskd/teacher.py",
  "student": "configs/pskd/student.py",
  "teacher_evaluation": "configs/pskd/evaluate.py",
  "evaluation": "configs/pskd/evaluate.py",
}
PACKAGE = "package"
SHOWN = {"map@all[voc]": "mAP@all[voc]", "prec@100[N]": "Prec@100[N]"}


class Results(NamedTuple):
  """What a whole run found on the unseen classes."""

  student: "CategoryReport"
  rows: dict[str, dict[str, float]]  # "chance", "untrained", "teacher", "student": metrics


def main(arguments: Sequence[str]) -> None:
  """Parses the command line and runs every stage."""
  request = chain.parse(arguments, __doc__)
  results = run(*request)
  print(f"\n{format_rows(results)}")
  print(f"\nreport: {place(request.workdir) / 'evaluation' / 'report.html'}")
  print(f"package of the student: {place(request.workdir) / PACKAGE}")


def run(name: str, workdir: str | Path, overrides: Mapping[str, str]) -> Results:
  """Runs or resumes all stages of config `name` in `workdir`; returns what was found.

  Leaves the package of the student in `workdir`/package.
  """
  from pskd.measure import evaluate_network, measure_untrained
  from pskd.package_run import package_run
  from pskd.stages import train_stage
  from sbir import processes
  from sbir.package_folder import write_package
  from sbir.retrieval.category_stats import chance

  folder = place(workdir)
  configs = load_configs(name, folder, overrides)
  check(configs, folder)
  for stage in ("teacher", "student"):
    train_stage(configs[stage], str(folder / stage))
  teacher, student = (
    evaluate_network(configs[stage], folder / stage)
    for stage in ("teacher_evaluation", "evaluation")
  )
  select = configs["evaluation"].select
  package = package_run(folder / "student", folder / "evaluation", select=select)
  processes.on_first(lambda: write_package(folder / PACKAGE, package))
  rows = {
    "chance": chance(student),
    "untrained": measure_untrained(configs["evaluation"]).metrics,
    "teacher": teacher.metrics,
    "student": student.metrics,
  }
  return Results(student, rows)


def check(configs: Mapping[str, "ConfigDict"], folder: Path) -> None:
  """Raises UserError for what would stop any stage, so that none stops after hours of another."""
  from pskd.checks import check_evaluation
  from pskd.stages import make_plan, open_part
  from sbir import run_folder
  from sbir.package_folder import check_free
  from sbir.types import UserError

  evaluation = configs["evaluation"]
  if evaluation.select == "best" and not evaluation.data.validation_classes:
    raise UserError(
      "select=best with data.validation_classes=0, expected classes to choose by; add "
      "--config.data.validation_classes=N, or use select=last"
    )
  for stage, config in configs.items():
    if stage.endswith("evaluation"):
      check_evaluation(config)
      run_folder.check(folder / stage, config)
    else:
      make_plan(config, folder / stage)
  check_free(folder / PACKAGE)
  open_part(evaluation, "test", configs["student"].image_size)


def load_configs(name: str, folder: Path, overrides: Mapping[str, str]) -> dict[str, "ConfigDict"]:
  """Returns {stage: config} in the order of FILES, linked up.

  Raises: UserError for an unknown name, or an override that no stage has.
  """
  links = {
    "teacher": {},
    "student": {"teacher": str(folder / "teacher")},
    "teacher_evaluation": {"model": str(folder / "teacher")},
    "evaluation": {"model": str(folder / "student")},
  }
  return chain.load_configs(FILES, name, overrides, links)


def format_rows(results: Results) -> str:
  """Returns a table of mAP and precision in per cent, a line for each of the rows."""
  report = results.student
  head = f"{report.queries} sketches of unseen classes, gallery of {report.gallery} photos"
  lines = [f"{head:56}" + "".join(f"{word:>14}" for word in SHOWN.values())]
  for name, metrics in results.rows.items():
    lines.append(f"{name:56}" + "".join(f"{100 * metrics[key]:>12.1f} %" for key in SHOWN))
  return "\n".join(lines)


if __name__ == "__main__":
  cli.tool(main)

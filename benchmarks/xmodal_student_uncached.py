"""XModalViT's student step as released, against the cached one; and the cost of filling a cache."""

from typing import Any

from benchmarks.options import Options

TARGETS = {"cached": 10.0, "fill": 1.1}


def run(options: Options) -> dict[str, Any]:
  """Returns images/s of both students in three ways, after checking that their losses agree, and
  what filling the cache costs in passes of the teacher."""
  from benchmarks import xmodal, xmodal_fill, xmodal_student
  from benchmarks.steps import measure

  shape = xmodal.shape(options, xmodal.STUDENT_BATCH_ACCELERATOR)
  teacher_params, ways, pairs = xmodal.init_teacher(shape), {}, {}
  for modality in xmodal_student.MODALITIES:
    built = xmodal_student.build(shape, modality, "float32", teacher_params)
    xmodal.check_same(built["losses"])
    ways |= {f"{modality} student, {name}": way for name, way in built["ways"].items()}
    for slow in ("as released", "in the step"):
      fast = f"{modality} student, cached"
      pairs[f"{fast}, not {slow}"] = (fast, f"{modality} student, {slow}")
  return {
    "shape": shape._asdict(),
    **measure(ways, options, pairs),
    "fill": xmodal_fill.run(shape, teacher_params, options),
    "targets": TARGETS,
  }


def as_text(result: dict) -> str:
  """Returns the result in words, with the targets."""
  from benchmarks import xmodal_fill
  from benchmarks.steps import faster_line, way_lines
  from benchmarks.xmodal_student import described

  targets = result["targets"]
  lines = [described(result, "xmodal_student_uncached"), *way_lines(result)]
  for name in result["times_faster"]:
    goal = targets["cached"] if name.endswith("as released") else None
    lines.append(faster_line(result, name, goal))
  return "\n".join([*lines, xmodal_fill.as_text(result["fill"], targets["fill"])])

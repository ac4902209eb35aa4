"""XModalViT's student step with stored vectors of its teacher: photo and sketch student."""

from typing import Any

from benchmarks.options import Options


def run(options: Options) -> dict[str, Any]:
  """Returns images/s of both students; no teacher is there."""
  from benchmarks import xmodal, xmodal_student
  from benchmarks.options import compute_dtypes
  from benchmarks.steps import measure, parity

  shape = xmodal.shape(options, xmodal.STUDENT_BATCH_ACCELERATOR)
  ways, losses = {}, {}
  for modality in xmodal_student.MODALITIES:
    for dtype in compute_dtypes(options):
      built = xmodal_student.build(shape, modality, dtype, None)
      ways[f"{modality} student {dtype}"] = built["ways"]["cached"]
      losses.setdefault(f"{modality} student", {})[dtype] = built["losses"]["cached"]
  found = {name: parity(values) for name, values in losses.items()}
  return {"shape": shape._asdict(), **measure(ways, options), "parity": found}


def as_text(result: dict) -> str:
  """Returns the result in words."""
  from benchmarks.steps import parity_lines, way_lines
  from benchmarks.xmodal_student import described

  head = described(result, "xmodal_student_cached")
  return "\n".join([head, *way_lines(result), *parity_lines(result)])

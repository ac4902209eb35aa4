r"""Measures a photo encoder and a sketch encoder on the test split: can a sketch find its photo?

  python -m xmodal.evaluate --config configs/xmodal/evaluate.py:shoe_v2 \
      --workdir runs/shoe_v2/evaluation --config.data.dir=DIR \
      --config.photo=runs/shoe_v2/photo_student --config.sketch=runs/shoe_v2/sketch_student

Either may be a package instead, of a student or of the pair (a folder, or hf:org/name): so the
authors' own weights are measured, after python -m sbir.convert.

Every test sketch is asked against all test photos (--config.protocol=full). The authors' script
asks otherwise: --config.protocol=released (a batch of 16 photos), or one_per_class for Sketchy.
The folder then holds report.html with all numbers and pictures in one file, evaluation.json, .txt
and .csv (one line a query), and the pictures as PNG.
"""

import sys

from sbir import cli


def main(config, workdir):
  """Evaluates as `config` (of configs/xmodal/evaluate.py) says; prints the table."""
  from sbir.report import table
  from xmodal.checks import check_stage
  from xmodal.measure import evaluate_encoders

  check_stage(config, "evaluation")
  report = evaluate_encoders(config, workdir)
  sys.stdout.write(table(report))


if __name__ == "__main__":
  cli.run(main)

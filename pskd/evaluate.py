r"""Measures a network on classes it has never seen: do sketches find the photos of their class?

  python -m pskd.evaluate --config configs/pskd/evaluate.py:sketchy21 \
      --workdir runs/sketchy21/evaluation --config.model=runs/sketchy21/student \
      --config.data.dir=DIR

The model may be a package instead (a folder, or hf:org/name): so the authors' own weights are
measured, after python -m sbir.convert --from pskd.

Every test sketch is asked against all photos of the unseen classes (--config.protocol=generalised:
and of the seen ones). --config.codes.bits=64 compares binary codes; --config.feature=mean or head
another feature; --config.select=best the step that did best on validation classes.

The folder then holds report.html with all numbers and pictures in one file, evaluation.json and
.txt, one line a query and a class as CSV, the pictures as PNG, and embeddings.npz for
python -m sbir.evaluate.
"""

import sys

from sbir import cli


def main(config, workdir):
  """Evaluates as `config` (of configs/pskd/evaluate.py) says; prints the tables."""
  from pskd.measure import evaluate_network
  from sbir.places import place
  from sbir.settings import check_stage

  check_stage(config, "pskd", "evaluation")
  evaluate_network(config, workdir)
  sys.stdout.write((place(workdir) / "evaluation.txt").read_text())


if __name__ == "__main__":
  cli.run(main)

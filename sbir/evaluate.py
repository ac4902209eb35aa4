r"""Measures retrieval from saved embeddings, whatever made them: python -m sbir.evaluate --help"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sbir.cli import parser, tool

if TYPE_CHECKING:
  from sbir.embedding_file import EmbeddingFile
  from sbir.instances import InstanceReport
  from sbir.retrieval.presets import CategoryReport

PRESET_NAMES = ("sake", "zse", "sempcyc")  # of sbir.retrieval.presets, which is slow to import

HELP = """\
Measure retrieval from embeddings saved in an .npz file, made by any framework.

The file holds `query` [q, d] and `gallery` [g, d] with either
  query_label, gallery_label   whole numbers or names: how many photos of the sketch's class come
                               first (mean average precision, precision)
  query_id, gallery_id         which photo a sketch was drawn from: how often it is among the first
                               (acc@1, acc@5, acc@10)
or both. Other arrays in the file are left alone.

On the same embeddings published evaluators differ by ten points, so every metric carries its
definition in its name, and a preset prints what one line of work would:
  sake     SAKE, TVT, PSKD: cosine, interpolated AP, divided by min(k, relevant)
  zse      ZSE-SBIR: Euclidean, the same AP, precision over min(k, relevant)
  sempcyc  SEM-PCYC: Euclidean, scikit-learn's AP, AP@k divided by the hits in the top k

example:
  python -m sbir.evaluate --embeddings test.npz --preset sake --json
"""


def main(argv: Sequence[str]) -> None:
  """Prints the evaluation of a file as a table or as JSON. Raises: UserError as one line."""
  args = _parser().parse_args(argv)
  from sbir.embedding_file import read_embeddings
  from sbir.types import UserError

  file = read_embeddings(args.embeddings)
  presets = PRESET_NAMES if args.preset in (None, "all") else (args.preset,)
  by_category = None if file.query_label is None else _categories(file, presets, args.distance)
  by_instance = None if file.query_id is None else _instances(file, args.distance)
  if by_category is None and args.preset in PRESET_NAMES:
    raise UserError(
      f"--preset {args.preset} is of category retrieval, expected labels, but {args.embeddings} "
      "holds ids only; leave --preset out, or save query_label and gallery_label"
    )
  if args.json:
    print(json.dumps(_summary(by_category, by_instance), allow_nan=False))
  else:
    sys.stdout.write(_text(by_category, by_instance))


def _categories(file: "EmbeddingFile", presets: Sequence[str], distance: str) -> "CategoryReport":
  from sbir.retrieval.presets import evaluate_categories

  labels = file.query_label, file.gallery_label
  return evaluate_categories(file.query, file.gallery, *labels, distance=distance, presets=presets)


def _instances(file: "EmbeddingFile", distance: str) -> "InstanceReport":
  from sbir.instances import evaluate_instances

  ids = file.query_id, file.gallery_id
  return evaluate_instances(file.query, file.gallery, *ids, distance=distance)


def _summary(
  by_category: "CategoryReport | None", by_instance: "InstanceReport | None"
) -> dict[str, object]:
  """Returns one JSON object; with labels and ids, the metrics of the labels and acc@K beside."""
  if by_category is None:
    return {**by_instance.summary(), "presets": {}}
  summary = by_category.summary()
  if by_instance is not None:
    summary["metrics"] |= {k: v for k, v in by_instance.metrics.items() if k.startswith("acc@")}
  return summary


def _text(by_category: "CategoryReport | None", by_instance: "InstanceReport | None") -> str:
  from sbir import category_report, report

  parts = [] if by_category is None else [category_report.table(by_category)]
  parts += [] if by_instance is None else [report.table(by_instance)]
  return "\n".join(parts)


def _parser() -> argparse.ArgumentParser:
  flags = parser(HELP)
  add = flags.add_argument
  add("--embeddings", required=True, metavar="FILE.npz", help="the saved embeddings")
  add("--preset", choices=(*PRESET_NAMES, "all"), help="whose figures to print (default: all)")
  add(
    "--distance",
    choices=("cosine", "euclidean"),
    default="cosine",
    help="for the metrics by name (default: cosine); each preset uses its own",
  )
  add("--json", action="store_true", help="print one JSON object instead of the table")
  return flags


if __name__ == "__main__":
  tool(main)

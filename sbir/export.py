"""Writes a model for programs other than this one: ONNX, StableHLO, or a state dict for timm.

  python -m sbir.export --model DIR --format onnx --out FILE.onnx --dynamic-batch
  python -m sbir.export --model DIR --format onnx --out FILE.onnx --pixels --half
  python -m sbir.export --model DIR --format stablehlo --out FILE --modality sketch
  python -m sbir.export --model DIR --format timm --out FILE.safetensors

onnx, stablehlo: the network with its weights, in one file. Inputs are called "photo" and "sketch":
float32 [batch, side, side, 3], preprocessed, as model.preprocessing.view makes them; outputs are
those of model.forward, not normalised. In ONNX the embedding of "photo" is called
"photo_embedding", since there an output cannot be named as an input. With --pixels for whoever has
not this package: uint8 RGB squares go in, a unit vector "embedding" comes out, and how a photo
becomes a square stands in the file's metadata ("preprocessing") in ONNX.
  Before a file is written it is run beside JAX, in batches of 1 and of 5, on the photos of
--gallery or on 64 drawn ones. Outputs may differ by 1e-4 at most, and 16 drawn sketches must find
the same ten photos (of photos nearer to each other than 1e-4 in cosine, either). If not, nothing is
written and the exit status is 2.
timm: the encoder alone as timm's VisionTransformer names it, .safetensors; the numbers are the
same. PSKD's network has two tokens, which timm has not: it is written whole, under the names of the
released code.

ONNX needs packages of its own: ./launch.sh setup --with export
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from sbir import cli
from sbir.places import local

FORMATS = ("onnx", "stablehlo", "timm")
MODALITIES = ("photo", "sketch")


def main(arguments: Sequence[str]) -> None:
  """Exports the model that the arguments name, and prints what was written."""
  options = _parse(arguments)
  _check_together(options)
  _check_out(local(options.out, "--out"))
  if options.format == "onnx":
    from sbir import onnx_file

    onnx_file.check_installed()
  from sbir.export_program import Wanted, write_program, write_timm
  from sbir.models import from_pretrained

  model = from_pretrained(options.model)
  write = write_timm if options.format == "timm" else write_program
  rows = write(
    model,
    Wanted(
      options.format,
      Path(options.out),
      options.modality,
      options.dynamic_batch,
      options.half,
      options.pixels,
      options.gallery,
    ),
  )
  print(f"{options.out}: {options.format} of {options.model} ({model.config['architecture']})")
  print("\n".join(f"  {label:<36}{value}" for label, value in rows))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
  flags = cli.parser(__doc__)
  add = flags.add_argument
  add("--model", required=True, metavar="DIR|hf:ORG/NAME", type=cli.folder, help="a model package")
  add("--format", required=True, choices=FORMATS, help="what to write")
  add("--out", required=True, metavar="FILE", type=cli.folder, help="replaced if it is there")
  add("--modality", choices=MODALITIES, help="of a model that takes both: which (default: photo)")
  add("--dynamic-batch", action="store_true", help="takes any number of images; otherwise one")
  add("--half", action="store_true", help="weights stored as float16: half the size")
  add("--pixels", action="store_true", help="from uint8 RGB squares to unit vectors")
  add("--gallery", metavar="DIR", type=cli.folder, help="photos to check with, at any depth")
  return flags.parse_args(arguments)


def _check_together(options: argparse.Namespace) -> None:
  """Raises UserError for flags that do not go together."""
  from sbir.types import UserError

  given = [name for name in ("dynamic_batch", "half", "pixels", "gallery") if vars(options)[name]]
  if options.format == "timm" and given:
    flag = given[0].replace("_", "-")
    raise UserError(f"--{flag} is of onnx and stablehlo; leave it out with --format timm")


def _check_out(out: Path) -> None:
  """Raises UserError if there cannot be a file, before anything slow begins."""
  from sbir.types import UserError

  if out.is_dir():
    raise UserError(f"--out {out} is a folder, expected a file; add its name")
  if not out.parent.is_dir():
    raise UserError(f"--out {out}: there is no folder {out.parent}; make it first")
  if not os.access(out.parent, os.W_OK):
    raise UserError(f"--out {out}: no permission to write in {out.parent}; choose another folder")


if __name__ == "__main__":
  cli.tool(main)

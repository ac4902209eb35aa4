r"""Turns other people's weights into a model package, without PyTorch; nothing in a file is run.

  python -m sbir.convert --from augreg --in Ti_16-i21k.npz --out vit_tiny
  python -m sbir.convert --from timm --in hf:timm/vit_small_patch16_224.augreg_in21k --out vit_small
  python -m sbir.convert --from dino --in dino_deitsmall8_pretrain_full_checkpoint.pth --out dino
  python -m sbir.convert --from xmodal-student --in photo.pth --modality photo --out photo_student

Kinds:
  augreg          a ViT .npz of Google's release
  timm            a plain timm ViT, .safetensors, .pth or .bin
  dino            DINO's backbone file, or its full checkpoint with the head
  deit            DeiT's .pth with one class token; a distilled one is refused
  xmodal-teacher  the authors' fusion network (its released, sequential order is set)
  xmodal-student  the authors' student
  pskd            the authors' network of either stage (its resampled positions are set)

Width, depth, patch, image size, fusion depth and classes are read off the file; the number of heads
is not in it: --heads (default: width / 64), --fusion_heads (default: 3). Every entry is used, or
left out by design and listed so; any other stops the conversion. Then the folder is used with
sbir.from_pretrained, exported with sbir.export, or begun from: --config.init.kind=package
--config.init.path=DIR.
"""

import re
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sbir import cli

if TYPE_CHECKING:
  from sbir.given_weights import Given
  from sbir.model_card import Facts
  from sbir.package_folder import Package
  from sbir.preprocessing import Preprocessing
  from sbir.pretrained import Converted

KINDS = ("augreg", "timm", "dino", "deit", "xmodal-teacher", "xmodal-student", "pskd")
NORMALISE = ("half", "imagenet", "none")
EXPECTED = {  # what the weights of a kind were trained on
  "augreg": "half",
  "timm": "half",
  "dino": "imagenet",
  "deit": "imagenet",
  "xmodal-teacher": "none",
  "xmodal-student": "none",
  "pskd": "imagenet",
}
ORIGIN = {
  "augreg": "the AugReg release (arXiv:2106.10270)",
  "timm": "a timm checkpoint",
  "dino": "DINO's release (arXiv:2104.14294)",
  "deit": "DeiT's release (arXiv:2012.12877)",
  "xmodal-teacher": "the authors' release (xmodal-vit, commit 11426c9 reads it)",
  "xmodal-student": "the authors' release (xmodal-vit, commit 11426c9 reads it)",
  "pskd": "the authors' release (PSKD, commit a505f9f reads it)",
}
LIMIT = (
  "Converted, not trained here: what it was trained on, and how well it does, its source tells."
)


def main(arguments: Sequence[str]) -> None:
  """Parses the command line, converts, and lists what became of every entry."""
  options = _parse(arguments)
  from sbir.models import Model
  from sbir.package_folder import check_free, write_package
  from sbir.preprocessing import Preprocessing

  check_free(options.out)
  given = _load(options)
  package = _package(given, options)
  Model(package, options.place)
  write_package(options.out, package)
  print(_listing(given))
  how: Preprocessing = package.preprocessing
  print(f"network: {_words(package.config['network'])}")
  print(f"images:  {how.image_size} px, mean {how.mean}, std {how.std}")
  print(f"package: {options.out}")


def grouped(names: Iterable[str]) -> dict[str, int]:
  """Returns {name with its block numbers as *: how many entries have it}, in order."""
  return dict(Counter(re.sub(r"(?<=[._/])\d+(?=[._/])|(?<=block_)\d+", "*", n) for n in names))


def _load(options: Namespace) -> "Given":
  import functools

  from pskd.pretrained import convert_released
  from sbir.given_weights import load, vit_converters
  from xmodal.pretrained import convert_student, convert_teacher

  converters = vit_converters() | {
    "xmodal-teacher": functools.partial(convert_teacher, fusion_heads=options.fusion_heads),
    "xmodal-student": functools.partial(convert_student, modality=options.modality),
    "pskd": convert_released,
  }
  convert = converters[options.kind]
  return load(options.place, options.kind, convert, key="--in", num_heads=options.heads)


def _package(given: "Given", options: Namespace) -> "Package":
  from sbir.model_card import write_card
  from sbir.package_folder import Package, make_config
  from sbir.pretrained import resample_positions

  found = resample_positions(given.converted, options.image_size or given.converted.image_size)
  how = _preprocessing(options, found.image_size)
  config = make_config(
    architecture=found.architecture,
    image_size=found.image_size,
    network=found.network,
    classes=[],
    source={"kind": given.kind, "file": given.file, "sha256": given.sha256},
    training={},
  )
  return Package(config, how, found.params, write_card(_facts(given, found), how))


def _preprocessing(options: Namespace, size: int) -> "Preprocessing":
  from sbir import preprocessing

  mean, std = getattr(preprocessing, options.normalise.upper())
  return preprocessing.Preprocessing(size, "stretch", False, mean, std)


def _facts(given: "Given", found: "Converted") -> "Facts":
  """Returns what the card says; `given` is as it was read, `found` with positions resampled."""
  import jax

  from sbir import provenance, run_folder
  from sbir.model_card import NOT_COMPARABLE, Facts

  details = {"made of": f"{given.file}, SHA-256 {given.sha256}"}
  if found.image_size != given.converted.image_size:
    was = given.converted.image_size
    details["positions"] = f"resampled (bicubic) from images of {was} px"
  if found.dead:
    details["left out"] = "; ".join(
      f"{', '.join(names)}: {why}" for why, names in _by_reason(found.dead).items()
    )
  modality = found.network.get("modality", "either")
  return Facts(
    title=f"{found.architecture}, converted from {Path(given.file).stem}",
    architecture=found.architecture,
    modalities=("photo", "sketch") if modality == "either" else (modality,),
    width=found.network.get("embed_dim") or found.network["encoder"]["width"],
    num_params=sum(leaf.size for leaf in jax.tree.leaves(found.params)),
    origin=f"Converted from {ORIGIN[given.kind]}, by the command below.",
    details=details,
    commands=[" ".join(["python -m sbir.convert", *sys.argv[1:]])],
    versions=provenance.version_rows(run_folder.versions()),
    limits=[LIMIT, NOT_COMPARABLE],
  )


def _listing(given: "Given") -> str:
  used, dead = given.converted.used, given.converted.dead
  lines = [f"{given.file}: {len(used) + len(dead)} entries"]
  lines += [f"used: {len(used)}"]
  lines += [f"  {name}{f' x {n}' if n > 1 else ''}" for name, n in grouped(used).items()]
  lines += [f"left out by design: {len(dead)}"]
  lines += [f"  {name}: {reason}" for name, reason in _dead(dead).items()]
  return "\n".join(lines)


def _dead(dead: Mapping[str, str]) -> dict[str, str]:
  """Returns the reasons, entries that differ in block numbers alone as one."""
  return {next(iter(grouped([name]))): reason for name, reason in dead.items()}


def _by_reason(dead: Mapping[str, str]) -> dict[str, list[str]]:
  found: dict[str, list[str]] = {}
  for name, reason in _dead(dead).items():
    found.setdefault(reason, []).append(name)
  return found


def _words(network: Mapping[str, Any]) -> str:
  parts = (
    f"{name} ({_words(value)})" if isinstance(value, Mapping) else f"{name} {value}"
    for name, value in network.items()
  )
  return ", ".join(parts)


def _parse(arguments: Sequence[str]) -> Namespace:
  flags = cli.parser(__doc__)
  places = "a file, a folder with one, or hf:org/name[/file][@revision]"
  modality = "what an xmodal-student encodes, which its file does not tell (either)"
  size = "resample the positions to images of S px (bicubic, as PyTorch)"
  mean = "mean and std: .5, ImageNet's, or 0 and 1 (what the kind was trained on)"
  add = flags.add_argument
  add("--from", dest="kind", required=True, choices=KINDS, metavar="KIND", help="see above")
  add("--in", dest="place", required=True, metavar="FILE", type=cli.folder, help=places)
  add("--out", required=True, metavar="DIR", type=cli.folder, help="where the package goes")
  add("--heads", type=_count, default=0, metavar="N", help="attention heads (width / 64)")
  add("--fusion_heads", type=_count, default=3, metavar="N", help="of a teacher's fusion (3)")
  add("--modality", choices=("photo", "sketch", "either"), default="either", help=modality)
  add("--image_size", type=_count, default=0, metavar="S", help=size)
  add("--normalise", choices=NORMALISE, default="", help=mean)
  options = flags.parse_args(arguments)
  options.normalise = options.normalise or EXPECTED[options.kind]
  return options


def _count(text: str) -> int:
  from argparse import ArgumentTypeError

  if not text.isdigit() or int(text) < 1:
    raise ArgumentTypeError(f"{text!r} must be a whole number, at least 1")
  return int(text)


if __name__ == "__main__":
  sys.stdout.reconfigure(line_buffering=True)
  cli.tool(main)

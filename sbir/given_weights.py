"""Weights that a user gives, to begin a training from or to convert: a file, a package, a place on
the hub; of whatever kind it was told they are."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sbir import hub, places
from sbir.package_folder import CONFIG, FILES, WEIGHTS, is_package, read_package
from sbir.pretrained import VIT_KINDS, Arrays, Converted, convert_vit, resample_positions
from sbir.types import UserError
from sbir.weight_files import read_weights, sha256

PACKAGE = "package"  # the kind of what python -m sbir.convert and sbir.package write
FILE_NAMES = (WEIGHTS, "pytorch_model.bin", "*.npz", "*.pth")  # the one of these, in a folder
ALL_NAMES = (*FILES, *FILE_NAMES)
WHAT = {  # what files of a kind are called
  "augreg": "a ViT .npz of the AugReg release",
  "timm": "a plain timm ViT (.safetensors, .pth, .bin)",
  "dino": "DINO's backbone file or full checkpoint (.pth)",
  "deit": "DeiT's file (.pth), not a distilled one",
  "xmodal-teacher": "the authors' teacher (.pth)",
  "xmodal-student": "the authors' student (.pth)",
  "pskd": "the authors' checkpoint (.pth)",
  PACKAGE: "the folder of a package",
}
STATE_DICTS = {  # under which entries a checkpoint of a kind keeps its state dict
  "timm": ("state_dict", "model"),
  "deit": ("model", "state_dict"),
  "dino": ("teacher", "state_dict"),
  "pskd": ("student",),
}

Convert = Callable[..., Converted]  # (arrays, what=, num_heads=)


class Given(NamedTuple):
  """Weights in our form, and where they are from."""

  kind: str
  converted: Converted
  file: str  # its name alone
  sha256: str

  def record(self, place: str) -> dict[str, str]:
    """Returns what versions.json says of the weights, given as `place`."""
    return {"path": place, "kind": self.kind, "file": self.file, "sha256": self.sha256}


def vit_converters() -> dict[str, Convert]:
  """Returns {kind: what converts its arrays} of all plain ViTs."""

  def of(kind: str) -> Convert:
    return lambda arrays, **words: convert_vit(arrays, kind, **words)

  return {kind: of(kind) for kind in VIT_KINDS}


def load(place: str, kind: str, convert: Convert | None, *, key: str, num_heads: int = 0) -> Given:
  """Returns the weights at `place`: a file, a folder with one, a package, or hf:org/name[/file].

  `convert` makes them ours, where they are not a package; None: nothing but a package will do.
  `key` is what the place was given as ("init.path"), for messages; `num_heads` what the file may
  not tell.

  Raises: UserError if there is no such file, it is of another kind, or it cannot be read.
  """
  path = _find(place, key)
  if path.is_dir():
    return _package(path, place, kind, key)
  if convert is None:
    raise UserError(
      f"{key}={place} is no model package, expected a folder with {CONFIG} and {WEIGHTS}; make one "
      "with python -m sbir.package or sbir.convert"
    )
  what = f"{key}={place}"
  arrays: Arrays = read_weights(path, *STATE_DICTS.get(kind, ("state_dict", "model")))
  return Given(kind, convert(arrays, what=what, num_heads=num_heads), path.name, sha256(path))


def _find(place: str, key: str) -> Path:
  """Returns the local path of a package's folder or of a file of weights."""
  path = hub.fetch(place, files=ALL_NAMES) if _is_file_or_local(place) else _fetch_repo(place)
  if not places.exists(path):
    raise UserError(f"{key}={place} is not there; give a file, a package's folder, or {hub.FORM}")
  if path.is_file() or is_package(path):
    return path
  found = [file for name in FILE_NAMES for file in sorted(path.glob(name))]
  if (path / "checkpoints").is_dir():
    raise UserError(
      f"{key}={place} is a run folder, expected a package; make one of it with python -m "
      f"sbir.package --run {place} --out DIR"
    )
  if not found:
    raise UserError(
      f"{key}={place} is a folder without weights, expected one of {', '.join(FILE_NAMES)}; give "
      "the file itself"
    )
  if len(found) > 1:
    names = ", ".join(file.name for file in found[:4])
    raise UserError(f"{key}={place} has several files of weights ({names}); give one of them")
  return found[0]


def _is_file_or_local(place: str) -> bool:
  return not hub.is_remote(place) or hub.parse(place).file is not None


def _fetch_repo(place: str) -> Path:
  """Returns the folder of a repository; its weights in one form, not in all there are."""
  try:
    return hub.fetch(place, files=FILES)
  except UserError:
    return hub.fetch(place, files=FILE_NAMES)


def _package(folder: Path, place: str, kind: str, key: str) -> Given:
  package = read_package(folder)
  made_of = package.config["source"].get("kind", "")
  if kind not in (PACKAGE, made_of):
    raise UserError(
      f"{key}={place} is a package made of {made_of!r}, not of {kind!r}; set the kind to {PACKAGE}"
    )
  converted = Converted(
    architecture=package.config["architecture"],
    network=package.config["network"],
    image_size=package.config["image_size"],
    params=package.params,
    used=(),
    dead={},
  )
  return Given(kind, converted, WEIGHTS, sha256(folder / WEIGHTS))


def check_init(init: Mapping[str, Any], kinds: Sequence[str]) -> None:
  """Raises UserError if a config's init.kind and init.path do not go together, or there is no such
  file. Reads and fetches nothing, so a main can call it before anything slow begins."""
  kind, path = init["kind"], init["path"]
  kinds = ("random", *kinds, PACKAGE)
  if kind not in kinds:
    raise UserError(f"init.kind={kind!r} is unknown; choose one of {', '.join(kinds)}")
  if kind == "random":
    if path:
      raise UserError(f"init.path={path} is not read with init.kind=random; set init.kind as well")
    return
  if not path:
    raise UserError(f"init.kind={kind} needs weights; set init.path to {WHAT[kind]}, or {hub.FORM}")
  if hub.is_remote(path):
    hub.parse(path)
  elif not places.exists(places.expanded(path)):
    raise UserError(f"init.path={path} is not a file or folder; set it to {WHAT[kind]}")


def for_training(
  init: Mapping[str, Any], convert: Mapping[str, Convert], *, num_heads: int, image_size: int
) -> Given:
  """Returns the weights of a config's `init`, for a model of `num_heads` heads and images of
  `image_size`: with init.resample, positions of another grid are resampled.

  Raises: UserError if they cannot be read, or have another number of heads, or of patches.
  """
  path, what = init["path"], f"init.path={init['path']}"
  told = 0 if init["kind"] == "augreg" else num_heads  # its files tell
  given = load(path, init["kind"], convert.get(init["kind"]), key="init.path", num_heads=told)
  found = given.converted
  for encoder in _encoders(found.network):
    if encoder["num_heads"] != num_heads:
      raise UserError(
        f"{what} does not fit this model, choose another model.size: it has "
        f"{encoder['num_heads']} attention heads, this model {num_heads}"
      )
  if found.image_size != image_size and not init["resample"]:
    raise UserError(
      f"{what} was trained on images of {found.image_size} px, this model takes {image_size}; set "
      f"--config.image_size={found.image_size}, or resample its positions: "
      "--config.init.resample=true"
    )
  return given._replace(converted=resample_positions(found, image_size))


def _encoders(network: Mapping[str, Any]) -> list[Mapping[str, int]]:
  parts = [network, *(part for part in network.values() if isinstance(part, Mapping))]
  return [part["encoder"] for part in parts if "encoder" in part]

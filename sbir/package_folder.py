"""The folder that a model travels in: config.json, model.safetensors, preprocessor_config.json and
README.md, the model card. Nothing in it is run, and nothing in it names a file outside it."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sbir import preprocessing, trees
from sbir.local_copy import local_copy
from sbir.path_free import find_path, without_paths
from sbir.places import exists, is_dir, is_file, is_remote, place
from sbir.preprocessing import Preprocessing
from sbir.run_folder import write_text
from sbir.safetensors_file import read_safetensors, write_safetensors
from sbir.types import Params, UserError

FORMAT = 1
CONFIG, WEIGHTS, IMAGES, CARD = FILES = (
  "config.json",
  "model.safetensors",
  "preprocessor_config.json",
  "README.md",
)
KEYS = {
  "format": int,
  "architecture": str,
  "image_size": int,
  "network": dict,
  "classes": list,
  "source": dict,
  "training": dict,
}
MAX_DEPTH = 32  # parts of a parameter's name; that of a ViT has up to 5
MAX_TEXT = 16_000_000  # bytes of a JSON file; a config with 1000 classes has 30 kB


class Package(NamedTuple):
  """What is in the folder."""

  config: dict[str, Any]  # the keys of KEYS
  preprocessing: Preprocessing
  params: Params  # float32
  card: str  # Markdown


def is_package(folder: str | os.PathLike[str]) -> bool:
  """Returns whether a folder says it is a package of ours; run folders and other people's models
  have a config.json too."""
  if not all(is_file(place(folder) / name) for name in (CONFIG, WEIGHTS, IMAGES)):
    return False
  try:
    return {"format", "architecture"} <= _read_json(place(folder) / CONFIG).keys()
  except (UserError, AttributeError):
    return False


def make_config(
  *,
  architecture: str,
  image_size: int,
  network: Mapping[str, Any],
  classes: list[str],
  source: Mapping[str, Any],
  training: Mapping[str, Any],
) -> dict[str, Any]:
  """Returns the content of config.json; of paths only the last part stays."""
  return {
    "format": FORMAT,
    "architecture": architecture,
    "image_size": image_size,
    "network": dict(network),
    "classes": classes,
    "source": without_paths(source),
    "training": without_paths(training),
  }


def read_package(folder: str | os.PathLike[str]) -> Package:
  """Returns the package in a folder. What the network's description and its weights have to do with
  each other is for the caller to check.

  Raises: UserError naming the file that is missing, damaged, or not of this form.
  """
  folder = local_copy(folder, FILES) if is_remote(folder) else Path(folder)
  if not is_dir(folder):
    raise UserError(f"{folder} is not a folder, expected a model package; check the path")
  if lost := [name for name in FILES[:3] if not (folder / name).is_file()]:
    raise UserError(
      f"{folder} is no model package, it has no {' and no '.join(lost)}; make one with "
      "python -m sbir.package or python -m sbir.convert"
    )
  config = read_config(folder / CONFIG)
  images = preprocessing.from_json(_read_json(folder / IMAGES), str(folder / IMAGES))
  if images.image_size != config["image_size"]:
    raise UserError(
      f"{folder / IMAGES} prepares images of {images.image_size} px and {CONFIG} expects "
      f"{config['image_size']}; fetch the package again"
    )
  named = read_safetensors(folder / WEIGHTS)
  if odd := [f"{name} {array.dtype}" for name, array in named.items() if array.dtype != np.float32]:
    raise UserError(f"{folder / WEIGHTS}: expected float32 alone, found {odd[0]}; convert it again")
  _check_names(named, folder / WEIGHTS)
  return Package(config, images, trees.unflatten(named), _read_card(folder / CARD))


def _check_names(names: Iterable[str], path: Path) -> None:
  """Raises UserError if names, their parts divided by "/", are those of no tree of parameters."""
  names = set(names)
  for name in sorted(names):
    parts = name.split("/")
    if len(parts) > MAX_DEPTH:
      raise UserError(f"{path}: {name[:60]!r}... has {len(parts)} parts; convert it again")
    groups = ("/".join(parts[:num]) for num in range(1, len(parts)))
    if both := [group for group in groups if group in names]:
      raise UserError(f"{path}: {both[0]!r} is an array and has others in it; convert it again")


def read_config(path: Path) -> dict[str, Any]:
  """Returns a config.json. Raises: UserError if it is not one of ours, or has a path in it."""
  config = _read_json(path)
  if not isinstance(config, dict) or config.keys() != KEYS.keys():
    found = ", ".join(map(str, list(config)[:8])) if isinstance(config, dict) else repr(config)[:80]
    raise UserError(
      f"{path} is not of a package, found {found!r}, expected the keys {', '.join(KEYS)}; make one "
      "with python -m sbir.package or sbir.convert"
    )
  for key, kind in KEYS.items():
    if type(config[key]) is not kind:
      raise UserError(f"{path}: {key}={config[key]!r} must be {kind.__name__}; fetch it again")
  if config["format"] != FORMAT:
    raise UserError(
      f"{path}: format {config['format']} is not {FORMAT}, which this version reads; update"
    )
  if found := find_path(config):
    raise UserError(
      f"{path}: {found[0]}={found[1]!r} is a path, and a package names no file; do not use it"
    )
  return config


def write_package(folder: str | os.PathLike[str], package: Package) -> None:
  """Writes the folder, whole or not at all; a package that is there already is replaced. In a store
  its files appear one by one, config.json last.

  Raises: UserError if the folder cannot be written, or holds anything that is not a package.
  """
  folder = place(folder).absolute()
  check_free(folder)
  if is_remote(folder):
    _upload(folder, package)
    return
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
  except OSError as error:
    raise UserError(f"{folder} cannot be made ({error.strerror}); choose another") from None
  try:
    _write(new, package)
    new.chmod(0o755)  # mkdtemp's is for its owner alone
    if folder.is_dir():
      old = new.with_name(f"{new.name}.old")
      os.replace(folder, old)
      os.replace(new, folder)
      shutil.rmtree(old)
    else:
      os.replace(new, folder)
  except OSError as error:
    raise UserError(f"{folder} cannot be written ({error.strerror}); choose another") from None
  finally:
    shutil.rmtree(new, ignore_errors=True)


def check_free(folder: str | os.PathLike[str]) -> None:
  """Raises UserError unless a package can be written there: nothing, an empty folder, a package."""
  folder = place(folder)
  if is_dir(folder):
    strangers = sorted({path.name for path in folder.iterdir()} - set(FILES))
    if strangers:
      raise UserError(
        f"{folder} holds other things ({', '.join(strangers[:3])}), expected an empty folder or a "
        "package; choose another --out"
      )
  elif exists(folder):
    raise UserError(f"{folder} is a file, expected a folder for the package; choose another --out")


def _upload(folder: Path, package: Package) -> None:
  with tempfile.TemporaryDirectory() as here:
    _write(Path(here), package)
    try:
      (folder / CONFIG).unlink(missing_ok=True)
      for name in reversed(FILES):
        (folder / name).send(Path(here) / name)
    except OSError as error:
      raise UserError(f"{folder} cannot be written ({error.strerror}); choose another") from None


def _write(folder: Path, package: Package) -> None:
  arrays = {name: np.asarray(leaf) for name, leaf in trees.flatten(package.params).items()}
  write_safetensors(folder / WEIGHTS, arrays)
  write_text(folder / CONFIG, _to_text(package.config))
  write_text(folder / IMAGES, _to_text(preprocessing.to_json(package.preprocessing)))
  write_text(folder / CARD, package.card)


def _to_text(value: Any) -> str:
  return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _read_json(path: Path) -> Any:
  try:
    if path.stat().st_size > MAX_TEXT:
      raise ValueError(f"{path.stat().st_size} bytes")
    return json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
  except OSError as error:
    raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
  except (ValueError, RecursionError) as error:
    reason = " ".join(str(error).split())[:120]
    raise UserError(f"{path} is no readable JSON ({reason}); fetch it again") from None


def _refuse_constant(word: str) -> None:
  raise ValueError(f"{word} is no number")


def _read_card(path: Path) -> str:
  try:
    with open(path, encoding="utf-8", newline="") as file:
      return file.read(MAX_TEXT)
  except FileNotFoundError:
    return ""
  except (OSError, ValueError) as error:
    raise UserError(f"{path} cannot be read ({error}); fetch it again") from None

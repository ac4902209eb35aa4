"""What run folders tell of how a model was made and how good it is, for its card."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sbir import run_folder
from sbir.model_card import Measured
from sbir.places import place
from sbir.types import UserError


def find_evaluation(runs: Mapping[str, str | Path]) -> Path | None:
  """Returns the folder of an evaluation of exactly these runs, {config key: run folder}, if one
  lies beside the first of them; None if none does."""
  first = place(next(iter(runs.values()))).absolute()
  for config_file in sorted(first.parent.glob("*evaluation*/config.json")):
    if not (config_file.parent / "evaluation.json").is_file():
      continue
    config = run_folder.read_config(config_file.parent)
    if all(_same_folder(config.get(key), run) for key, run in runs.items()):
      return config_file.parent
  return None


def read_evaluation(folder: str | Path) -> Measured:
  """Returns the headlines of an evaluation's folder. Raises: UserError if it holds none."""
  config, path = run_folder.read_config(folder), place(folder) / "evaluation.json"
  try:
    found = json.loads(path.read_text())
    metrics, intervals = _numbers(found["metrics"]), _bounds(found["intervals"])
    about = {
      "sketches, photos": f"{found['queries']} queries against {found['gallery']}",
      "protocol": found.get("protocol_text") or config["protocol"],
      "distance": found["distance"],
      **found["about"],
    }
    shown = {name: metrics[name] for name in intervals if metrics[name] is not None}
    name = str(config["data"]["name"])
    return Measured(name, about, shown, intervals, _numbers(found["chance"]))
  except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
    raise UserError(
      f"{path} is not a readable evaluation ({type(error).__name__}: {error}); evaluate again"
    ) from None


def commands(folders: Sequence[str | Path]) -> list[str]:
  """Returns the command that each folder was made with, each one once."""
  lines = []
  for folder in folders:
    words = run_folder.read_versions(folder).get("command")
    if not words or not isinstance(words, list):
      continue
    main = Path(str(words[0]))
    lines.append(" ".join(["python -m", f"{main.parent.name}.{main.stem}", *map(str, words[1:])]))
  return list(dict.fromkeys(lines))


def versions(folder: str | Path) -> dict[str, str]:
  """Returns {"git commit", "Python", "jax", ...: text} of a run folder."""
  return version_rows(run_folder.read_versions(folder))


def version_rows(found: Mapping[str, Any]) -> dict[str, str]:
  """Returns the rows of a card's table of versions, of what `run_folder.versions` gives."""
  packages, devices = found.get("packages"), found.get("devices")
  rows = {"git commit": found.get("git", ""), "Python": found.get("python", "")}
  rows |= packages if isinstance(packages, dict) else {}
  rows["devices"] = ", ".join(sorted(set(map(str, devices)))) if isinstance(devices, list) else ""
  return {name: str(text) for name, text in rows.items() if text}


def init_text(folder: str | Path, config: Mapping[str, Any]) -> str:
  """Returns what a training began from: random weights, or a file and its hash."""
  kind = config["init"]["kind"]
  found = run_folder.read_versions(folder).get("init")
  if kind == "random" or not isinstance(found, dict) or not {"file", "sha256"} <= found.keys():
    return f"{kind} weights"
  return f"{kind} weights, {found['file']}, SHA-256 {found['sha256']}"


def _numbers(found: Any) -> dict[str, float | None]:
  """Returns a mapping to numbers or nothing. Raises: TypeError if it is none."""
  if not isinstance(found, dict) or not all(map(_is_number, found.values())):
    raise TypeError("expected numbers by name")
  return found


def _bounds(found: Any) -> dict[str, Sequence[float]]:
  """Returns a mapping to pairs of numbers. Raises: TypeError if it is none."""
  pairs = found.values() if isinstance(found, dict) else ((),)
  if not all(
    isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair)) for pair in pairs
  ):
    raise TypeError("expected intervals by name")
  return found


def _is_number(value: Any) -> bool:
  return value is None or type(value) in (int, float)  # None stands for what is not finite


def _same_folder(one: Any, other: str | Path) -> bool:
  return isinstance(one, str) and bool(one) and place(one).absolute() == place(other).absolute()

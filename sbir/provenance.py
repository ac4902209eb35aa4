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
    metrics, intervals = found["metrics"], found["intervals"]
    about = {
      "sketches, photos": f"{found['queries']} queries against {found['gallery']}",
      "protocol": found.get("protocol_text") or config["protocol"],
      "distance": found["distance"],
      **found["about"],
    }
    shown = {name: metrics[name] for name in intervals if metrics[name] is not None}
    return Measured(config["data"]["name"], about, shown, intervals, found["chance"])
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f"{path} is not a readable evaluation ({type(error).__name__}: {error}); evaluate again"
    ) from None


def commands(folders: Sequence[str | Path]) -> list[str]:
  """Returns the command that each folder was made with, each one once."""
  lines = []
  for folder in folders:
    words = [str(word) for word in run_folder.read_versions(folder).get("command", [])]
    if not words:
      continue
    main = Path(words[0])
    lines.append(" ".join(["python -m", f"{main.parent.name}.{main.stem}", *words[1:]]))
  return list(dict.fromkeys(lines))


def versions(folder: str | Path) -> dict[str, str]:
  """Returns {"git commit", "Python", "jax", ...: text} of a run folder."""
  return version_rows(run_folder.read_versions(folder))


def version_rows(found: Mapping[str, Any]) -> dict[str, str]:
  """Returns the rows of a card's table of versions, of what `run_folder.versions` gives."""
  rows = {"git commit": found.get("git", ""), "Python": found.get("python", "")}
  rows |= found.get("packages", {})
  rows["devices"] = ", ".join(sorted(set(found.get("devices", []))))
  return {name: text for name, text in rows.items() if text}


def init_text(folder: str | Path, config: Mapping[str, Any]) -> str:
  """Returns what a training began from: random weights, or a file and its hash."""
  kind = config["init"]["kind"]
  found = run_folder.read_versions(folder).get("init")
  if kind == "random" or not found:
    return f"{kind} weights"
  return f"{kind} weights, {found['file']}, SHA-256 {found['sha256']}"


def _same_folder(one: Any, other: str | Path) -> bool:
  return isinstance(one, str) and bool(one) and place(one).absolute() == place(other).absolute()

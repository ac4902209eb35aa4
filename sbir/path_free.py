"""What travels with a model must not tell of its maker's disk, nor lead anywhere on a reader's."""

from collections.abc import Mapping
from typing import Any


def without_paths(value: Any) -> Any:
  """Returns JSON-like values, tuples as lists, with every path in them cut to its last part."""
  if isinstance(value, Mapping):
    return {str(key): without_paths(entry) for key, entry in value.items()}
  if isinstance(value, list | tuple):
    return [without_paths(entry) for entry in value]
  if isinstance(value, str) and is_path(value):
    return last_part(value)
  return value


def find_path(value: Any, key: str = "") -> tuple[str, str] | None:
  """Returns (dotted key, text) of the first word in JSON-like values that is a path, or None."""
  waiting = [(key, value)]
  while waiting:
    key, value = waiting.pop()
    if isinstance(value, Mapping):
      for name, entry in value.items():
        waiting += [(f"{key}.{name}".lstrip("."), entry), (key, name)]
    elif isinstance(value, list | tuple):
      waiting += [(key, entry) for entry in value]
    elif isinstance(value, str) and is_path(value):
      return key, value
  return None


def is_path(text: str) -> bool:
  """Returns whether a text may lead to a file of another folder."""
  return text in (".", "..") or text[:1] == "~" or any(mark in text for mark in "/\\\0")


def last_part(path: str) -> str:
  """Returns the last part of a path, of either kind of slash, that is a name; "" if none is."""
  parts = path.replace("\\", "/").replace("\0", "").split("/")
  names = (part.lstrip("~") for part in reversed(parts))
  return next((name for name in names if name not in ("", ".", "..")), "")

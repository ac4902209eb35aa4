"""Paths as users write them."""

import os


def expand(path: str | os.PathLike[str]) -> str:
  """Returns a path with "~" made the folder of its user; unchanged where there is no such user."""
  try:
    return os.path.expanduser(path)
  except ValueError:  # a zero byte in the user's name
    return os.fspath(path)

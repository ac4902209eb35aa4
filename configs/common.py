"""What every config file needs: finding the named variant, and saying which names there are."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def pick(name: str, table: Mapping[str, T]) -> T:
  """Returns table[name].

  Raises: ValueError naming the near names, or all, if there is no such entry.
  """
  if name in table:
    return table[name]
  near = difflib.get_close_matches(name, table, n=3, cutoff=0.5)
  hint = f"nearest: {', '.join(near)}" if near else f"choose one of {', '.join(sorted(table))}"
  raise ValueError(f"config name {name!r} is unknown; {hint}")

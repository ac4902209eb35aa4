"""Which photos are held out for testing where a data set does not say so itself."""

import hashlib
from collections.abc import Iterable

TEST_PHOTOS_PER_CLASS = 10  # as many as the Sketchy Database's own test list takes


def held_out(photos: Iterable[tuple[str, str]]) -> frozenset[str]:
  """Returns the test instances among (category, instance): 10 of each category.

  Taken are those whose SHA-256 of "category/instance" is lowest, so the choice depends on nothing
  but the names: not on order, machine or seed, and little on which other photos are there. A
  category with fewer than 20 photos gives half of them, rounded down.
  """
  by_category: dict[str, set[str]] = {}
  for category, instance in photos:
    by_category.setdefault(category, set()).add(instance)
  chosen: set[str] = set()
  for category, instances in by_category.items():
    by_hash = sorted(instances, key=lambda name, c=category: _digest(f"{c}/{name}"))
    chosen.update(by_hash[: min(TEST_PHOTOS_PER_CLASS, len(instances) // 2)])
  return frozenset(chosen)


def _digest(text: str) -> bytes:
  return hashlib.sha256(text.encode()).digest()

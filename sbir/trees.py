"""Named views of parameter trees: flatten to path names, mask by pattern, strict merge."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from sbir.types import Params, UserError


def flatten(tree: Params) -> dict[str, Any]:
  """Returns {"encoder/block_0/norm_1/scale": leaf, ...}, in the tree's own order."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {"/".join(str(getattr(k, "key", k)) for k in path): leaf for path, leaf in leaves}


def unflatten(named: Mapping[str, Any]) -> Params:
  """Returns the nested tree of dicts that `flatten` would name so."""
  tree: dict[str, Any] = {}
  for name, leaf in named.items():
    *parents, last = name.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = leaf
  return tree


def mask(tree: Params, keep: Callable[[str, Any], bool]) -> Params:
  """Returns a tree of bools with the structure of `tree`: `keep(name, leaf)` at every leaf."""
  structure = jax.tree_util.tree_structure(tree)
  return jax.tree_util.tree_unflatten(structure, [keep(n, x) for n, x in flatten(tree).items()])


def mask_by_pattern(tree: Params, pattern: str) -> Params:
  """Returns a tree of bools: True where the regular expression is found in the leaf's name."""
  return mask(tree, lambda name, _: re.search(pattern, name) is not None)


def merge(target: Params, source: Params, *, what: str) -> Params:
  """Returns `source` in the structure of `target`; both must have the same names and shapes.

  Every miss is collected before the error is raised, so that one run tells all that is wrong.

  Raises:
    UserError: names missing from `source`, names it has too many, or shapes that differ.
  """
  if found := misses(target, source):
    raise UserError(
      f"{what} does not fit this model, check its config ({len(found)}): {in_short(found)}"
    )
  structure, named = jax.tree_util.tree_structure(target), flatten(source)
  return jax.tree_util.tree_unflatten(structure, [named[name] for name in flatten(target)])


def misses(target: Params, source: Params) -> list[str]:
  """Returns a line for each name or shape in which `source` is not as `target`; [] if none is."""
  wanted, found = flatten(target), flatten(source)
  lines = [f"{name} {wanted[name].shape} is missing" for name in wanted if name not in found]
  lines += [f"{name} {found[name].shape} has no place" for name in found if name not in wanted]
  lines += [
    f"{name} is {found[name].shape}, the model has {wanted[name].shape}"
    for name in wanted
    if name in found and found[name].shape != wanted[name].shape
  ]
  return lines


def in_short(lines: Sequence[str], num: int = 8) -> str:
  """Returns the first `num` of the lines in one, and how many more there are."""
  more = f"; and {len(lines) - num} more" if len(lines) > num else ""
  return "; ".join(lines[:num]) + more

"""How entries of others' checkpoints become leaves of ours: by name, with a change of axes each."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jax import dtypes

from sbir import trees

Arrays = Mapping[str, np.ndarray]


class Rule(NamedTuple):
  """How entries of theirs become leaves of ours."""

  theirs: str  # regular expression of the whole name
  ours: str  # the leaf's name, its groups filled in: r"block_\1/norm_1/scale"
  form: Callable[[np.ndarray], np.ndarray]  # their axes to ours; ValueError if there are others


class Known(NamedTuple):
  """Entries that become nothing of ours, and what is known of them."""

  theirs: str  # regular expression of the whole name
  why: str


class Found(NamedTuple):
  """The entries of a checkpoint, sorted."""

  named: dict[str, np.ndarray]  # leaves of ours by name, float32
  used: tuple[str, ...]  # the entries that they are made of
  dead: dict[str, str]  # entries left out by design, and why
  misfits: tuple[str, ...]  # entries without a place, each a line to show
  spoilt: frozenset[str]  # leaves of ours whose entry is there and not of the form expected
  reasons: tuple[str, ...]  # what is known of the misfits


def sort_out(
  arrays: Arrays, rules: Sequence[Rule], dead: Sequence[Known], strangers: Sequence[Known] = ()
) -> Found:
  """Returns the entries by what becomes of them: every one is used, dead or a misfit.

  A misfit matches neither a rule nor `dead`, or has other axes, is not of floats, or not finite.
  `strangers` says of misfits what network they are of.
  """
  named, used, left_out, misfits, spoilt, reasons = {}, [], {}, [], set(), {}
  tried = [(re.compile(rule.theirs), rule) for rule in rules]
  for name, array in arrays.items():
    if why := _known(name, dead):
      left_out[name] = why
      continue
    ours, form = _find(tried, name)
    try:
      named[ours] = _as_float32(array, form)
      used.append(name)
    except ValueError as error:
      misfits.append(f"{_printable(name)} {array.shape} {error}")
      spoilt.add(ours)
      reasons[_known(name, strangers)] = None
  known = tuple(why for why in reasons if why)
  return Found(named, tuple(used), left_out, tuple(misfits), frozenset(spoilt), known)


def _known(name: str, table: Sequence[Known]) -> str:
  return next((known.why for known in table if re.fullmatch(known.theirs, name)), "")


def _find(
  tried: Sequence[tuple[re.Pattern[str], Rule]], name: str
) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
  for pattern, rule in tried:
    if match := pattern.fullmatch(name):
      return match.expand(rule.ours), rule.form
  return "", _no_place


def _no_place(array: np.ndarray) -> np.ndarray:
  raise ValueError


def _as_float32(array: np.ndarray, form: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
  """Returns an entry as a leaf. Raises: ValueError with what to say of it after its shape."""
  if not dtypes.issubdtype(array.dtype, np.floating):
    raise ValueError(array.dtype)
  try:
    with np.errstate(over="ignore"):  # beyond float32: not finite, found below
      leaf = np.ascontiguousarray(form(array), np.float32)
  except ValueError:
    raise ValueError(array.dtype) from None
  if not np.isfinite(leaf).all():
    raise ValueError(f"{array.dtype}, not all finite")
  return leaf


def _printable(name: str) -> str:
  shown = name if name.isprintable() else repr(name)
  return shown if len(shown) <= 120 else f"{shown[:117]}..."


def below(theirs: str, ours: str, rules: Sequence[Rule]) -> tuple[Rule, ...]:
  """Returns the rules for the same network one level down; `theirs` must hold no group."""
  return tuple(Rule(theirs + rule.theirs, ours + rule.ours, rule.form) for rule in rules)


def known_below(theirs: str, table: Sequence[Known]) -> tuple[Known, ...]:
  """Returns what is known of the same entries one level down."""
  return tuple(Known(theirs + known.theirs, known.why) for known in table)


def vector(array: np.ndarray) -> np.ndarray:
  """Returns a bias or a norm's scale as it is."""
  return np.einsum("i->i", array)


def linear(weight: np.ndarray) -> np.ndarray:
  """Returns torch's [out, in] as our kernel [in, out]."""
  return np.einsum("oi->io", weight)


def tokens(array: np.ndarray) -> np.ndarray:
  """Returns learnt tokens or positions, [1, n, d], as they are."""
  return np.einsum("bnd->bnd", array)


def dense(theirs: str, ours: str) -> tuple[Rule, ...]:
  """Returns the rules of torch's nn.Linear with a bias."""
  return (
    Rule(rf"{theirs}\.weight", f"{ours}/kernel", linear),
    Rule(rf"{theirs}\.bias", f"{ours}/bias", vector),
  )


def norm(theirs: str, ours: str) -> tuple[Rule, ...]:
  """Returns the rules of torch's nn.LayerNorm."""
  return (
    Rule(rf"{theirs}\.weight", f"{ours}/scale", vector),
    Rule(rf"{theirs}\.bias", f"{ours}/bias", vector),
  )


def complaint(found: Found, wrong: Sequence[str], what: str) -> str:
  """Returns one line with all that keeps `found` from being a network: `wrong`, what its leaves
  lack, after the misfits among its entries."""
  num = len(found.used) + len(found.dead) + len(found.misfits)
  parts = list(found.reasons)
  if found.misfits:
    shown = trees.in_short(found.misfits)
    parts.append(f"{len(found.misfits)} of its {num} entries have no place ({shown})")
  if wrong:
    parts.append(f"what it has is not whole ({trees.in_short(wrong)})")
  reason = "; ".join(parts) if num else "it is empty"
  return f"{what} is not of the expected network, choose another file: {reason}"

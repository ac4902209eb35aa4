"""What the description of a network, the "network" of a package's config.json, may hold."""

from collections.abc import Mapping
from typing import Any

from sbir import trees
from sbir.nn.vit import ViT
from sbir.types import UserError

# key: what its value must be. (low, high): a whole number from low to high; bool: true or false;
# several words: one of them; a mapping: the same again. The bounds are far above any network in
# use: they stop a damaged or hostile file, not a large one.
Spec = Mapping[str, Any]
ENCODER: Spec = {
  "width": (1, 16_384),
  "depth": (1, 256),
  "num_heads": (1, 1024),
  "patch_size": (1, 1024),
}
LAYER = (1, 65_536)  # outputs of a linear layer
REPAIR = "correct it, or make the package again"


def check_network(network: Any, spec: Spec, where: str = "network") -> None:
  """Raises UserError naming all that is wrong in `network`: keys that `spec` does not have or that
  are missing, values of another kind or size, heads that do not divide the width.

  `where` is what it is called in messages.
  """
  if wrong := _wrong(network, spec, where):
    raise UserError(f"{trees.in_short(wrong)}; {REPAIR}")


def make_encoder(encoder: Mapping[str, int]) -> ViT:
  """Returns the ViT of a checked "encoder", in float32."""
  return ViT(**encoder)


def describe_encoder(vit: ViT) -> dict[str, int]:
  """Returns the "encoder" of a ViT, or of any module with its sizes."""
  return {name: getattr(vit, name) for name in ENCODER}


def _wrong(value: Any, expected: Any, where: str) -> list[str]:
  if isinstance(expected, Mapping):
    return _wrong_keys(value, expected, where)
  if expected is bool:
    return [] if type(value) is bool else [f"{where}={_short(value)} must be true or false"]
  if isinstance(expected[0], str):
    is_word = isinstance(value, str) and value in expected
    return [] if is_word else [f"{where}={_short(value)} must be one of: {', '.join(expected)}"]
  low, high = expected
  if type(value) is int and low <= value <= high:  # a bool is an int to isinstance
    return []
  return [f"{where}={_short(value)} must be a whole number from {low} to {high}"]


def _wrong_keys(value: Any, spec: Spec, where: str) -> list[str]:
  if not isinstance(value, Mapping):
    return [f"{where}={_short(value)} must hold {', '.join(spec)}"]
  if strange := [_short(key) for key in value if key not in spec]:
    return [f"{where} has the unknown keys {', '.join(strange[:8])}, expected {', '.join(spec)}"]
  if lost := [key for key in spec if key not in value]:
    return [f"{where} lacks {', '.join(lost)}"]
  wrong = [line for key in spec for line in _wrong(value[key], spec[key], f"{where}.{key}")]
  if not wrong and spec is ENCODER and value["width"] % value["num_heads"]:
    wrong = [f"{where}.num_heads={value['num_heads']} must divide the width {value['width']}"]
  return wrong


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 60 else f"{text[:57]}..."

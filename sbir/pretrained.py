"""Weights that others trained, in the form of our ViT; an entry that nobody expects is an error."""

import math
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sbir import trees
from sbir.types import Params, UserError

Arrays = Mapping[str, np.ndarray]
KINDS = ("random", "augreg")
FILES = {
  "augreg": "a ViT .npz of the AugReg release",
  "dino": "DINO's full checkpoint (.pth)",
}
_UNREADABLE = (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)


class Rule(NamedTuple):
  """How entries of theirs become leaves of ours."""

  theirs: str  # regular expression of the whole name
  ours: str  # the leaf's name, its groups filled in: r"block_\1/norm_1/scale"
  form: Callable[[np.ndarray], np.ndarray]  # their axes to ours; ValueError if there are others


def convert(arrays: Arrays, rules: Sequence[Rule], *, ignored: Sequence[str], what: str) -> Params:
  """Returns the tree that `rules` make of `arrays`, in float32.

  Every entry must match a rule, or one of the expressions `ignored` (parts that we do not have, or
  that the source never uses). What is missing shows when the tree is merged into a model's.

  Raises: UserError naming `what`, and all entries that match neither or have another form.
  """
  named, misfits = {}, []
  for name, array in arrays.items():
    if any(re.fullmatch(pattern, name) for pattern in ignored):
      continue
    try:
      if array.dtype.kind != "f":
        raise ValueError(array.dtype)
      ours, form = _find(rules, name)
      named[ours] = np.ascontiguousarray(form(array), np.float32)
    except ValueError:
      misfits.append(f"{name} {array.shape} {array.dtype}")
  if misfits or not named:
    shown = "; ".join(misfits[:8]) + (f"; and {len(misfits) - 8} more" if len(misfits) > 8 else "")
    raise UserError(
      f"{what} is not of the expected network, choose another file: {len(misfits)} of its"
      f" {len(arrays)} entries have no place ({shown or 'it is empty'})"
    )
  return trees.unflatten(named)


def _find(rules: Sequence[Rule], name: str) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
  for rule in rules:
    if match := re.fullmatch(rule.theirs, name):
      return match.expand(rule.ours), rule.form
  raise ValueError(name)


def vector(array: np.ndarray) -> np.ndarray:
  """Returns a bias or a norm's scale as it is."""
  return np.einsum("i->i", array)


def linear(weight: np.ndarray) -> np.ndarray:
  """Returns torch's [out, in] as our kernel [in, out]."""
  return np.einsum("oi->io", weight)


def _kernel(array: np.ndarray) -> np.ndarray:
  return np.einsum("io->io", array)


def tokens(array: np.ndarray) -> np.ndarray:
  return np.einsum("bnd->bnd", array)


def _torch_patches(weight: np.ndarray) -> np.ndarray:
  return _patches(np.einsum("oihw->hwio", weight))


def _patches(kernel: np.ndarray) -> np.ndarray:
  height, width, channels, out = kernel.shape
  return kernel.reshape(height * width * channels, out)


def _to_heads(kernel: np.ndarray) -> np.ndarray:
  width, heads, head_width = kernel.shape
  return kernel.reshape(width, heads * head_width)


def _head_biases(bias: np.ndarray) -> np.ndarray:
  heads, head_width = bias.shape
  return bias.reshape(heads * head_width)


def _from_heads(kernel: np.ndarray) -> np.ndarray:
  heads, head_width, width = kernel.shape
  return kernel.reshape(heads * head_width, width)


TIMM = (
  Rule(r"cls_token", "cls_token", tokens),
  Rule(r"pos_embed", "pos_embed", tokens),
  Rule(r"patch_embed\.proj\.weight", "patch_embed/kernel", _torch_patches),
  Rule(r"patch_embed\.proj\.bias", "patch_embed/bias", vector),
  Rule(r"blocks\.(\d+)\.norm([12])\.weight", r"block_\1/norm_\2/scale", vector),
  Rule(r"blocks\.(\d+)\.norm([12])\.bias", r"block_\1/norm_\2/bias", vector),
  Rule(r"blocks\.(\d+)\.attn\.qkv\.weight", r"block_\1/attention/qkv/kernel", linear),
  Rule(r"blocks\.(\d+)\.attn\.qkv\.bias", r"block_\1/attention/qkv/bias", vector),
  Rule(r"blocks\.(\d+)\.attn\.proj\.weight", r"block_\1/attention/out/kernel", linear),
  Rule(r"blocks\.(\d+)\.attn\.proj\.bias", r"block_\1/attention/out/bias", vector),
  Rule(r"blocks\.(\d+)\.mlp\.(fc[12])\.weight", r"block_\1/mlp/\2/kernel", linear),
  Rule(r"blocks\.(\d+)\.mlp\.(fc[12])\.bias", r"block_\1/mlp/\2/bias", vector),
  Rule(r"norm\.weight", "norm/scale", vector),
  Rule(r"norm\.bias", "norm/bias", vector),
)
TIMM_IGNORED = (r"head\.(weight|bias)",)  # the classifier of its pretraining

_BLOCK = r"Transformer/encoderblock_(\d+)/"
_ATTENTION = _BLOCK + r"MultiHeadDotProductAttention_1/"
AUGREG = (
  Rule(r"cls", "cls_token", tokens),
  Rule(r"Transformer/posembed_input/pos_embedding", "pos_embed", tokens),
  Rule(r"embedding/kernel", "patch_embed/kernel", _patches),
  Rule(r"embedding/bias", "patch_embed/bias", vector),
  Rule(_BLOCK + r"LayerNorm_0/(scale|bias)", r"block_\1/norm_1/\2", vector),
  Rule(_BLOCK + r"LayerNorm_2/(scale|bias)", r"block_\1/norm_2/\2", vector),
  Rule(_ATTENTION + r"(query|key|value)/kernel", r"block_\1/attention/\2/kernel", _to_heads),
  Rule(_ATTENTION + r"(query|key|value)/bias", r"block_\1/attention/\2/bias", _head_biases),
  Rule(_ATTENTION + r"out/kernel", r"block_\1/attention/out/kernel", _from_heads),
  Rule(_ATTENTION + r"out/bias", r"block_\1/attention/out/bias", vector),
  Rule(_BLOCK + r"MlpBlock_3/Dense_0/kernel", r"block_\1/mlp/fc1/kernel", _kernel),
  Rule(_BLOCK + r"MlpBlock_3/Dense_0/bias", r"block_\1/mlp/fc1/bias", vector),
  Rule(_BLOCK + r"MlpBlock_3/Dense_1/kernel", r"block_\1/mlp/fc2/kernel", _kernel),
  Rule(_BLOCK + r"MlpBlock_3/Dense_1/bias", r"block_\1/mlp/fc2/bias", vector),
  Rule(r"Transformer/encoder_norm/(scale|bias)", r"norm/\1", vector),
)
AUGREG_IGNORED = (r"head/(kernel|bias)",)


def from_timm(state_dict: Arrays, prefix: str = "", *, what: str = "this state dict") -> Params:
  """Returns the parameters of our ViT from a timm ViT's entries below `prefix`.

  The classifier `head.*` is left out; what does not begin with `prefix` is the caller's business.

  Source: timm 0.5.4 vision_transformer.py.
  Raises: UserError naming `what` if an entry has no place in a plain ViT.
  """
  below = {n.removeprefix(prefix): a for n, a in state_dict.items() if n.startswith(prefix)}
  return convert(below, TIMM, ignored=TIMM_IGNORED, what=what)


def from_augreg(path: str | Path) -> Params:
  """Returns the parameters of our ViT from a .npz of Google's ViT release; head/* is left out.

  Source: AugReg (arXiv:2106.10270), vision_transformer vit_jax/models_vit.py.
  Raises: UserError naming the file if it cannot be read or holds something else.
  """
  return _from_augreg(read_npz(path), f"{path}")


def _from_augreg(arrays: Arrays, what: str) -> Params:
  params = convert(arrays, AUGREG, ignored=AUGREG_IGNORED, what=what)
  return trees.unflatten(_join_qkv(trees.flatten(params)))


def _join_qkv(named: Arrays) -> dict[str, np.ndarray]:
  """Returns the leaves with query, key and value side by side, as our one projection has them.

  Where one of the three is missing they stay as they are: merging will name it.
  """
  joined = dict(named)
  for query in [name for name in named if "/attention/query/" in name]:
    three = [query.replace("/query/", f"/{part}/") for part in ("query", "key", "value")]
    if all(name in named and named[name].shape == named[query].shape for name in three):
      parts = [joined.pop(name) for name in three]
      joined[query.replace("/query/", "/qkv/")] = np.concatenate(parts, axis=-1)
  return joined


def warm_start(params: Params, *, kind: str, path: str, num_heads: int) -> Params:
  """Returns the fresh ViT parameters `params`, or for kind "augreg" those of the file at `path`.

  `kind` and `path` are the config's init.kind and init.path. `num_heads` is the model's: our
  shapes do not show it, theirs do, and with another number the same weights are another network.

  Raises: UserError naming the file if it is missing, unreadable, or made for another architecture,
    image size or patch size.
  """
  check_init(kind, path)
  if kind == "random":
    return params
  what, arrays = f"init.path={path}", read_npz(path)
  loaded = _from_augreg(arrays, what)
  check_heads(arrays, num_heads, what)
  _check_grid(params, loaded, what)
  return trees.merge(params, loaded, what=what)


def check_init(kind: str, path: str, *, kinds: Sequence[str] = KINDS) -> None:
  """Raises UserError if init.kind and init.path do not go together, or there is no such file.

  Reads nothing, so a main can call it before anything slow begins.
  """
  if kind not in kinds:
    raise UserError(f"init.kind={kind!r} is unknown; choose one of {', '.join(kinds)}")
  if kind == "random" and path:
    raise UserError(f"init.path={path} is not read with init.kind=random; set init.kind={kinds[1]}")
  if kind != "random" and not path:
    raise UserError(f"init.kind={kind} needs a file of weights; set init.path to {FILES[kind]}")
  if kind != "random" and not Path(path).is_file():
    raise UserError(f"init.path={path} is not a file; set it to {FILES[kind]}")


def check_heads(arrays: Arrays, num_heads: int, what: str) -> None:
  """Raises UserError if AugReg's file was made with another number of attention heads."""
  for name, array in arrays.items():
    if name.endswith("/query/kernel") and array.shape[1] != num_heads:
      raise UserError(
        f"{what} does not fit this model, choose another model.size: it has"
        f" {array.shape[1]} attention heads, this model {num_heads}"
      )


def _check_grid(params: Params, loaded: Params, what: str) -> None:
  """Raises UserError if all that hinders is the number of patches, with the image size to set."""
  fresh, found = trees.flatten(params), trees.flatten(loaded)
  shape_of = lambda named, name: np.shape(named.get(name, ()))
  ours, theirs = shape_of(fresh, "pos_embed"), shape_of(found, "pos_embed")
  kernel = shape_of(found, "patch_embed/kernel")
  if ours == theirs or not theirs or kernel != shape_of(fresh, "patch_embed/kernel"):
    return  # nothing wrong, or more than the grid: merge names it all
  side = math.isqrt(theirs[1] - 1) * math.isqrt(kernel[0] // 3)
  raise UserError(
    f"{what} was trained on {theirs[1] - 1} patches an image, this model has {ours[1] - 1};"
    f" set image_size={side}"
  )


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
  """Returns the arrays of a .npz, all of them read; pickled objects are refused."""
  if not Path(path).is_file():
    raise UserError(f"{path} is not a file; give the path of a ViT .npz")
  try:
    with open(path, "rb") as file:
      if not zipfile.is_zipfile(file):
        raise ValueError("it is another kind of file, or cut short")
      members = np.load(file, allow_pickle=False)
      arrays = {name: members[name] for name in members.files}
    if strangers := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
      raise ValueError(f"its member {strangers[0]} is no array")
    return arrays
  except _UNREADABLE as error:
    reason = f"{error or type(error).__name__}".splitlines()[0]
    raise UserError(f"{path} cannot be read as .npz ({reason}); fetch it again") from error

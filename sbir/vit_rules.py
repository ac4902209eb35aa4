"""The names and layouts that published plain ViTs have: timm's (DINO's, DeiT's) and AugReg's."""

import re

import numpy as np

from sbir.weight_rules import Arrays, Known, Rule, dense, norm, tokens, vector


def _kernel(array: np.ndarray) -> np.ndarray:
  return np.einsum("io->io", array)


def _torch_patches(weight: np.ndarray) -> np.ndarray:
  return _patches(np.einsum("oihw->hwio", weight))


def _patches(kernel: np.ndarray) -> np.ndarray:
  height, width, channels, out = kernel.shape
  if height != width or channels != 3:
    raise ValueError("patches must be squares of three channels")
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


_PART = r"blocks\.(\d{1,4})\."
TIMM = (  # timm 0.5.4 vision_transformer.py; DINO's and DeiT's are the same
  Rule(r"cls_token", "cls_token", tokens),
  Rule(r"pos_embed", "pos_embed", tokens),
  Rule(r"patch_embed\.proj\.weight", "patch_embed/kernel", _torch_patches),
  Rule(r"patch_embed\.proj\.bias", "patch_embed/bias", vector),
  *norm(_PART + r"norm1", r"block_\1/norm_1"),
  *norm(_PART + r"norm2", r"block_\1/norm_2"),
  *dense(_PART + r"attn\.qkv", r"block_\1/attention/qkv"),
  *dense(_PART + r"attn\.proj", r"block_\1/attention/out"),
  *dense(_PART + r"mlp\.fc1", r"block_\1/mlp/fc1"),
  *dense(_PART + r"mlp\.fc2", r"block_\1/mlp/fc2"),
  *norm(r"norm", "norm"),
)
TIMM_DEAD = (
  Known(r"head\.(weight|bias)", "classifier of its pretraining"),
  Known(r"pre_logits\.fc\.(weight|bias)", "part of the classifier of its pretraining"),
)
TIMM_STRANGERS = (  # what other Vision Transformers have
  Known(
    r"(.*\.)?(dist_token|head_dist\..*)",
    "a distilled DeiT has two tokens; use the plain deit_*_patch16_224 file",
  ),
  Known(r"(.*\.)?fc_norm\..*", "it averages its patches where ours reads a class token"),
  Known(r"(.*\.)?(ls[12](\..*)?|gamma_[12])", "it has LayerScale, which our blocks do not"),
  Known(r"(.*\.)?(reg_token|register_tokens)", "it has register tokens beside the class token"),
  Known(r"(.*\.)?mask_token", "it has a mask token, as DINOv2 and BEiT have"),
  Known(r"(.*\.)?mlp\.(w\d+|fc1_[gx]|norm)\..*", "its MLP is gated (SwiGLU) or normed"),
  Known(r"(.*\.)?norm_pre\..*", "it has a norm before its blocks, as CLIP's"),
  Known(r"(.*\.)?attn\.[qk]_norm\..*", "it norms queries and keys"),
  Known(r"(.*\.)?(.*rel_pos.*|relative_position.*|rope.*)", "its positions are relative"),
  Known(r"(.*\.)?attn_pool\..*", "it pools by attention where ours reads a class token"),
  Known(r"(.*\.)?patch_embed\.backbone\..*", "it is a hybrid: a ResNet makes its patches"),
  Known(
    r"(vit\.|deit\.)?(embeddings|encoder\.layer)\..*",
    "its names are those of Hugging Face's transformers; use timm's file of the same network",
  ),
)

_BLOCK = r"Transformer/encoderblock_(\d{1,4})/"
_ATTENTION = _BLOCK + r"MultiHeadDotProductAttention_1/"
AUGREG = (  # AugReg (arXiv:2106.10270), vision_transformer vit_jax/models_vit.py
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
AUGREG_DEAD = (
  Known(r"head/(kernel|bias)", "classifier of its pretraining"),
  Known(r"pre_logits/(kernel|bias)", "part of the classifier of its pretraining"),
)
AUGREG_STRANGERS = (
  Known(r"(conv_root|gn_root|ResNet|block\d+/).*", "it is a hybrid: a ResNet makes its patches"),
  Known(r"MAPHead.*", "it pools by attention where ours reads a class token"),
)

DINO_HEAD = {0: "fc1", 2: "fc2", 4: "fc3"}  # places of the linear layers in their nn.Sequential
DINO_HEAD_RULES = tuple(
  rule for place, name in DINO_HEAD.items() for rule in dense(rf"mlp\.{place}", name)
)
DINO_DEAD = (Known(r"head\.last_layer\..*", "outputs that only DINO's own training has a use for"),)
DINO_STRANGERS = (
  Known(r"head\.mlp\.[135]\..*", "its head has batch norm, which DINO's ViTs do not have"),
)


def augreg_heads(arrays: Arrays) -> set[int]:
  """Returns the numbers of attention heads that the layers of an AugReg file have: one, unless it
  is damaged; none where there is no such layer."""
  axes = {r"(query|key|value)/kernel": 1, r"(query|key|value)/bias": 0, r"out/kernel": 0}
  return {
    array.shape[axis]
    for name, array in arrays.items()
    for ending, axis in axes.items()
    if re.fullmatch(_ATTENTION + ending, name) and array.ndim > axis
  }


def join_qkv(named: Arrays) -> dict[str, np.ndarray]:
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

"""Names and shapes of published ViT files: Google's .npz, timm's (DINO's, DeiT's) state dicts."""

import numpy as np


def timm_shapes(width, depth, patch, side, *, classes=0, mlp=None):
  """Returns {name: shape} of a plain ViT in timm 0.5.4, DINO's or DeiT's release."""
  shapes = {
    "cls_token": (1, 1, width),
    "pos_embed": (1, (side // patch) ** 2 + 1, width),
    "patch_embed.proj.weight": (width, 3, patch, patch),
    "patch_embed.proj.bias": (width,),
  }
  for i in range(depth):
    for layer, rows, columns in (
      ("attn.qkv", 3 * width, width),
      ("attn.proj", width, width),
      ("mlp.fc1", mlp or 4 * width, width),
      ("mlp.fc2", width, mlp or 4 * width),
    ):
      shapes |= linear(f"blocks.{i}.{layer}", columns, rows)
    for norm in ("norm1", "norm2"):
      shapes |= {f"blocks.{i}.{norm}.weight": (width,), f"blocks.{i}.{norm}.bias": (width,)}
  shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
  return shapes | (linear("head", width, classes) if classes else {})


def dino_shapes(width, depth, patch, side, *, hidden, bottleneck, outputs):
  """Returns {name: shape} of the entry "teacher" of a full checkpoint of DINO's."""
  vit = timm_shapes(width, depth, patch, side)
  shapes = {f"backbone.{name}": shape for name, shape in vit.items()}
  shapes |= linear("head.mlp.0", width, hidden) | linear("head.mlp.2", hidden, hidden)
  shapes |= linear("head.mlp.4", hidden, bottleneck)
  return shapes | {
    "head.last_layer.weight_g": (outputs, 1),
    "head.last_layer.weight_v": (outputs, bottleneck),
  }


def linear(name, inputs, outputs):
  """Returns {name: shape} of torch's nn.Linear."""
  return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def augreg_shapes(width, depth, heads, patch, side, *, classes=0, pre_logits=0):
  """Returns {name: shape} of a ViT .npz of Google's release (vit_jax/models_vit.py)."""
  shapes = {
    "cls": (1, 1, width),
    "embedding/kernel": (patch, patch, 3, width),
    "embedding/bias": (width,),
    "Transformer/posembed_input/pos_embedding": (1, (side // patch) ** 2 + 1, width),
    "Transformer/encoder_norm/scale": (width,),
    "Transformer/encoder_norm/bias": (width,),
  }
  if pre_logits:
    shapes |= {"pre_logits/kernel": (width, pre_logits), "pre_logits/bias": (pre_logits,)}
  if classes:
    shapes |= {"head/kernel": (pre_logits or width, classes), "head/bias": (classes,)}
  for i in range(depth):
    block = f"Transformer/encoderblock_{i}"
    attention, each = f"{block}/MultiHeadDotProductAttention_1", width // heads
    for part in ("query", "key", "value"):
      shapes[f"{attention}/{part}/kernel"] = (width, heads, each)
      shapes[f"{attention}/{part}/bias"] = (heads, each)
    shapes[f"{attention}/out/kernel"] = (heads, each, width)
    shapes[f"{attention}/out/bias"] = (width,)
    for norm in ("LayerNorm_0", "LayerNorm_2"):
      shapes |= {f"{block}/{norm}/scale": (width,), f"{block}/{norm}/bias": (width,)}
    for dense, rows, columns in (("Dense_0", width, 4 * width), ("Dense_1", 4 * width, width)):
      shapes[f"{block}/MlpBlock_3/{dense}/kernel"] = (rows, columns)
      shapes[f"{block}/MlpBlock_3/{dense}/bias"] = (columns,)
  return shapes


def drawn(shapes, seed=0):
  """Returns random weights of these shapes."""
  draw = np.random.default_rng(seed)
  return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def zeros(shapes):
  """Returns zeros of these shapes which take no memory."""
  return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def count(named):
  """Returns how many numbers arrays or shapes by name have."""
  shapes = (getattr(each, "shape", each) for each in named.values())
  return sum(int(np.prod(shape)) for shape in shapes)


def timm_from_augreg(arrays, depth):
  """Returns the weights of a Google .npz as timm names and lays them out."""
  found = {
    "cls_token": arrays["cls"],
    "pos_embed": arrays["Transformer/posembed_input/pos_embedding"],
    "patch_embed.proj.weight": arrays["embedding/kernel"].transpose(3, 2, 0, 1),
    "patch_embed.proj.bias": arrays["embedding/bias"],
    "norm.weight": arrays["Transformer/encoder_norm/scale"],
    "norm.bias": arrays["Transformer/encoder_norm/bias"],
    "head.weight": arrays["head/kernel"].T,
    "head.bias": arrays["head/bias"],
  }
  width = len(arrays["embedding/bias"])
  for i in range(depth):
    theirs, ours = f"Transformer/encoderblock_{i}/", f"blocks.{i}."
    attention = f"{theirs}MultiHeadDotProductAttention_1/"
    parts = [arrays[f"{attention}{part}/kernel"] for part in ("query", "key", "value")]
    found[f"{ours}attn.qkv.weight"] = np.concatenate([p.reshape(width, width).T for p in parts])
    parts = [arrays[f"{attention}{part}/bias"] for part in ("query", "key", "value")]
    found[f"{ours}attn.qkv.bias"] = np.concatenate([part.ravel() for part in parts])
    found[f"{ours}attn.proj.weight"] = arrays[f"{attention}out/kernel"].reshape(width, width).T
    found[f"{ours}attn.proj.bias"] = arrays[f"{attention}out/bias"]
    for layer, norm in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
      found[f"{ours}{norm}.weight"] = arrays[f"{theirs}{layer}/scale"]
      found[f"{ours}{norm}.bias"] = arrays[f"{theirs}{layer}/bias"]
    for layer, dense in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
      found[f"{ours}mlp.{dense}.weight"] = arrays[f"{theirs}MlpBlock_3/{layer}/kernel"].T
      found[f"{ours}mlp.{dense}.bias"] = arrays[f"{theirs}MlpBlock_3/{layer}/bias"]
  return found

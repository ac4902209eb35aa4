"""A plain ViT in PyTorch, eager: what ours is compared with. A program of its own.

It runs under the Python of .venv-bench (./launch.sh bench), which has torch and numpy and nothing
of ours. Each line it reads is a JSON object, each line it writes is its answer:

  {"do": "make", "encoder": {"width", "depth", "num_heads", "patch_size"}, "weights": FILE.npz,
   "images": FILE.npy, "threads": 2}         -> {"torch": version, "threads": 2}
  {"do": "forward"}                          -> {"seconds": s}; with "out": FILE.npy the tokens too
  {"do": "train"}                            -> {"seconds": s, "loss": x}, one AdamW step

`weights` are our parameters by name ("block_0/attention/qkv/kernel"), `images` f32[b, s, s, 3].
"""

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ADAMW = {"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-4}  # as optax.adamw's


class Block(nn.Module):
  """Pre-norm attention and MLP, through PyTorch's fused attention."""

  def __init__(self, width: int, num_heads: int):
    super().__init__()
    self.num_heads = num_heads
    self.norm_1, self.norm_2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
    self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
    self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

  def forward(self, tokens):
    b, n, d = tokens.shape
    qkv = self.qkv(self.norm_1(tokens)).reshape(b, n, 3, self.num_heads, -1)
    mixed = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
    tokens = tokens + self.out(mixed.transpose(1, 2).reshape(b, n, d))
    return tokens + self.fc2(F.gelu(self.fc1(self.norm_2(tokens))))


class ViT(nn.Module):
  """Returns all tokens after the final LayerNorm, as sbir.nn.vit.ViT does."""

  def __init__(self, width: int, depth: int, num_heads: int, patch_size: int, num_patches: int):
    super().__init__()
    self.patch_embed = nn.Conv2d(3, width, patch_size, patch_size)
    self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
    self.pos_embed = nn.Parameter(torch.zeros(1, num_patches + 1, width))
    self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(depth)))
    self.norm = nn.LayerNorm(width, eps=1e-6)

  def forward(self, images):
    patches = self.patch_embed(images).flatten(2).transpose(1, 2)
    cls_tokens = self.cls_token.expand(len(images), -1, -1)
    return self.norm(self.blocks(torch.cat([cls_tokens, patches], 1) + self.pos_embed))


def load(model: ViT, ours) -> None:
  """Copies our parameters into the model: kernels transposed, patches as a convolution."""
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      path = our_name(name)
      value = torch.from_numpy(ours[path])
      if path == "patch_embed/kernel":
        size = parameter.shape[-1]
        value = value.reshape(size, size, 3, -1).permute(3, 2, 0, 1)
      elif path.endswith("kernel"):
        value = value.T
      parameter.copy_(value)


def our_name(name: str) -> str:
  """Returns what a parameter of the model is called in our tree."""
  if name in ("cls_token", "pos_embed"):
    return name
  *path, leaf = name.split(".")
  if path[0] == "blocks":
    group = {"qkv": "attention/", "out": "attention/", "fc1": "mlp/", "fc2": "mlp/"}
    path = [f"block_{path[1]}", group.get(path[2], "") + path[2]]
  if leaf == "weight":
    leaf = "scale" if "norm" in path[-1] else "kernel"
  return "/".join([*path, leaf])


class Worker:
  """Answers one request at a time."""

  def make(self, encoder, weights, images, threads):
    torch.set_num_threads(threads)
    pixels = np.load(images)
    num_patches = (pixels.shape[1] // encoder["patch_size"]) * (
      pixels.shape[2] // encoder["patch_size"]
    )
    self.images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    self.model = ViT(**encoder, num_patches=num_patches)
    load(self.model, np.load(weights))
    self.optimizer = torch.optim.AdamW(self.model.parameters(), **ADAMW)
    return {"torch": torch.__version__, "threads": torch.get_num_threads()}

  def forward(self, out=None):
    start = time.perf_counter()
    with torch.inference_mode():
      tokens = self.model(self.images)
    seconds = time.perf_counter() - start
    if out:
      np.save(out, tokens.numpy())
    return {"seconds": seconds}

  def train(self):
    start = time.perf_counter()
    self.optimizer.zero_grad(set_to_none=True)
    loss = self.model(self.images)[:, 0].square().mean()
    loss.backward()
    self.optimizer.step()
    return {"seconds": time.perf_counter() - start, "loss": loss.item()}


def main() -> None:
  """Reads requests until the end of input."""
  worker = Worker()
  for line in sys.stdin:
    request = json.loads(line)
    answer = getattr(worker, request.pop("do"))(**request)
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
  main()

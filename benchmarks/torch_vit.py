"""The same plain ViT in PyTorch eager: a program of its own, run by a Python that has torch.

It reads weights and a batch from the .npz file it is given, and then does what is written to it,
line by line: "outputs FILE", "losses NUMBER", "forward", "train". It answers each with a line of
JSON; the first says which torch it is.
"""

import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

EPSILON = 1e-6


class Attention(nn.Module):
  """Self-attention with one fused query-key-value projection."""

  def __init__(self, width: int, num_heads: int):
    super().__init__()
    self.num_heads = num_heads
    self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

  def forward(self, tokens):
    b, n, d = tokens.shape
    qkv = self.qkv(tokens).view(b, n, 3, self.num_heads, d // self.num_heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(query, key, value)
    return self.proj(mixed.transpose(1, 2).reshape(b, n, d))


class Block(nn.Module):
  """x + attention(norm(x)), then x + mlp(norm(x))."""

  def __init__(self, width: int, num_heads: int):
    super().__init__()
    self.norm1, self.norm2 = (nn.LayerNorm(width, eps=EPSILON) for _ in range(2))
    self.attn = Attention(width, num_heads)
    layers = {"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)}
    self.mlp = nn.ModuleDict(layers)

  def forward(self, tokens):
    tokens = tokens + self.attn(self.norm1(tokens))
    return tokens + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(tokens))))


class Classifier(nn.Module):
  """The network of `benchmarks.vit`: timm's ViT by its names, a linear layer on its class token."""

  def __init__(
    self, width: int, depth: int, num_heads: int, patch: int, num_tokens: int, classes: int
  ):
    super().__init__()
    self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, stride=patch)})
    self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
    self.pos_embed = nn.Parameter(torch.zeros(1, num_tokens, width))
    self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(depth))
    self.norm = nn.LayerNorm(width, eps=EPSILON)
    self.head = nn.Linear(width, classes)

  def tokens(self, images):
    """Returns all tokens after the final norm, of images (b, 3, h, w)."""
    patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
    tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], 1) + self.pos_embed
    for block in self.blocks:
      tokens = block(tokens)
    return self.norm(tokens)

  def forward(self, images):
    return self.head(self.tokens(images)[:, 0])


class Program:
  """The network with its batch and its optimiser, and what can be asked of it."""

  def __init__(self, path: str):
    found = np.load(path, allow_pickle=False)
    about = json.loads(str(found["about"]))
    state = {name.removeprefix("net/"): found[name] for name in found if name.startswith("net/")}
    self.net = Classifier(**about["network"])
    self.net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    self.images = torch.from_numpy(found["image"]).permute(0, 3, 1, 2).contiguous()
    self.labels = torch.from_numpy(found["label"]).long()
    split = ([p for p in self.net.parameters() if (p.ndim > 1) == decayed] for decayed in (1, 0))
    decays = (about["weight_decay"], 0.0)
    groups = [{"params": p, "weight_decay": d} for p, d in zip(split, decays, strict=True)]
    # fused: the fastest of the three that torch has.
    self.optimizer = torch.optim.AdamW(groups, lr=about["learning_rate"], eps=1e-8, fused=True)

  def forward(self):
    with torch.inference_mode():
      return self.net.tokens(self.images)

  def train(self):
    self.optimizer.zero_grad(set_to_none=True)
    loss = functional.cross_entropy(self.net(self.images), self.labels)
    loss.backward()
    self.optimizer.step()
    return loss.detach()

  def answer(self, word: str, argument: str):
    """Does what a line says; returns what to answer."""
    if word == "outputs":
      np.save(argument, self.forward().numpy())
      return argument
    if word == "losses":
      return [self.train().item() for _ in range(int(argument))]
    begun = time.perf_counter()
    {"forward": self.forward, "train": self.train}[word]()
    return time.perf_counter() - begun


def main(path: str, num_threads: int) -> None:
  """Answers lines until there are no more."""
  torch.set_num_threads(num_threads)
  torch.manual_seed(0)
  program = Program(path)
  about = {"torch": torch.__version__, "threads": torch.get_num_threads()}
  print(json.dumps(about), flush=True)
  for line in sys.stdin:
    word, _, argument = line.strip().partition(" ")
    print(json.dumps(program.answer(word, argument)), flush=True)


if __name__ == "__main__":
  main(sys.argv[1], int(sys.argv[2]))

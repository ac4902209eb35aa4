"""Answers as `benchmarks.torch_vit` does, without torch: from the same file, with our networks.

Read off timm's names, so it agrees with ours only if the weights were handed over whole and in
torch's layout. `BEND=1` in the environment bends one of them.
"""

import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.vit import ClassifierTask
from sbir.nn.vit import ViT
from sbir.optim import make_optimizer
from sbir.pretrained import convert_vit
from sbir.step import TrainState, make_train_step


def main(path, num_threads):
  found = np.load(path)
  about = json.loads(str(found["about"]))
  state = {name.removeprefix("net/"): found[name] for name in found if name.startswith("net/")}
  head = {"kernel": state.pop("head.weight").T, "bias": state.pop("head.bias")}
  heads, patch = about["network"]["num_heads"], about["network"]["patch"]
  encoder = convert_vit(state, "timm", num_heads=heads, what=path).params["encoder"]
  if os.environ.get("BEND"):
    encoder = jax.tree.map(lambda leaf: leaf * 1.01, encoder)
  model = ViT(about["network"]["width"], about["network"]["depth"], heads, patch)
  rates = {key: about[key] for key in ("learning_rate", "weight_decay")}
  optimizer = make_optimizer("adamw", steps=1000, **rates)
  params = jax.device_put({"encoder": encoder, "head": head})
  step = make_train_step(ClassifierTask(model), optimizer)
  state = TrainState(jnp.int32(0), params, optimizer.init(params), {}, jax.random.key(0))
  batch = {"image": found["image"], "label": found["label"]}
  print(json.dumps({"torch": "stand-in", "threads": int(num_threads)}), flush=True)
  for line in sys.stdin:
    word, _, argument = line.strip().partition(" ")
    answer = 0.1
    if word == "outputs":
      np.save(argument, model.apply({"params": params["encoder"]}, batch["image"]))
      answer = argument
    elif word == "losses":
      answer = []
      for _ in range(int(argument)):
        state, metrics = step(state, {}, batch)
        answer.append(float(metrics["loss"]))
    elif word not in ("forward", "train"):
      sys.exit(f"unknown: {word}")
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
  main(*sys.argv[1:])

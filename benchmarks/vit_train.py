"""Plain ViTs at 224 px, a whole training step with AdamW: Ti/16, S/16, S/8."""

from typing import Any

from benchmarks.options import Options


def run(options: Options) -> dict[str, Any]:
  """Returns images/s of each network, and of PyTorch's beside it if that is asked for."""
  import jax

  from benchmarks import torch_side, vit
  from benchmarks.steps import Training, Way, measure, parity

  ways, pairs, differences, losses = {}, {}, {}, {}
  with torch_side.programs(options) as start:
    for name, shape, dtype, task, batch in vit.each(options):
      training = Training(task, vit.make_optimizer(), batch)
      params = jax.device_get(training.state.params)
      first = [float(training()["loss"]) for _ in range(vit.STEPS_COMPARED)]
      losses.setdefault(shape.name, {})[dtype] = first[0]
      ways[name] = Way(training, shape.batch, training.flops, dtype)
      if options.compare and dtype == "float32":
        there = start(shape, task, params, batch)
        differences[name] = torch_side.difference(there.losses(vit.STEPS_COMPARED), first)
        ways[f"{name} torch"] = Way(there.train, shape.batch)
        pairs[name] = (name, f"{name} torch")
    return {
      "shapes": vit.described(options),
      **measure(ways, options, pairs),
      "parity": {name: parity(found) for name, found in losses.items()},
      "torch": torch_side.described(options, differences),
    }


def as_text(result: dict) -> str:
  """Returns the result in words."""
  from benchmarks import torch_side
  from benchmarks.steps import parity_lines, way_lines

  lines = ["vit_train: ViTs, forward, backward and AdamW", *way_lines(result)]
  return "\n".join(lines + parity_lines(result) + torch_side.lines(result))

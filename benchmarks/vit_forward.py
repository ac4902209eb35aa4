"""Plain ViTs at 224 px, forward: Ti/16, S/16, S/8."""

from typing import Any

from benchmarks.options import Options


def run(options: Options) -> dict[str, Any]:
  """Returns images/s of each network, and of PyTorch's beside it if that is asked for."""
  from benchmarks import torch_side, vit
  from benchmarks.steps import Way, measure

  ways, pairs, differences, outputs = {}, {}, {}, {}
  with torch_side.programs(options) as start:
    for name, shape, dtype, task, batch in vit.each(options):
      params, forward, call = _forward(task, batch)
      ways[name] = Way(call, shape.batch, forward, dtype)
      outputs.setdefault(shape.name, {})[dtype] = call()
      if options.compare and dtype == "float32":
        there = start(shape, task, params, batch)
        differences[name] = torch_side.difference(there.outputs(), outputs[shape.name][dtype])
        ways[f"{name} torch"] = Way(there.forward, shape.batch)
        pairs[name] = (name, f"{name} torch")
    return {
      "shapes": vit.described(options),
      **measure(ways, options, pairs),
      "parity": {name: _parity(found) for name, found in outputs.items()},
      "torch": torch_side.described(options, differences),
    }


def as_text(result: dict) -> str:
  """Returns the result in words."""
  from benchmarks import torch_side
  from benchmarks.steps import way_lines

  lines = ["vit_forward: ViTs without gradient", *way_lines(result)]
  lines += [
    f"  {name}: outputs in {dtype} are {difference:.1e} from float32's, relatively"
    for name, differences in result["parity"].items()
    for dtype, difference in differences.items()
  ]
  return "\n".join(lines + torch_side.lines(result))


def _forward(task: Any, batch: dict) -> tuple[Any, float, Any]:
  """Returns parameters, operations of the program, and what runs it."""
  import jax

  from benchmarks import flops

  params = jax.jit(lambda key: task.init(key, batch)[0])(jax.random.key(0))
  images = jax.device_put(batch["image"])
  apply = lambda params, images: task.model.apply({"params": params}, images)
  program = jax.jit(apply).lower(params["encoder"], images).compile()
  count = flops.of_function(apply, params["encoder"], images)
  return params, count, lambda: program(params["encoder"], images)


def _parity(outputs: dict[str, Any]) -> dict[str, float]:
  import numpy as np

  exact = np.asarray(outputs["float32"])
  size = np.linalg.norm(exact)
  return {
    dtype: float(np.linalg.norm(np.asarray(found) - exact) / size)
    for dtype, found in outputs.items()
    if dtype != "float32"
  }

"""The matrix products of plain ViTs' training steps, each alone: what XLA's kernels are worth."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.options import Options
from benchmarks.vit import Shape

CALLS = 10  # of a product in a turn: one takes a millisecond


class Product(NamedTuple):
  """A product of two arrays, and how many of its size a training step takes."""

  name: str
  spec: str  # as of einsum
  shapes: tuple[tuple[int, ...], tuple[int, ...]]
  count: int

  @property
  def flops(self) -> float:
    """How many operations one takes."""
    given = self.spec.split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for letters, shape in zip(given, self.shapes, strict=True):
      sizes |= dict(zip(letters, shape, strict=True))
    return 2.0 * math.prod(sizes.values())


def products(shape: Shape) -> list[Product]:
  """Returns those of the blocks, forward and backward: of tokens as rows, and of each head."""
  from sbir.nn.vit import SIZES

  width, depth, num_heads = SIZES[shape.size]
  num_tokens = (shape.image_size // shape.patch) ** 2 + 1
  rows, wide = shape.batch * num_tokens, 4 * width
  layers = {"qkv": (width, 3 * width), "out": (width, width)}
  layers |= {"fc1": (width, wide), "fc2": (wide, width)}
  found = []
  for layer, (i, o) in layers.items():
    found.append(Product(layer, "ri,io->ro", ((rows, i), (i, o)), depth))
    found.append(Product(f"{layer}: input's gradient", "ro,io->ri", ((rows, o), (i, o)), depth))
    found.append(Product(f"{layer}: weights' gradient", "ri,ro->io", ((rows, i), (rows, o)), depth))
  head = (shape.batch, num_heads, num_tokens, width // num_heads)
  scores = (shape.batch, num_heads, num_tokens, num_tokens)
  twice = 2 * depth  # each serves once forward and once backward, or for two gradients
  found.append(Product("scores; mixing's gradient", "bhqe,bhke->bhqk", (head, head), twice))
  found.append(Product("mixing; queries' gradient", "bhqk,bhke->bhqe", (scores, head), twice))
  found.append(Product("keys', values' gradients", "bhqk,bhqe->bhke", (scores, head), twice))
  return found


def run(options: Options) -> dict[str, Any]:
  """Returns the seconds of each product, and of PyTorch's beside it if that is asked for."""
  from benchmarks import torch_side, vit

  found, differences = {}, {}
  with torch_side.multiplier(options) as there:
    for shape in vit.shapes(options):
      name = f"{shape.name} b{shape.batch}"
      found[name], differences[name] = _measured(shape, there, options)
    return {"products": found, "torch": torch_side.described(options, differences)}


def as_text(result: dict) -> str:
  """Returns the result in words."""
  lines = ["vit_products: the matrix products of a training step, each alone, float32"]
  for name, rows in result["products"].items():
    lines += [f" {name}", *_table(rows), _total(rows)]
  if result["torch"] is not None:
    torch = result["torch"]
    lines.append(f"  torch: PyTorch {torch['version']} eager, {torch['threads']} threads")
  return "\n".join(lines)


def _measured(
  shape: Shape, there: Any, options: Options
) -> tuple[dict[str, dict[str, Any]], float]:
  """Returns what each product of a network takes, and how far torch's results are from ours."""
  from benchmarks import torch_side
  from benchmarks.timing import interleaved

  all_of_it, ways, apart = products(shape), {}, 0.0
  for product in all_of_it:
    call, size = _ours(product)
    ways[product.name] = call
    if there is not None:
      apart = max(apart, torch_side.difference(there.size(product), size))
      ways[f"{product.name} torch"] = lambda product=product: there.multiply(product, CALLS)
  timings = interleaved(ways, options.repeats)
  per_call = lambda name: [seconds / CALLS for seconds in timings[name].seconds]
  rows = {}
  for product in all_of_it:
    seconds = {"seconds": per_call(product.name)}
    if there is not None:
      seconds["torch_seconds"] = per_call(f"{product.name} torch")
    rows[product.name] = {"spec": product.spec, "shapes": product.shapes, "count": product.count}
    rows[product.name] |= {"gflop": product.flops / 1e9, **seconds}
  return rows, apart


def _ours(product: Product) -> tuple[Callable[[], Any], float]:
  """Returns what does it CALLS times, and the sum of its result's squares."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  rng = np.random.default_rng(0)  # benchmarks.torch_products draws the same
  arrays = [jax.device_put(rng.standard_normal(s, np.float32)) for s in product.shapes]
  multiply = jax.jit(lambda one, other: jnp.einsum(product.spec, one, other))

  def call() -> Any:
    for _ in range(CALLS):
      result = multiply(*arrays)
    return result

  return call, float(np.square(np.asarray(multiply(*arrays), np.float64)).sum())


def _table(rows: dict[str, dict[str, Any]]) -> list[str]:
  """Returns a line for each product."""
  from statistics import median

  width, lines = max(map(len, rows)), []
  for name, row in rows.items():
    ours = median(row["seconds"])
    line = f"  {row['count']:2d} x {name:<{width}} {1e3 * ours:6.2f} ms, {row['gflop'] / ours:3.0f}"
    line += " GFLOP/s"
    if "torch_seconds" in row:
      line += f"; torch {1e3 * median(row['torch_seconds']):6.2f} ms"
    lines.append(line)
  return lines


def _total(rows: dict[str, dict[str, Any]]) -> str:
  """Returns a line for all products of a step."""
  from statistics import median

  total = lambda key: sum(row["count"] * median(row[key]) for row in rows.values())
  line = f"  all of a step: {total('seconds'):.3f} s"
  if all("torch_seconds" in row for row in rows.values()):
    line += f"; torch {total('torch_seconds'):.3f} s"
  return line

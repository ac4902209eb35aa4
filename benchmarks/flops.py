"""How many floating-point operations a program asks for, and how many a second this device does."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.options import Options
from benchmarks.timing import Timing

SIDES = (2048, 4096)  # of square matrices; the faster of the two is the peak


def of_program(compiled: Any) -> float:
  """Returns the operations of a compiled program, by XLA's cost analysis.

  A loop's body is counted once, and a library's kernel that XLA only calls (cuDNN's attention, on a
  GPU in bfloat16) not at all: the share of the peak is then too low, never too high.
  """
  costs = compiled.cost_analysis()
  costs = costs[0] if isinstance(costs, list | tuple) else costs
  return float((costs or {}).get("flops", 0.0))


def matmuls(dtypes: tuple[str, ...], options: Options) -> dict[str, Callable[[], Any]]:
  """Returns the matrix products to time beside the ways, by name."""
  import jax
  import jax.numpy as jnp

  multiply = jax.jit(jnp.matmul)
  products = {}
  for dtype in dtypes:
    for side in (64,) if options.rehearse else SIDES:
      one, other = (
        jax.random.normal(jax.random.key(seed), (side, side), jnp.dtype(dtype)) for seed in (0, 1)
      )
      products[f"matmul {side} {dtype}"] = lambda one=one, other=other: multiply(one, other)
  return products


def peaks(timings: Mapping[str, Timing]) -> dict[str, float]:
  """Returns {dtype: operations a second} of the fastest matrix product of each, by its median."""
  found: dict[str, float] = {}
  for name, timing in timings.items():
    if name.startswith("matmul "):
      _, side, dtype = name.split()
      found[dtype] = max(found.get(dtype, 0.0), 2 * int(side) ** 3 / timing.median)
  return found

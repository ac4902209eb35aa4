"""How many floating-point operations a program asks for, and how many a second this device does."""

from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

from benchmarks.options import Options, on_accelerator
from benchmarks.timing import Timing


def of_function(function: Callable[..., Any], *arguments: Any) -> float:
  """Returns the operations of a function of these arguments, by XLA's cost analysis.

  As it is written, before it is compiled, and for this machine's CPU: of a GPU's program XLA counts
  no library's kernels, which there are nearly all of it. Attention is counted as its two products,
  fused or not. A loop's body is counted once. What is jitted already must be for the CPU (`cpu`)
  and must not be run as well.
  """
  import jax

  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
  with jax.default_device(cpu()), mock.patch("sbir.nn.attention._fits_cudnn", lambda *_: False):
    return of_program(jax.jit(lambda *a: function(*a)).lower(*shapes))


def of_program(lowered: Any) -> float:
  """Returns the operations of a program for the CPU that is lowered, not compiled."""
  return float(lowered.cost_analysis()["flops"])


def cpu() -> Any:
  """Returns the device that operations are counted for."""
  import jax

  return jax.local_devices(backend="cpu")[0]


def sides(options: Options) -> tuple[int, ...]:
  """Returns the sides of the square matrices; the fastest product of them is the peak."""
  if options.rehearse:
    return (64,)
  return (4096, 8192) if on_accelerator() else (2048, 4096)


def matmuls(dtypes: tuple[str, ...], options: Options) -> dict[str, Callable[[], Any]]:
  """Returns the matrix products to time beside the ways, by name."""
  import jax
  import jax.numpy as jnp

  multiply = jax.jit(jnp.matmul)
  products = {}
  for dtype in dtypes:
    for side in sides(options):
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

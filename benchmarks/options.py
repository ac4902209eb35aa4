"""What a benchmark is told: how often, how large, against what."""

from pathlib import Path
from typing import NamedTuple

TORCH_PYTHON = Path(__file__).resolve().parent.parent / ".venv-bench" / "bin" / "python"


class Options(NamedTuple):
  """One benchmark's options; the defaults are those of the command line."""

  repeats: int = 5
  batch: int = 0  # images in a step; 0: the benchmark's own, by device
  rehearse: bool = False  # shapes so small that all is run in no time: the figures mean nothing
  compare: str = ""  # "torch"
  torch_python: Path = TORCH_PYTHON


def on_accelerator() -> bool:
  """Returns whether jax computes on something other than the CPU."""
  import jax

  return jax.default_backend() != "cpu"


def compute_dtypes(options: Options) -> tuple[str, ...]:
  """Returns what to compute in: float32, and on an accelerator (or to rehearse that) bfloat16."""
  return ("float32", "bfloat16") if on_accelerator() or options.rehearse else ("float32",)


def batch_size(options: Options, *, cpu: int, accelerator: int) -> int:
  """Returns how many images a step takes."""
  if options.batch or options.rehearse:
    return options.batch or 2
  return accelerator if on_accelerator() else cpu

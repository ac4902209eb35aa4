"""PyTorch's side of the vit benchmarks: programs that have torch, asked over pipes."""

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import num_cpus
from benchmarks.options import Options, on_accelerator
from benchmarks.vit import LEARNING_RATE, NUM_CLASSES, SAME_WITHIN, WEIGHT_DECAY, Shape

HERE = Path(__file__).resolve().parent


class Program:
  """A process that has torch. Its waits are those of the work asked for."""

  def __init__(self, python: Path, script: str, *arguments: str):
    self._script = script
    command = [str(python), str(HERE / script), *arguments, str(num_cpus())]
    self._process = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    self.about = self._answer()

  def ask(self, line: str) -> Any:
    """Returns its answer to a line."""
    print(line, file=self._process.stdin, flush=True)
    return self._answer()

  def stop(self) -> None:
    """Ends the process."""
    self._process.stdin.close()
    self._process.stdout.close()
    self._process.wait()

  def _answer(self) -> Any:
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError(f"{self._script} ended with status {self._process.wait()}; see above")
    return json.loads(line)


class Network(Program):
  """One network: `torch_vit`, started with our weights."""

  def __init__(self, python: Path, weights: Path):
    self._folder = weights.parent
    super().__init__(python, "torch_vit.py", str(weights))

  def outputs(self) -> Any:
    """Returns the tokens it makes of the batch."""
    import numpy as np

    return np.load(self.ask(f"outputs {self._folder / 'outputs.npy'}"), allow_pickle=False)

  def losses(self, num: int) -> list[float]:
    """Returns the losses of the first steps."""
    return self.ask(f"losses {num}")

  def forward(self) -> None:
    """Makes the tokens of the batch once."""
    self.ask("forward")

  def train(self) -> None:
    """Does one training step."""
    self.ask("train")


class Multiplier(Program):
  """Matrix products: `torch_products`."""

  def __init__(self, python: Path):
    super().__init__(python, "torch_products.py")

  def multiply(self, product: Any, times: int) -> float | None:
    """Does a product (its `spec` and `shapes`) so many times."""
    return self.ask(json.dumps({"spec": product.spec, "shapes": product.shapes, "times": times}))

  def size(self, product: Any) -> float:
    """Returns the sum of the result's squares."""
    return self.multiply(product, 1)


@contextlib.contextmanager
def programs(options: Options) -> Iterator[Callable[..., Network]]:
  """Yields what starts a `Network` of (shape, task, parameters, batch), all stopped at the end.

  Raises: UserError if torch is asked for and cannot be had.
  """
  if options.compare:
    check(options)
  with contextlib.ExitStack() as stack:

    def start(shape: Shape, task: Any, params: Any, batch: dict) -> Network:
      folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
      _write(folder / "weights.npz", shape, task.model, params, batch)
      program = Network(options.torch_python, folder / "weights.npz")
      stack.callback(program.stop)
      return program

    yield start


@contextlib.contextmanager
def multiplier(options: Options) -> Iterator[Multiplier | None]:
  """Yields what multiplies in torch, None if that is not asked for. Raises: UserError."""
  if not options.compare:
    yield None
    return
  check(options)
  program = Multiplier(options.torch_python)
  try:
    yield program
  finally:
    program.stop()


def check(options: Options) -> None:
  """Raises UserError unless there is a Python with torch, and jax too computes on the CPU."""
  from sbir.types import UserError

  if on_accelerator():
    raise UserError("--compare torch compares on the CPU; set JAX_PLATFORMS=cpu")
  if version(options.torch_python) is None:
    raise UserError(
      f"--torch-python {options.torch_python} is no Python that has torch; make one with "
      "./launch.sh bench"
    )


def version(python: Path) -> str | None:
  """Returns the version of torch that a Python has."""
  command = [str(python), "-c", "import torch; print(torch.__version__)"]
  try:
    done = subprocess.run(command, capture_output=True, text=True)
  except OSError:
    return None
  return done.stdout.strip() if done.returncode == 0 else None


def difference(theirs: Any, ours: Any) -> float:
  """Returns the largest difference, as a share of the largest number; AssertionError if it is not
  that of rounding: then the two would not do the same work."""
  import numpy as np

  theirs, ours = np.asarray(theirs), np.asarray(ours)
  found = float(np.abs(theirs - ours).max() / np.abs(ours).max())
  if not found < SAME_WITHIN:
    raise AssertionError(f"torch computes something else: {found:.1e} apart, not {SAME_WITHIN:g}")
  return found


def described(options: Options, differences: dict[str, float]) -> dict[str, Any] | None:
  """Returns what the comparison was with, None where there was none."""
  if not options.compare:
    return None
  return {
    "version": version(options.torch_python),
    "threads": num_cpus(),
    "differences": differences,
  }


def lines(result: dict) -> list[str]:
  """Returns the comparison in words, with the target."""
  from benchmarks.timing import spread

  torch = result["torch"]
  if torch is None:
    return []
  head = f"  against PyTorch {torch['version']} eager, {torch['threads']} threads (target: 1.0):"
  return [head] + [
    f"    {name}: {spread(ratio, 2)} times, results within {torch['differences'][name]:.0e}"
    for name, ratio in result["times_faster"].items()
  ]


def _write(path: Path, shape: Shape, model: Any, params: Any, batch: dict) -> None:
  import numpy as np

  from sbir.timm_names import to_timm

  network = {
    "width": model.width,
    "depth": model.depth,
    "num_heads": model.num_heads,
    "patch": shape.patch,
    "num_tokens": params["encoder"]["pos_embed"].shape[1],
    "classes": NUM_CLASSES,
  }
  about = {"network": network, "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
  state = to_timm(params["encoder"])
  state["head.weight"] = np.asarray(params["head"]["kernel"]).T
  state["head.bias"] = np.asarray(params["head"]["bias"])
  weights = {f"net/{name}": value for name, value in state.items()}
  np.savez(path, about=json.dumps(about), **batch, **weights)

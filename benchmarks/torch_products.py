"""Matrix products in PyTorch eager: a program of its own, run by a Python that has torch.

It does what is written to it, a line of JSON each: {"spec", "shapes", "times"}, a product of arrays
of these shapes, so many times. It answers with the sum of the result's squares if it is to do it
once, else with null, so that only products are timed; the first answer says which torch it is.
"""

import functools
import json
import sys

import numpy as np
import torch


@functools.cache
def factors(shapes: tuple[tuple[int, ...], ...]) -> list[torch.Tensor]:
  """Returns arrays of these shapes, the same that `benchmarks.vit_products` multiplies."""
  rng = np.random.default_rng(0)
  return [torch.from_numpy(rng.standard_normal(shape, np.float32)) for shape in shapes]


def answer(spec: str, shapes: list[list[int]], times: int) -> float | None:
  """Does what a line says; returns what to answer."""
  arrays = factors(tuple(map(tuple, shapes)))
  with torch.inference_mode():
    for _ in range(times):
      result = torch.einsum(spec, *arrays)
    return result.double().square().sum().item() if times == 1 else None


def main(num_threads: int) -> None:
  """Answers lines until there are no more."""
  torch.set_num_threads(num_threads)
  about = {"torch": torch.__version__, "threads": torch.get_num_threads()}
  print(json.dumps(about), flush=True)
  for line in sys.stdin:
    print(json.dumps(answer(**json.loads(line))), flush=True)


if __name__ == "__main__":
  main(int(sys.argv[1]))

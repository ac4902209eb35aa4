"""XMRD's angle loss, forward and backward, against the direct form of differences: time and memory.

The direct form is our own writing of what is published: all differences of points, made unit
vectors, and their products at each corner. Every turn of either is a process of its own, so that
the peak is that of one form: it warms up once, and the second run is timed.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.options import Options

NUM_POINTS, WIDTH = 512, 768
NUM_REHEARSED = 12
FORMS = ("ours", "direct")
TARGETS = {"times_faster": 20.0, "memory": 0.1}
SAME_WITHIN = 1e-5


def run(options: Options) -> dict[str, Any]:
  """Returns seconds and peak memory of both, after checking that both give the same."""
  from benchmarks.timing import rate, times_faster, timing

  num = NUM_REHEARSED if options.rehearse else NUM_POINTS
  turns: dict[str, list[dict]] = {form: [] for form in FORMS}
  for _ in range(options.repeats):
    for form in FORMS:
      turns[form].append(_in_fresh_process(form, num))
  apart = _check_same(*(turns[form][0] for form in FORMS))
  timings = {form: timing([turn["seconds"] for turn in turns[form]]) for form in FORMS}
  peaks = {form: [turn["peak_gb"] for turn in turns[form]] for form in FORMS}
  empty = [turn["empty_gb"] for form in FORMS for turn in turns[form]]
  return {
    "points": num,
    "width": WIDTH,
    "apart": apart,
    "seconds": {form: timings[form].seconds for form in FORMS},
    "per_second": {form: rate(timings[form], 1) for form in FORMS},
    "times_faster": times_faster(timings["ours"], timings["direct"]),
    "peak_gb": {form: max(peaks[form]) for form in FORMS},
    "empty_gb": max(empty),
    "memory": max(peaks["ours"]) / max(peaks["direct"]),
    "targets": TARGETS,
  }


def as_text(result: dict) -> str:
  """Returns the result in words, with the targets."""
  import statistics

  from benchmarks.timing import spread

  goals, peaks = result["targets"], result["peak_gb"]
  seconds = {form: statistics.median(taken) for form, taken in result["seconds"].items()}
  return (
    f"xmrd_angle: {result['points']} points of width {result['width']}, forward and backward, "
    "fresh processes\n"
    f"  {seconds['ours']:.3f} s against {seconds['direct']:.3f} s of the direct form: "
    f"{spread(result['times_faster'], 1)} times (target: {goals['times_faster']:.0f})\n"
    f"  peak memory {peaks['ours']:.2f} GB against {peaks['direct']:.2f} GB: "
    f"{result['memory']:.3f} of it (target: {goals['memory']:g}); with jax loaded and nothing done "
    f"{result['empty_gb']:.2f} GB\n"
    f"  losses and gradients are {result['apart']:.0e} apart"
  )


def _in_fresh_process(form: str, num: int) -> dict:
  command = [sys.executable, "-m", "benchmarks.xmrd_angle", form, str(num)]
  root = Path(__file__).resolve().parent.parent
  done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
  return json.loads(done.stdout)


def _measure(form: str, num: int) -> dict[str, Any]:
  import time

  import jax
  import numpy as np

  from benchmarks.memory import peak_gb
  from xmodal.losses import xmrd_angle

  rng = np.random.default_rng(0)
  points = [rng.normal(size=(num, WIDTH)).astype(np.float32) for _ in range(2)]
  step = jax.jit(jax.value_and_grad({"ours": xmrd_angle, "direct": direct_form}[form]))
  points = jax.device_put(points)
  empty = peak_gb()
  jax.block_until_ready(step(*points))
  begun = time.perf_counter()
  loss, gradient = jax.block_until_ready(step(*points))
  seconds = time.perf_counter() - begun
  return {
    "seconds": seconds,
    "peak_gb": peak_gb(),
    "empty_gb": empty,
    "loss": float(loss),
    "gradient": np.asarray(gradient)[:16].tolist(),
  }


def direct_form(student: Any, teacher: Any) -> Any:
  """Returns the loss from the differences of all points: n x n x d, and n x n x n of products."""
  import jax
  import jax.numpy as jnp

  from sbir.nn.losses import smooth_l1

  def cosines(points):
    arms = points[:, None] - points[None]
    squared = jnp.sum(arms**2, axis=-1, keepdims=True)
    lengths = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
    units = jnp.where(squared > 0, arms / lengths, 0.0)
    return jnp.einsum("ijd,ikd->ijk", units, units)

  return jnp.mean(smooth_l1(cosines(student) - jax.lax.stop_gradient(cosines(teacher))))


def _check_same(ours: dict, direct: dict) -> float:
  """Returns how far the two are apart, as a share of the loss or of the largest gradient."""
  import numpy as np

  one, other = np.array(ours["gradient"]), np.array(direct["gradient"])
  gradients_apart = float(np.abs(one - other).max() / np.abs(other).max())
  apart = max(abs(ours["loss"] / direct["loss"] - 1), gradients_apart)
  if not apart < SAME_WITHIN:
    raise AssertionError(f"the two forms are {apart:.1e} apart, relatively")
  return apart


if __name__ == "__main__":
  print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]))))

"""Programs that take images, timed in turns with matrix products: images/s, share of the peak."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks import flops
from benchmarks.options import Options, compute_dtypes, on_accelerator
from benchmarks.timing import interleaved, rate, spread, times_faster
from sbir import host_memory

STEPS_OF_A_TURN = 10
NO_PAIRS: Mapping[str, tuple[str, str]] = {}


class Way(NamedTuple):
  """One way of doing the work."""

  call: Callable[[], Any]
  images: int
  flops: float = 0.0  # 0: unknown
  dtype: str = "float32"


class Training:
  """A training step that goes on from its own result, as a run does; `metrics` are the newest."""

  def __init__(self, task: Any, optimizer: Any, batch: Mapping[str, Any], *, frozen: Any = None):
    import jax

    from sbir.mesh import make_mesh
    from sbir.step import init_state, make_train_step

    self._batch = jax.device_put(dict(batch))
    self._frozen = jax.device_put({} if frozen is None else frozen)
    make = jax.jit(lambda key, batch: init_state(task, optimizer, key, batch))
    self.state = make(jax.random.key(0), self._batch)
    arguments = self.state, self._frozen, self._batch
    lowered = make_train_step(task, optimizer).lower(*arguments)
    if on_accelerator():
      counted = make_train_step(task, optimizer, make_mesh(devices=[flops.cpu()]))
      self.flops = flops.of_function(counted, *arguments)
    else:
      self.flops = flops.of_program(lowered)
    self._step = lowered.compile()
    self.metrics: dict[str, Any] = {}

  def __call__(self, **changed: Any) -> Any:
    """Does one step, of the batch with these entries instead."""
    self.state, self.metrics = self._step(self.state, self._frozen, {**self._batch, **changed})
    return self.metrics

  def first_loss(self) -> float:
    """Does one step; returns the loss before it."""
    host_memory.make_room()  # `interleaved` does it before all others
    return float(self()["loss"])


def measure(
  ways: Mapping[str, Way], options: Options, pairs: Mapping[str, tuple[str, str]] = NO_PAIRS
) -> dict[str, Any]:
  """Returns what each way does, and for each pair (fast, slow) how many times faster the first is.

  The peak is measured in the same turns. On an accelerator a turn is several steps, for there the
  host prepares a step while the one before it runs, as in a training.
  """
  products = flops.matmuls(compute_dtypes(options), options)
  timings = interleaved(
    {**products, **{name: way.call for name, way in ways.items()}},
    options.repeats,
    STEPS_OF_A_TURN if on_accelerator() else 1,
  )
  peaks = flops.peaks(timings)
  return {
    "matmul_gflops": {dtype: peak / 1e9 for dtype, peak in peaks.items()},
    "ways": {
      name: {
        "images": way.images,
        "dtype": way.dtype,
        "seconds": timings[name].seconds,
        "images_per_second": rate(timings[name], way.images),
        "gflop": way.flops / 1e9,
        "share_of_peak": way.flops / timings[name].median / peaks[way.dtype] or None,
      }
      for name, way in ways.items()
    },
    "times_faster": {
      name: times_faster(timings[fast], timings[slow]) for name, (fast, slow) in pairs.items()
    },
  }


def way_lines(result: Mapping[str, Any]) -> list[str]:
  """Returns a line for each way, and one for the peak."""
  width = max(map(len, result["ways"]))
  lines = []
  for name, way in result["ways"].items():
    share = way["share_of_peak"]
    tail = "" if share is None else f", {way['gflop']:.0f} GFLOP, {100 * share:.0f} % of the peak"
    lines.append(f"  {name:<{width}}  {spread(way['images_per_second'])} images/s{tail}")
  peaks = ", ".join(f"{peak:.0f} in {dtype}" for dtype, peak in result["matmul_gflops"].items())
  return [*lines, f"  peak: matrix products at {peaks} GFLOP/s"]


def faster_line(result: Mapping[str, Any], name: str, target: float | None = None) -> str:
  """Returns a line for a pair of `measure`, with the target beside it."""
  goal = "" if target is None else f" (target: {target:g})"
  return f"  {name.replace('_', ' ')}: {spread(result['times_faster'][name], 2)} times{goal}"


def parity(losses: Mapping[str, float]) -> dict[str, float]:
  """Returns how far the loss in each other dtype is from that in float32, relatively."""
  exact = losses["float32"]
  return {d: abs(loss - exact) / abs(exact) for d, loss in losses.items() if d != "float32"}


def parity_lines(result: Mapping[str, Any]) -> list[str]:
  """Returns a line for each network's loss in bfloat16."""
  return [
    f"  {name}: the loss in {dtype} is {difference:.1e} from float32's, relatively (target: 1e-2)"
    for name, differences in result["parity"].items()
    for dtype, difference in differences.items()
  ]

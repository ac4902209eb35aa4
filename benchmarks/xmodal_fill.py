"""What storing a teacher's vectors costs, in passes of the teacher over the same pairs."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.options import Options

BATCHES = 2


def run(shape: Any, teacher_params: Any, options: Options) -> dict[str, Any]:
  """Returns the seconds of both, in turns. Reading the images is no part: they are remembered.

  Where what reads data sets is not installed, {"missing": why}.
  """
  from benchmarks.timing import interleaved

  try:
    source = _source(shape)
    from sbir.mesh import make_mesh
    from xmodal.teacher_cache import TeacherCache
  except ImportError as error:
    return {"missing": str(error)}
  from benchmarks import xmodal
  from xmodal.views import Recipe

  model, mesh = xmodal.make_teacher(shape, "float32"), make_mesh()
  with tempfile.TemporaryDirectory() as folder:
    turns = iter(range(10**6))

    def fill() -> None:
      root = Path(folder) / str(next(turns))
      width = model.photo_encoder.width
      words = {"num_views": 1, "seed": 0, "teacher": {}, "width": width}
      cache = TeacherCache(root, source, Recipe(), **words)
      cache.fill(model, teacher_params, batch_size=shape.batch, mesh=mesh, desc="filling")

    ways = {"fill": fill, "pass": _plain_pass(model, teacher_params, source, shape.batch)}
    timings = interleaved(ways, options.repeats)
  ratios = [a / b for a, b in zip(timings["fill"].seconds, timings["pass"].seconds, strict=True)]
  return {
    "pairs": BATCHES * shape.batch,
    "fill_seconds": timings["fill"].seconds,
    "pass_seconds": timings["pass"].seconds,
    "passes": _spread(ratios),
  }


def as_text(result: dict, target: float) -> str:
  """Returns the result in words, with the target."""
  from benchmarks.timing import spread

  if "missing" in result:
    return f"  filling the cache: not measured ({result['missing']})"
  return (
    f"  filling the cache with {result['pairs']} pairs: {spread(result['passes'], 2)} passes "
    f"of the teacher over them (target: at most {target:g})"
  )


def _source(shape: Any) -> Any:
  from sbir.data.resized import resized
  from sbir.data.synthetic import open_synthetic

  num_pairs = BATCHES * shape.batch
  drawn = open_synthetic("train", num_train=num_pairs, num_sketches=1, size=shape.image_size)
  return resized(drawn, shape.image_size, cache="memory")


def _plain_pass(model: Any, params: Any, source: Any, batch: int) -> Callable[[], Any]:
  """Returns what runs the teacher once over all pairs, batch by batch, and fetches its vectors."""
  import jax

  from sbir.data.records import photo_indices, sketch_indices
  from xmodal.views import Recipe, plain_view

  view = lambda images: plain_view(images, Recipe())
  apply = jax.jit(
    lambda params, photo, sketch: model.apply({"params": params}, view(photo), view(sketch))
  )
  photos, sketches = photo_indices(source), sketch_indices(source)
  on_device = jax.device_put(params)

  def one_pass() -> list[Any]:
    found = []
    for start in range(0, len(photos), batch):
      rows = slice(start, start + batch)
      images = source.images(photos[rows]), source.images(sketches[rows])
      found.append(jax.device_get(apply(on_device, *images)))
    return found

  return one_pass


def _spread(ratios: list[float]) -> dict[str, float]:
  import statistics

  return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}

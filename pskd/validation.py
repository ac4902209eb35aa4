"""How well a network does during training: on seen classes held out of it, never on test."""

from collections.abc import Callable

from jax.sharding import Mesh

from pskd.embedding import Embedder
from pskd.tasks import StudentTask, TeacherTask
from sbir.data.resized import ResizedSource
from sbir.retrieval.presets import evaluate_categories
from sbir.types import Params

METRIC = "map@all[voc]"
CHOOSE_BY = f"validation_{METRIC}"


def make_scorer(
  task: TeacherTask | StudentTask, source: ResizedSource, batch_size: int, mesh: Mesh
) -> Callable[[Params, Params], dict[str, float]]:
  """Returns `evaluate(params, frozen) -> {"validation_map@all[voc]": ...}`: the sketches of the
  validation classes against their photos."""
  embedder = Embedder(task.model, task.recipe, mesh)

  def evaluate(params: Params, frozen: Params) -> dict[str, float]:
    sketch, photo = (embedder.embed(params, source, m, batch_size) for m in ("sketch", "photo"))
    report = evaluate_categories(
      sketch.vectors, photo.vectors, sketch.label, photo.label, presets=()
    )
    return {CHOOSE_BY: report.metrics[METRIC]}

  return evaluate

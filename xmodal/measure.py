"""Embeds the test split with two encoders and measures retrieval: numbers, lists and pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float
from ml_collections import ConfigDict

from sbir import checkpoint, plots, run_folder
from sbir.data.pipeline import ResizedSource, eval_batches
from sbir.data.records import fingerprint, photo_indices, sketch_indices
from sbir.embed import embed_images
from sbir.instances import InstanceReport, best_typical_worst, evaluate_instances
from sbir.mesh import make_mesh, put_replicated
from sbir.nn.losses import l2_normalise
from sbir.report import save_report
from sbir.types import Params, UserError
from xmodal.checks import check_evaluation
from xmodal.fusion import Student
from xmodal.stages import describe, make_student, open_split, read_run
from xmodal.views import Recipe, plain_view


def evaluate_encoders(config: ConfigDict, workdir: str | Path) -> InstanceReport:
  """Returns the report of `config.photo` and `config.sketch`; leaves all files in `workdir`.

  Raises: UserError if a run folder is missing, of another kind, or the two do not belong together.
  """
  check_evaluation(config)
  run_folder.check(workdir, config)
  encoders = {name: load_encoder(config[name], name) for name in ("photo", "sketch")}
  source = _test_split(config, encoders)
  mesh = make_mesh(**config.mesh)
  embedded = {
    name: encoder.embed(source, batch_size=config.batch_size, mesh=mesh)
    for name, encoder in encoders.items()
  }
  report = measure(source, embedded, protocol=config.protocol, seed=config.seed)
  run_folder.open_run(workdir, config)
  save_report(report, workdir, about=about(config, source))
  draw(report, source, workdir, rows=config.grid_rows)
  return report


class Encoder:
  """One student (or one side of the baseline) and its parameters, ready to embed images."""

  def __init__(self, modality: str, config: ConfigDict, model: Student, params: Params):
    self.modality, self.config = modality, config
    self.model, self.params = model, params

  def embed(
    self, source: ResizedSource, *, batch_size: int, mesh: Mesh
  ) -> Float[np.ndarray, "n d"]:
    """Returns the unit vectors of all images of the modality, in the source's order."""
    recipe, params = Recipe(**self.config.augment), put_replicated(self.params, mesh)
    apply = jax.jit(
      lambda params, images: l2_normalise(
        self.model.apply({"params": params}, plain_view(images, recipe))
      )
    )
    indices = (photo_indices if self.modality == "photo" else sketch_indices)(source)
    batches = eval_batches(
      source, indices, image_size=source.image_size, batch_size=min(batch_size, len(indices))
    )
    desc = {"photo": "embed photos", "sketch": "embed sketches"}[self.modality]
    return embed_images(lambda x: apply(params, x), batches, indices, mesh=mesh, desc=desc)

  def untrained(self, seed: int) -> "Encoder":
    """Returns the same network with fresh random weights: what it finds without any training."""
    return Encoder(self.modality, self.config, self.model, _init(self.model, self.config, seed))


def load_encoder(workdir: str, modality: str) -> Encoder:
  """Returns the encoder of `modality` from a student's or the baseline's run folder.

  Raises: UserError if the folder is missing, or is a teacher's or the other modality's.
  """
  config = read_run(modality, workdir)
  is_student = config.stage == "student" and config.modality == modality
  if not is_student and config.stage != "baseline":
    raise UserError(
      f"{modality}={workdir} is the run folder of a {describe(config)}, expected a {modality} "
      f"student's; give the --workdir of xmodal.train_{modality}_student"
    )
  saved = checkpoint.restore_params(workdir)
  params = saved[modality] if config.stage == "baseline" else saved
  embed_dim = params["head"]["kernel"].shape[1]
  model = make_student(config, embed_dim)
  expected = jax.eval_shape(lambda: _init(model, config, 0))
  checkpoint.check_shapes(params, expected, workdir)
  return Encoder(modality, config, model, params)


def measure(
  source: ResizedSource,
  embedded: Mapping[str, Float[np.ndarray, "n d"]],
  *,
  protocol: str = "full",
  seed: int = 0,
) -> InstanceReport:
  """Returns how often the sketches of `source` find their photo, from {"photo", "sketch"} vectors
  in the source's order."""
  photos = [source.records[i] for i in photo_indices(source)]
  sketches = [source.records[i] for i in sketch_indices(source)]
  return evaluate_instances(
    embedded["sketch"],
    embedded["photo"],
    [record.instance for record in sketches],
    [record.instance for record in photos],
    protocol=protocol,
    query_names=[record.key for record in sketches],
    gallery_category=[record.category for record in photos],
    seed=seed,
  )


def about(config: Mapping[str, Any], source: ResizedSource) -> dict[str, str]:
  """Returns what a reader must know of where the figures come from."""
  return {
    "data": f"{config['data']['name']} ({config['data']['source']})",
    "split": f"test, SHA-256 {fingerprint(source.records)}",
  }


def draw(report: InstanceReport, source: ResizedSource, workdir: str | Path, *, rows: int) -> Path:
  """Writes grid.png and ranks.png into `workdir`; returns the path of the grid."""
  photo_of, sketch_of = photo_indices(source), sketch_indices(source)
  picked = best_typical_worst(report.ranks, rows)
  nearest = [[row for row in report.nearest_rows[i] if row >= 0] for i in picked]
  targets = report.target_rows[picked]
  places = [
    row.index(target) if target in row else None
    for row, target in zip(nearest, targets, strict=True)
  ]
  plots.rank_histogram(Path(workdir) / "ranks.png", report.ranks, report.gallery)
  return plots.retrieval_grid(
    Path(workdir) / "grid.png",
    [source.image(sketch_of[report.query_rows[i]]) for i in picked],
    [[source.image(photo_of[row]) for row in found] for found in nearest],
    places,
    ranks=report.ranks[picked],
    gallery_size=report.gallery,
    right=[source.image(photo_of[target]) for target in targets],
    title=f"Acc@1 {report.metrics['acc@1']:.3f}, Acc@10 {report.metrics['acc@10']:.3f}",
  )


def _init(model: Student, config: ConfigDict, seed: int) -> Params:
  images = jax.numpy.zeros((1, config.image_size, config.image_size, 3))
  return model.init(jax.random.key(seed), images)["params"]


def _test_split(config: ConfigDict, encoders: Mapping[str, Encoder]) -> ResizedSource:
  """Returns the test split with images made as both encoders have seen them in training."""
  (one, photo), (other, _) = (
    ((e.config.stage, e.model.embed_dim, e.config.image_size, e.config.data.fit), e.config)
    for e in (encoders["photo"], encoders["sketch"])
  )
  if one != other:
    raise UserError(
      f"photo={config.photo} and sketch={config.sketch} do not belong together: (stage, width, "
      f"image size, fit) {one} and {other}; give two students of one teacher"
    )
  data: dict[str, Any] = {**config.data.to_dict(), "fit": photo.data.fit}
  return open_split({"image_size": photo.image_size, "data": data}, "test")

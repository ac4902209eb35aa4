"""Embeds the test split with two encoders and measures retrieval: numbers, lists and pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from sbir import processes, run_folder
from sbir.data.records import fingerprint, photo_indices, sketch_indices
from sbir.data.resized import ResizedSource
from sbir.instances import InstanceReport, evaluate_instances
from sbir.mesh import make_mesh
from sbir.places import place
from sbir.report import save_report
from sbir.report_extras import Network
from sbir.types import UserError
from xmodal.checks import check_evaluation
from xmodal.encoders import Encoder, load_encoder
from xmodal.pictures import write_page
from xmodal.stages import open_split


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

  def save() -> None:
    run_folder.open_run(workdir, config)
    save_report(report, workdir, about=about(config, source))
    write_page(
      place(workdir),
      report,
      source,
      embedded,
      Network(
        encoders["sketch"].embed_squares,
        encoders["photo"].embed_squares,
        encoders["sketch"].attention,
        encoders["photo"].attention,
      ),
      about(config, source),
      data=config.data.to_dict(),
      rows=config.grid_rows,
      seed=config.seed,
    )

  processes.on_first(save)
  return report


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

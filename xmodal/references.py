"""What a student's result is read against: the same networks untrained, and the teacher itself."""

from pathlib import Path

from ml_collections import ConfigDict

from sbir import run_folder
from sbir.mesh import make_mesh, put_replicated
from sbir.places import place
from xmodal.encoders import load_encoder
from xmodal.match import match_scorer
from xmodal.measure import measure
from xmodal.stages import load_teacher, make_task, open_split

BATCH_SIZE = 64


def measure_references(workdir: str | Path) -> dict[str, dict[str, float]]:
  """Returns {"untrained", "teacher": {"acc@1": share, ...}} of a finished pipeline in `workdir`.

  "teacher": z_s of each test pair must find z_p of its photo, each photo's z_p made with its first
  sketch. Both vectors have seen the photo, so this is an upper reference, no retrieval result.
  """
  encoders = {m: load_encoder(str(place(workdir) / f"{m}_student"), m) for m in ("photo", "sketch")}
  config = encoders["photo"].config
  source = open_split(config, "test")
  mesh = make_mesh(**config.mesh)
  untrained = {
    name: encoder.untrained(seed).embed(source, batch_size=BATCH_SIZE, mesh=mesh)
    for seed, (name, encoder) in enumerate(encoders.items())
  }
  return {
    "untrained": measure(source, untrained).metrics,
    "teacher": measure_teacher(place(workdir) / "teacher"),
  }


def measure_teacher(workdir: str | Path) -> dict[str, float]:
  """Returns {"acc@K": share} of a teacher's fused vectors on its own test split."""
  config = ConfigDict(run_folder.read_config(workdir))
  _, params = load_teacher(str(workdir))
  mesh = make_mesh(**config.mesh)
  score = match_scorer(make_task(config), open_split(config, "test"), BATCH_SIZE, mesh)
  scores = score(put_replicated(params, mesh), {})
  return {name.removeprefix("test_"): value for name, value in scores.items()}

"""Packages of XModalViT's runs: a teacher, a student, or a photo and a sketch encoder together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from sbir import preprocessing, provenance, run_folder
from sbir.model_card import NOT_COMPARABLE, SYNTHETIC, Facts, Measured, write_card
from sbir.network_config import describe_encoder
from sbir.package_folder import Package, make_config
from sbir.types import Params, UserError
from xmodal.encoders import load_encoder
from xmodal.packaged import MODALITIES
from xmodal.stages import describe, load_teacher, read_run

LIMIT = "Trained on {data} alone: of other objects, or other ways of drawing, expect less."


def package_run(workdir: str | Path, evaluation: str | Path | None = None) -> Package:
  """Returns the package of one training: a teacher's, a student's, or the baseline's (a pair).

  The card has the figures of `evaluation`, or of one that lies beside the run and is of it alone.
  Raises: UserError if `workdir` is no finished or at least saved training of this method.
  """
  config = read_run("run", str(workdir))
  if config.stage == "teacher":
    network, params = _teacher(str(workdir), config)
    return _package("xmodal-teacher", network, params, [workdir], evaluation)
  if config.stage == "baseline":
    runs = dict.fromkeys(MODALITIES, workdir)
    return package_pair(runs, evaluation or provenance.find_evaluation(runs))
  network, params = _student(str(workdir), config.modality)
  network = {**network, "modality": config.modality}
  return _package("xmodal-student", network, params, [workdir], evaluation)


def package_pair(runs: Mapping[str, str | Path], evaluation: str | Path | None = None) -> Package:
  """Returns one package of {"photo": run folder, "sketch": run folder}, of students of one teacher
  or both the same baseline's; `evaluation` as in `package_run`.

  Raises: UserError if one is not of that modality, or the two do not belong together.
  """
  made = {name: _student(str(runs[name]), name) for name in MODALITIES}
  configs = {name: read_run(name, str(runs[name])) for name in MODALITIES}
  _check_together(runs, configs, made)
  network = {name: made[name][0] for name in MODALITIES}
  params = {name: made[name][1] for name in MODALITIES}
  folders = list(dict.fromkeys(runs.values()))
  evaluation = evaluation or provenance.find_evaluation(runs)
  return _package("xmodal-pair", network, params, folders, evaluation)


def _teacher(workdir: str, config: ConfigDict) -> tuple[dict[str, Any], Params]:
  model, params = load_teacher(workdir)
  network = {
    "encoder": describe_encoder(model.photo_encoder),
    "fusion_depth": model.fusion.depth,
    "fusion_heads": model.fusion.num_heads,
    "fusion_order": model.fusion.order,
  }
  return network, params


def _student(workdir: str, modality: str) -> tuple[dict[str, Any], Params]:
  encoder = load_encoder(workdir, modality)
  sizes = describe_encoder(encoder.model.encoder)
  return {"encoder": sizes, "embed_dim": encoder.model.embed_dim}, encoder.params


def _check_together(
  runs: Mapping[str, str | Path], configs: Mapping[str, ConfigDict], made: Mapping[str, Any]
) -> None:
  one, other = (
    (configs[name].stage, made[name][0]["embed_dim"], preprocessing.of_run(configs[name]))
    for name in MODALITIES
  )
  if one != other:
    raise UserError(
      f"photo={runs['photo']} and sketch={runs['sketch']} do not belong together: (stage, width, "
      f"images) {one} and {other}; give two students of one teacher"
    )


def _package(
  architecture: str,
  network: Mapping[str, Any],
  params: Params,
  runs: Sequence[str | Path],
  evaluation: str | Path | None,
) -> Package:
  configs = [read_run("run", str(run)) for run in runs]
  how = preprocessing.of_run(configs[0])
  described = make_config(
    architecture=architecture,
    image_size=how.image_size,
    network=network,
    classes=[],
    source={"kind": "run", "file": "", "sha256": ""},
    training={describe(c).replace(" ", "_"): c.to_dict() for c in configs},
  )
  measured = [provenance.read_evaluation(evaluation)] if evaluation else []
  card = write_card(_facts(architecture, params, runs, configs, measured, evaluation), how)
  return Package(described, how, params, card)


def _facts(
  architecture: str,
  params: Params,
  runs: Sequence[str | Path],
  configs: Sequence[ConfigDict],
  measured: Sequence[Measured],
  evaluation: str | Path | None,
) -> Facts:
  config, data = configs[0], configs[0].data
  details = {"data": f"{data.name} ({data.source})"}
  for run, c in zip(runs, configs, strict=True):
    step = run_folder.latest_step(run)
    begun = provenance.init_text(run, c)
    details[describe(c)] = f"step {step} of {c.steps}, seed {c.seed}, began from {begun}"
  is_single = architecture == "xmodal-student"
  names = {"xmodal-teacher": "teacher", "xmodal-pair": "photo and sketch encoder"}
  return Facts(
    title=f"XModalViT, {names.get(architecture, describe(config))}, {data.name}",
    architecture=architecture,
    modalities=(config.modality,) if is_single else MODALITIES,
    width=_width(architecture, params),
    num_params=sum(leaf.size for leaf in jax.tree.leaves(params)),
    origin="Trained with the commands below.",
    details=details,
    measured=measured,
    commands=provenance.commands([*runs, *([evaluation] if evaluation else [])]),
    versions=provenance.versions(runs[-1]),
    limits=[
      SYNTHETIC if data.source == "synthetic" else LIMIT.format(data=data.name),
      NOT_COMPARABLE,
    ],
  )


def _width(architecture: str, params: Params) -> int:
  if architecture == "xmodal-teacher":
    return params["photo_encoder"]["norm"]["scale"].shape[0]
  one = params["photo"] if architecture == "xmodal-pair" else params
  return one["head"]["kernel"].shape[1]

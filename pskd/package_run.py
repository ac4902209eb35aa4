"""The package of a PSKD run, of either stage."""

from pathlib import Path
from typing import Any

import jax

from pskd.networks import Network, load_network
from sbir import preprocessing, provenance
from sbir.model_card import NOT_COMPARABLE, SYNTHETIC, Facts, write_card
from sbir.network_config import describe_encoder
from sbir.package_folder import Package, make_config

TRAINED_ON = (
  "Trained on the classes in config.json, of {data}: expect less of others, unlike these."
)
FINDS = "It finds photos of a class; it was not trained to find the very photo that was drawn."


def package_run(
  workdir: str | Path, evaluation: str | Path | None = None, *, select: str = "last"
) -> Package:
  """Returns the package of a training's network, after its last step or (`select="best"`) the best
  on validation classes.

  The card has the figures of `evaluation`, or of one that lies beside the run and is of it.
  Raises: UserError if `workdir` is no training of this method with a checkpoint.
  """
  found = load_network(str(workdir), select)
  config, how = found.config, preprocessing.of_run(found.config)
  described = make_config(
    architecture="pskd",
    image_size=how.image_size,
    network=_description(found),
    classes=list(config.classes),
    source={"kind": "run", "file": "", "sha256": ""},
    training={config.stage: config.to_dict()},
  )
  evaluation = evaluation or provenance.find_evaluation({"model": workdir})
  return Package(described, how, found.params, write_card(_facts(found, workdir, evaluation), how))


def _description(found: Network) -> dict[str, Any]:
  vit, head = found.model.backbone, found.model.head
  return {
    "encoder": describe_encoder(vit),
    "hidden": head.hidden,
    "bottleneck": head.bottleneck,
    "num_classes": head.num_classes,
    "dino_posembed_resample": vit.resample_positions,
  }


def _facts(found: Network, workdir: str | Path, evaluation: str | Path | None) -> Facts:
  config, data = found.config, found.config.data
  begun = provenance.init_text(workdir, config)
  folders = [workdir, *([evaluation] if evaluation else [])]
  return Facts(
    title=f"PSKD, {config.stage}, {data.name}",
    architecture="pskd",
    modalities=("photo", "sketch"),
    width=found.model.backbone.width,
    num_params=sum(leaf.size for leaf in jax.tree.leaves(found.params)),
    origin="Trained with the commands below.",
    details={
      "data": f"{data.name} ({data.source})",
      "classes": f"{len(config.classes)} trained on; unseen: {data.split}, SHA-256 "
      f"{config.unseen_sha256}",
      config.stage: f"step {found.step} of {config.steps}, seed {config.seed}, began from {begun}",
    },
    measured=[provenance.read_evaluation(evaluation)] if evaluation else [],
    commands=provenance.commands(folders),
    versions=provenance.versions(workdir),
    limits=[
      SYNTHETIC if data.source == "synthetic" else TRAINED_ON.format(data=data.name),
      FINDS,
      NOT_COMPARABLE,
    ],
  )

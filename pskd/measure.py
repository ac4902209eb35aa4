"""Measures a trained network on classes it has never seen."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from pskd.checks import check_evaluation
from pskd.embedding import Embedded, Embedder, OwnFunctions
from pskd.networks import Network, load_network
from pskd.pictures import Evaluated, draw, write_page
from pskd.prototypes import correlation_matrix, prototypes_of
from pskd.stages import make_recipe, open_part
from sbir import processes, run_folder
from sbir.category_report import save_report
from sbir.data.class_splits import ClassSplit
from sbir.data.resized import ResizedSource
from sbir.mesh import make_mesh, put_replicated
from sbir.places import place
from sbir.report_extras import Network as Extras
from sbir.retrieval.hamming import evaluate_codes
from sbir.retrieval.itq import encode_pair
from sbir.retrieval.presets import CategoryReport, evaluate_categories
from sbir.types import UserError

PROTOCOL_TEXTS = {
  "zero_shot": "zero-shot: sketches of unseen classes, gallery of photos of unseen classes",
  "generalised": "generalised zero-shot: sketches of unseen classes, gallery of their photos and "
  "of {} photos of seen classes, {}",
}


class Test(NamedTuple):
  """What is asked, and of what."""

  split: ClassSplit
  queries: ResizedSource  # its sketches
  gallery: list[ResizedSource]  # their photos
  protocol: str  # in words


def evaluate_network(config: ConfigDict, workdir: str | Path) -> CategoryReport:
  """Returns the report of the network in `config.model`; leaves numbers and pictures in `workdir`.

  Raises: UserError if the run folder is missing, the data is not what it was trained beside, or a
    test class was trained on.
  """
  check_evaluation(config)
  run_folder.check(workdir, config)
  network = load_network(config.model, config.select)
  _check_bits(config, network)
  test = open_test(config, network)
  report, query, gallery = measure(config, network, test)
  save = functools.partial(_save, config, workdir, network, test, report, query, gallery)
  processes.on_first(save)
  return report


def _save(
  config: ConfigDict,
  workdir: str | Path,
  network: Network,
  test: Test,
  report: CategoryReport,
  query: Embedded,
  gallery: Embedded,
) -> None:
  run_folder.open_run(workdir, config)
  about = describe(config, network, test)
  sketches = [r.key for r in test.queries.records if r.modality == "sketch"]
  photos = [r.key for part in test.gallery for r in part.records if r.modality == "photo"]
  save_report(report, workdir, about=about, query_names=sketches, gallery_names=photos)
  save_embeddings(place(workdir) / "embeddings.npz", query, gallery)
  evaluated = Evaluated(report, test.queries, test.gallery, query, gallery)
  draw(
    place(workdir),
    evaluated,
    np.asarray(correlation_matrix(prototypes_of(network.params))),
    network.config.classes,
    rows=config.grid_rows,
    seed=config.seed,
  )
  own = OwnFunctions(
    network.model,
    network.params,
    make_recipe(network.config.augment),
    feature=config.feature,
  )
  write_page(
    place(workdir),
    evaluated,
    Extras(own.embed, own.embed, own.attention, own.attention),
    about,
    f"{config.data.name}: photos of unseen classes",
    data=config.data.to_dict(),
    seed=config.seed,
  )


def _check_bits(config: ConfigDict, network: Network) -> None:
  model, size = network.model, network.config.image_size
  images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
  out = jax.eval_shape(lambda params, x: model.apply({"params": params}, x), network.params, images)
  width = (out.bottleneck if config.feature == "head" else out.fusion).shape[1]
  if config.codes.bits > width:
    raise UserError(
      f"codes.bits={config.codes.bits} is more than the {width} dimensions of feature="
      f"{config.feature}; take at most {width - width % 8}"
    )


def open_test(config: ConfigDict, network: Network) -> Test:
  """Returns the test sketches and the gallery that `config.protocol` asks for."""
  trained = network.config
  queries, split = _open(config, network, "test")
  if known := sorted(set(split.unseen) & set(trained.classes)):
    raise UserError(
      f"model={config.model} was trained on {len(known)} of the {len(split.unseen)} test classes "
      f"(first: {known[0]}); use the data.split it was trained with"
    )
  if config.protocol == "zero_shot":
    return Test(split, queries, [queries], PROTOCOL_TEXTS["zero_shot"])
  held_out = trained.data.held_out_photos
  if config.data.held_out_photos != held_out:
    raise UserError(
      f"data.held_out_photos={config.data.held_out_photos} is not the {held_out} that model="
      f"{config.model} was trained with; set --config.data.held_out_photos={held_out}"
    )
  seen, _ = _open(config, network, "seen")
  recipe = f"{held_out} of each class, held out of training" if held_out else "all trained on"
  text = PROTOCOL_TEXTS["generalised"].format(len(seen.records), recipe)
  return Test(split, queries, [queries, seen], text)


def _open(config: ConfigDict, network: Network, part: str) -> tuple[ResizedSource, ClassSplit]:
  """Returns a part of the config's data, its images made as the network has seen them."""
  data = {**config.data.to_dict(), "fit": network.config.data.fit}
  return open_part({"data": data}, part, network.config.image_size)


def measure(
  config: ConfigDict, network: Network, test: Test
) -> tuple[CategoryReport, Embedded, Embedded]:
  """Returns the report, and the embeddings of sketches and gallery that it was made from."""
  mesh = make_mesh(**config.mesh)
  recipe = make_recipe(network.config.augment)
  embedder = Embedder(network.model, recipe, mesh, feature=config.feature)
  params = put_replicated(network.params, mesh)
  embed = lambda part, modality: embedder.embed(params, part, modality, config.batch_size)
  query = embed(test.queries, "sketch")
  gallery = joined([embed(part, "photo") for part in test.gallery])
  labels = query.label, gallery.label
  if not config.codes.bits:
    return evaluate_categories(query.vectors, gallery.vectors, *labels), query, gallery
  training = None
  if config.codes.fit == "training":
    seen, _ = _open(config, network, "train")
    training = np.concatenate([embed(seen, modality).vectors for modality in ("sketch", "photo")])
  codes = encode_pair(
    query.vectors,
    gallery.vectors,
    bits=config.codes.bits,
    fit=config.codes.fit,
    training=training,
  )
  return evaluate_codes(*codes, *labels), query, gallery


def joined(parts: list[Embedded]) -> Embedded:
  """Returns the images of all parts, one after another."""
  return Embedded(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def describe(config: ConfigDict, network: Network, test: Test) -> dict[str, str]:
  """Returns what a reader must know of where the figures come from."""
  trained, split = network.config, test.split
  codes = "none: real-valued, cosine"
  if config.codes.bits:
    codes = f"{config.codes.bits} bits, PCA and ITQ, fit {config.codes.fit}, Hamming distance"
  step = f", step {network.step} of {trained.steps} ({config.select})" if network.step else ""
  return {
    "network": f"{trained.stage} {config.model}{step}",
    "protocol": test.protocol,
    "data": f"{config.data.name} ({config.data.source})",
    "split": f"{split.name}: {len(split.unseen)} unseen classes, SHA-256 {split.sha256}; "
    f"{len(trained.classes)} trained on",
    "feature": config.feature,
    "codes": codes,
  }


def save_embeddings(path: Path, query: Embedded, gallery: Embedded) -> None:
  """Writes what `python -m sbir.evaluate --embeddings` reads, whole or not at all."""
  arrays: Mapping[str, np.ndarray] = {
    "query": query.vectors,
    "gallery": gallery.vectors,
    "query_label": query.label,
    "gallery_label": gallery.label,
  }
  run_folder.write_arrays(path, arrays)


def measure_untrained(config: ConfigDict) -> CategoryReport:
  """Returns the report of `config.model`'s network with fresh random weights."""
  network = load_network(config.model, config.select).untrained(config.seed)
  return measure(config, network, open_test(config, network))[0]

"""One package of two: a photo student's and a sketch student's, for instance converted ones."""

from collections.abc import Mapping

import jax

from sbir.model_card import NOT_COMPARABLE, Facts, write_card
from sbir.package_folder import Package, make_config
from sbir.types import UserError
from xmodal.packaged import MODALITIES


def join(packages: Mapping[str, Package], what: Mapping[str, str]) -> Package:
  """Returns the pair of {"photo", "sketch": package of an XModalViT student}.

  `what` names both in messages. Raises: UserError if one is no student of that modality, or they do
  not go together: another width of embeddings, or other images.
  """
  for name in MODALITIES:
    _check_modality(packages[name].config, name, what[name])
  photo, sketch = (packages[name] for name in MODALITIES)
  one, other = ((p.config["network"]["embed_dim"], p.preprocessing) for p in (photo, sketch))
  if one != other:
    raise UserError(
      f"{what['photo']} and {what['sketch']} do not belong together: (width of embeddings, images) "
      f"{one} and {other}; give two students of one teacher"
    )
  params = {name: packages[name].params for name in MODALITIES}
  described = make_config(
    architecture="xmodal-pair",
    image_size=photo.config["image_size"],
    network={name: _described(packages[name]) for name in MODALITIES},
    classes=[],
    source={"kind": "joined", **{name: packages[name].config["source"] for name in MODALITIES}},
    training={name: packages[name].config["training"] for name in MODALITIES},
  )
  facts = Facts(
    title="XModalViT, photo and sketch student",
    architecture="xmodal-pair",
    modalities=MODALITIES,
    width=one[0],
    num_params=sum(leaf.size for leaf in jax.tree.leaves(params)),
    origin="Joined of two packages of students, one of each modality.",
    details={f"{name} student": _source(packages[name]) for name in MODALITIES},
    limits=[NOT_COMPARABLE],
  )
  return Package(described, photo.preprocessing, params, write_card(facts, photo.preprocessing))


def _check_modality(config: Mapping, name: str, what: str) -> None:
  if config["architecture"] != "xmodal-student":
    raise UserError(
      f"{name}={what} is a package of {config['architecture']}, expected that of a {name} student; "
      f"give one of xmodal-student"
    )
  if config["network"].get("modality") not in (name, "either"):
    raise UserError(
      f"{name}={what} is a {config['network'].get('modality')} student, expected a {name} student; "
      "exchange --photo and --sketch?"
    )


def _described(package: Package) -> dict:
  return {key: package.config["network"][key] for key in ("encoder", "embed_dim")}


def _source(package: Package) -> str:
  source = package.config["source"]
  return " ".join(f"{key} {text}," for key, text in source.items() if text).rstrip(",") or "a run"

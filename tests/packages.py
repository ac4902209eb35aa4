"""Packages of tiny networks with random weights, for tests of what is done with packages."""

import jax
import numpy as np

from sbir import models, trees
from sbir.network import shapes_of
from sbir.package_folder import Package, make_config, write_package
from sbir.preprocessing import Preprocessing

SIDE = 16
ENCODER = {"width": 12, "depth": 1, "num_heads": 2, "patch_size": 8}
STUDENT = {"encoder": ENCODER, "embed_dim": 10}
NETWORKS = {
  "vit": {"encoder": ENCODER, "hidden": 8, "bottleneck": 6},
  "xmodal-teacher": {
    "encoder": ENCODER,
    "fusion_depth": 2,
    "fusion_heads": 3,
    "fusion_order": "sequential",
  },
  "xmodal-student": {**STUDENT, "modality": "photo"},
  "xmodal-pair": {"photo": STUDENT, "sketch": {**STUDENT, "encoder": {**ENCODER, "depth": 2}}},
  "pskd": {
    "encoder": ENCODER,
    "hidden": 8,
    "bottleneck": 6,
    "num_classes": 3,
    "dino_posembed_resample": True,
  },
}
PLAIN = Preprocessing(SIDE, "stretch", False, (0.5,) * 3, (0.25,) * 3)


def make_package(architecture, *, seed=0, how=PLAIN, card="# A card\n", **changes):
  """Returns a package of the architecture with random weights; `changes` are of its network."""
  network = {**NETWORKS[architecture], **changes}
  config = make_config(
    architecture=architecture,
    image_size=how.image_size,
    network=network,
    classes=["ant", "bee", "cow"] if architecture == "pskd" else [],
    source={"kind": "run", "file": "", "sha256": ""},
    training={"steps": 3, "data": {"dir": "/home/someone/photos", "name": "toy"}},
  )
  draw = np.random.default_rng(seed)
  shapes = shapes_of(models.build(config, "test"), how.image_size)
  random = lambda leaf: draw.normal(0, 0.3, leaf.shape).astype(np.float32)
  params = trees.mask(shapes, lambda name, leaf: random(leaf) + name.endswith("scale"))
  return Package(config, how, jax.tree.map(np.asarray, params), card)


def save_package(folder, architecture, **words):
  """Writes such a package; returns its folder."""
  write_package(folder, make_package(architecture, **words))
  return folder


def noise(num, side=SIDE, seed=0):
  """Returns images of noise, uint8."""
  return np.random.default_rng(seed).integers(0, 256, (num, side, side, 3)).astype(np.uint8)

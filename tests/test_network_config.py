"""A description of a network is somebody else's file: it is checked whole before it is built."""

import copy

import jax
import numpy as np
import pytest

from pskd.packaged import build as build_pskd
from sbir import plain_vit
from sbir.network import shapes_of
from sbir.types import UserError
from tests.test_pretrained_positions import NETWORKS, random_params
from tests.xmodal_tiny import quick_jit
from xmodal.packaged import build_pair, build_student, build_teacher

TAKES = {  # name: what the network takes, and whether only together
  "vit": (("photo", "sketch"), False),
  "xmodal-teacher": (("photo", "sketch"), True),
  "xmodal-student": (("photo",), False),
  "xmodal-pair": (("photo", "sketch"), False),
  "pskd": (("photo", "sketch"), False),
}
BESIDE = {"pskd": ("dist", "bottleneck", "logits")}


@pytest.fixture(params=NETWORKS)
def name(request):
  return request.param


def refused(name, network):
  """Returns the line with which a description is refused."""
  with pytest.raises(UserError) as raised:
    NETWORKS[name][0](network)
  assert "\n" not in str(raised.value)
  return str(raised.value)


def images_of(names, seed=0):
  draw = np.random.default_rng(seed)
  return {name: draw.normal(size=(2, 16, 16, 3)).astype(np.float32) for name in names}


def test_a_network_takes_what_it_says_and_gives_an_embedding_of_each(name):
  network = NETWORKS[name][0](NETWORKS[name][1])
  assert (network.modalities, network.together) == TAKES[name]
  images = images_of(network.modalities)
  out = quick_jit(network.forward)(random_params(network, 16), images)
  beside = {f"{image}_{output}" for image in images for output in BESIDE.get(name, ())}
  assert out.keys() == {*images} | beside
  assert {x.dtype for x in out.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", [name for name, (_, together) in TAKES.items() if not together])
def test_each_modality_alone_gives_what_both_give(name):
  network = NETWORKS[name][0](NETWORKS[name][1])
  params, images = random_params(network, 16), images_of(network.modalities)
  both = network.forward(params, images)
  for modality, pixels in images.items():
    alone = network.forward(params, {modality: pixels})
    for output, values in alone.items():
      np.testing.assert_allclose(values, both[output], rtol=1e-5, atol=1e-5)


def test_fresh_parameters_have_the_shapes_that_are_promised(name):
  network = NETWORKS[name][0](NETWORKS[name][1])
  fresh = network.init(jax.random.key(0), 16)
  shapes = jax.tree.map(lambda leaf: leaf.shape, fresh)
  assert shapes == jax.tree.map(lambda leaf: leaf.shape, shapes_of(network, 16))


def test_a_student_of_either_takes_both():
  student = {**NETWORKS["xmodal-student"][1], "modality": "either"}
  assert build_student(student).modalities == ("photo", "sketch")


def test_dinos_head_gives_unit_vectors_beside_the_token():
  network = plain_vit.build({**NETWORKS["vit"][1], "hidden": 8, "bottleneck": 4})
  out = network.forward(random_params(network, 16), images_of(["sketch"]))
  assert out.keys() == {"sketch", "sketch_bottleneck"}
  lengths = np.linalg.norm(out["sketch_bottleneck"], axis=-1)
  np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def places(network, path=()):
  """Yields the path of every value of a description."""
  for key, value in network.items():
    if isinstance(value, dict):
      yield from places(value, (*path, key))
    yield (*path, key)


def changed(network, path, value=None):
  """Returns a copy with another value at `path`, or without that key."""
  found = node = copy.deepcopy(network)
  for key in path[:-1]:
    node = node[key]
  node.pop(path[-1])
  if value is not None:
    node[path[-1]] = value
  return found


@pytest.mark.parametrize(
  "value", [-1, 10**9, 1.0, True, "12", [1], {}, "\n" * 999], ids=lambda value: repr(value)[:9]
)
def test_a_value_that_cannot_be_is_refused_by_its_key(name, value):
  for path in places(NETWORKS[name][1]):
    if value is True and path[-1] == "dino_posembed_resample":
      continue
    line = refused(name, changed(NETWORKS[name][1], path, value))
    assert ".".join(("network", *path)) in line and len(line) < 400


def test_a_missing_key_and_an_unknown_one_are_refused_by_name(name):
  network = NETWORKS[name][1]
  for path in places(network):
    assert f"lacks {path[-1]}" in refused(name, changed(network, path))
  assert "has the unknown keys 'stranger'" in refused(name, {**network, "stranger": 1})


@pytest.mark.parametrize("value", [None, [], "vit", 3])
def test_a_description_that_is_no_mapping_is_refused(name, value):
  assert f"network={value!r} must hold " in refused(name, value)


def test_all_values_that_cannot_be_are_named_at_once():
  line = refused("vit", {"encoder": {**NETWORKS["vit"][1]["encoder"], "width": 0, "depth": "x"},
                         "hidden": 0, "bottleneck": -2})  # fmt: skip
  assert "network.encoder.width=0" in line and "network.encoder.depth='x'" in line
  assert "network.bottleneck=-2" in line


def test_heads_that_do_not_divide_the_width_are_refused(name):
  network = copy.deepcopy(NETWORKS[name][1])
  encoder = network["encoder"] if "encoder" in network else network["sketch"]["encoder"]
  encoder["num_heads"] = 5
  assert "encoder.num_heads=5 must divide the width 12" in refused(name, network)


@pytest.mark.parametrize(
  ("build", "network", "message"),
  [
    (plain_vit.build, {**NETWORKS["vit"][1], "hidden": 8}, "hidden=8 and network.bottleneck=0"),
    (
      build_teacher,
      {**NETWORKS["xmodal-teacher"][1], "fusion_heads": 5},
      "fusion_heads=5 must div",
    ),
    (
      build_pair,
      changed(NETWORKS["xmodal-pair"][1], ("photo", "embed_dim"), 7),
      "network.photo.embed_dim=7 must be network.sketch.embed_dim=6",
    ),
    (build_pskd, {**NETWORKS["pskd"][1], "num_classes": 0}, "num_classes=0 must be a whole"),
  ],
)
def test_what_does_not_go_together_is_refused(build, network, message):
  with pytest.raises(UserError, match=message):
    build(network)

"""Positions on another grid are what PyTorch's bicubic interpolation makes of them."""

import jax
import numpy as np
import pytest

from pskd.packaged import build as build_pskd
from sbir import plain_vit, trees
from sbir.network import shapes_of
from sbir.nn.positions import resample_grid
from sbir.pretrained import Converted, resample_positions
from sbir.types import UserError
from tests.paths import REPO
from xmodal.packaged import build_pair, build_student, build_teacher

# tests/goldens/bicubic.npz: torch 2.13.0 (CPU), torch.nn.functional.interpolate(grid, size=(n, n),
# mode="bicubic", align_corners=False) of numpy.random.default_rng(0).normal, float32; those with
# "dino" of default_rng(1), with scale_factor=(n + 0.1) / side in place of the size.
BICUBIC = REPO / "tests" / "goldens" / "bicubic.npz"
ENCODER = {"width": 12, "depth": 1, "num_heads": 3, "patch_size": 4}
VIT = {"encoder": ENCODER, "hidden": 0, "bottleneck": 0}
FINE = {"encoder": {**ENCODER, "patch_size": 2}, "embed_dim": 6}
PSKD = {"encoder": ENCODER, "hidden": 8, "bottleneck": 4, "num_classes": 3}
NETWORKS = {  # name: (what builds it, its description, where its positions are: patch and tokens)
  "vit": (plain_vit.build, VIT, {"encoder/pos_embed": (4, 1)}),
  "xmodal-teacher": (
    build_teacher,
    {"encoder": ENCODER, "fusion_depth": 1, "fusion_heads": 3, "fusion_order": "parallel"},
    {"photo_encoder/pos_embed": (4, 1), "sketch_encoder/pos_embed": (4, 1)},
  ),
  "xmodal-student": (
    build_student,
    {"encoder": ENCODER, "embed_dim": 6, "modality": "photo"},
    {"encoder/pos_embed": (4, 1)},
  ),
  "xmodal-pair": (
    build_pair,
    {"photo": FINE, "sketch": {"encoder": ENCODER, "embed_dim": 6}},
    {"photo/encoder/pos_embed": (2, 1), "sketch/encoder/pos_embed": (4, 1)},
  ),
  "pskd": (build_pskd, PSKD | {"dino_posembed_resample": False}, {"backbone/pos_embed": (4, 2)}),
}


def random_params(network, image_size):
  draw = np.random.default_rng(0)
  shapes = shapes_of(network, image_size)
  return jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("num_tokens", [1, 2])
@pytest.mark.parametrize(("old", "new"), [(4, 7), (14, 24), (7, 3), (5, 5)])
def test_grids_are_resampled_as_pytorch_does(old, new, num_tokens):
  golden = np.load(BICUBIC)
  given, expected = (golden[f"from_{old}_to_{new}/{end}"][0] for end in ("in", "out"))
  by_row = lambda grid: grid.transpose(1, 2, 0).reshape(1, -1, len(grid))
  tokens = np.full((1, num_tokens, len(given)), 7, np.float32)
  positions = np.concatenate([tokens, by_row(given)], axis=1)
  found = resample_grid(positions, num_tokens, new)
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found[:, :num_tokens], tokens)
  np.testing.assert_allclose(found[:, num_tokens:], by_row(expected), rtol=0, atol=1e-5)


def found(network, params):
  """Returns weights for images of 16 px."""
  return Converted("any", network, 16, params, (), {})


@pytest.fixture(params=NETWORKS)
def case(request):
  build, network, places = NETWORKS[request.param]
  built = build(network)
  return built, network, places, random_params(built, 16)


@pytest.mark.parametrize("image_size", [8, 28])
def test_the_network_takes_images_of_the_other_size(case, image_size):
  built, network, _, params = case
  resampled = resample_positions(found(network, params), image_size)
  assert resampled.image_size == image_size
  trees.merge(shapes_of(built, image_size), resampled.params, what="resampled")


def test_only_the_positions_of_patches_change(case):
  _, network, places, params = case
  before = trees.flatten(params)
  after = trees.flatten(resample_positions(found(network, params), 28).params)
  assert before.keys() == after.keys()
  for name, leaf in after.items():
    if name not in places:
      np.testing.assert_array_equal(leaf, before[name])
      continue
    patch, num_tokens = places[name]
    np.testing.assert_array_equal(leaf[:, :num_tokens], before[name][:, :num_tokens])
    np.testing.assert_array_equal(leaf, resample_grid(before[name], num_tokens, 28 // patch))


def test_the_same_size_changes_nothing(case):
  _, network, _, params = case
  same = resample_positions(found(network, params), 16)
  jax.tree.map(np.testing.assert_array_equal, same.params, params)
  assert same.network == network


def test_a_network_that_stretches_its_positions_is_stretched_once_to_the_other_size():
  golden = np.load(BICUBIC)
  given, expected = (golden[f"dino_from_4_to_7/{end}"][0] for end in ("in", "out"))
  by_row = lambda grid: grid.transpose(1, 2, 0).reshape(1, -1, len(grid))
  tokens = np.full((1, 1, len(given)), 7, np.float32)
  positions = np.concatenate([tokens, tokens, by_row(given)], axis=1)
  params = {"backbone": dict.fromkeys(("dist_token", "fusion_token"), tokens)}
  params["backbone"]["pos_embed"] = positions
  stretching = PSKD | {"dino_posembed_resample": True}
  resampled = resample_positions(found(stretching, params), 28)
  assert resampled.network == PSKD | {"dino_posembed_resample": False}
  patches = resampled.params["backbone"]["pos_embed"][:, 2:]
  np.testing.assert_allclose(patches, by_row(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
  ("image_size", "message"),
  [(30, "image_size=30 must divide by patch_size=4"), (2, "image_size=2 has no patch of 4")],
)
def test_images_of_no_whole_patches_are_refused(image_size, message):
  params = random_params(plain_vit.build(VIT), 16)
  with pytest.raises(UserError, match=message):
    resample_positions(found(VIT, params), image_size)

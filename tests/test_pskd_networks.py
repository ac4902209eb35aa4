"""The two-token ViT: its size, its tokens, its head, and where its positions lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pskd.model import Head, released_positions, two_token_net
from pskd.tasks import feature_of, init_net
from sbir.nn.positions import bicubic_matrix, resample
from sbir.nn.vit import Block, patchify
from tests.pskd_tiny import IMAGE, PATCH, make_net, random_params
from tests.xmodal_tiny import quick_jit


def images(num=2, seed=0, side=IMAGE):
  draw = np.random.default_rng(seed)
  return draw.normal(size=(num, side, side, 3)).astype(np.float32)


def size_of(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


# --- the network ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
  """The shapes of the published network's parameters, for 104 classes."""
  model = two_token_net(
    "small", 8, dtype=jnp.float32, position_std=0.02, resample_positions=False, head=Head(104)
  )
  return jax.eval_shape(lambda key: init_net(model, key, 224), jax.random.key(0))


def test_the_backbone_has_as_many_parameters_as_published(published):
  assert size_of(published["backbone"]) == 21_671_040


def test_the_head_has_as_many_parameters_as_published(published):
  head = dict(published["head"])
  assert size_of(head.pop("classifier")) == 257 * 104
  assert size_of(head) == 5_509_376


def test_the_sequence_is_dist_fusion_and_the_patches(published):
  assert published["backbone"]["pos_embed"].shape == (1, 786, 384)


def all_tokens(params, images, depth):
  """Returns every token after the final norm: the plain ViT's way, nothing left out."""
  tokens = patchify(images, PATCH) @ params["patch_embed"]["kernel"] + params["patch_embed"]["bias"]
  learnt = [params[name].repeat(len(images), axis=0) for name in ("dist_token", "fusion_token")]
  tokens = jnp.concatenate([*learnt, tokens], axis=1) + params["pos_embed"]
  for i in range(depth):
    tokens = Block(2).apply({"params": params[f"block_{i}"]}, tokens)
  tokens -= tokens.mean(-1, keepdims=True)
  tokens /= jnp.sqrt((tokens**2).mean(-1, keepdims=True) + 1e-6)
  return tokens * params["norm"]["scale"] + params["norm"]["bias"]


@pytest.mark.parametrize("depth", [1, 2])
def test_a_last_block_of_two_tokens_gives_what_computing_all_gives(depth):
  model = make_net(depth=depth)
  params = random_params(model)
  out = quick_jit(model.apply)({"params": params}, images())
  tokens = quick_jit(all_tokens, static_argnums=2)(params["backbone"], images(), depth)
  np.testing.assert_allclose(out.dist, tokens[:, 0], atol=1e-5)
  np.testing.assert_allclose(out.fusion, tokens[:, 1], atol=1e-5)


@pytest.fixture(scope="module")
def run():
  """(parameters, what a tiny network makes of two images)."""
  model = make_net()
  params = random_params(model)
  return params, quick_jit(model.apply)({"params": params}, images())


def test_bottlenecks_are_unit_vectors_and_logits_linear_in_them(run):
  params, out = run
  np.testing.assert_allclose(np.linalg.norm(out.bottleneck, axis=1), 1.0, atol=1e-6)
  classifier = params["head"]["classifier"]
  by_hand = out.bottleneck @ classifier["kernel"] + classifier["bias"]
  np.testing.assert_allclose(out.logits, by_hand, atol=1e-5)


@pytest.mark.parametrize("feature", ["fusion", "mean", "head"])
def test_a_feature_is_the_part_of_the_output_that_it_names(run, feature):
  out = run[1]
  expected = {"fusion": out.fusion, "mean": (out.dist + out.fusion) / 2, "head": out.bottleneck}
  np.testing.assert_allclose(feature_of(out, feature), expected[feature], atol=1e-6)


def test_the_head_looks_at_the_fusion_token_alone(run):
  params, out = run
  _, logits = quick_jit(Head(5, 16, 12).apply)({"params": params["head"]}, out.fusion)
  np.testing.assert_allclose(logits, out.logits, atol=1e-5)


def test_bfloat16_compute_keeps_outputs_and_parameters_in_float32():
  model = make_net(dtype=jnp.bfloat16)
  shapes = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((2, 16, 16, 3)))
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_a_fresh_head_spreads_as_it_is_told():
  """With head_std 0 each layer's weights keep the size of what they are given."""
  stds = {}
  for head_std in (0.02, 0.0):
    head = Head(50, 200, 100, head_std=head_std, prototype_std=0.5)
    params = quick_jit(head.init)(jax.random.key(0), jnp.zeros((1, 64)))["params"]
    stds[head_std] = {name: float(jnp.std(params[name]["kernel"])) for name in params}
  assert stds[0.02] == pytest.approx(
    {"fc1": 0.02, "fc2": 0.02, "fc3": 0.02, "classifier": 0.5}, rel=0.15
  )
  assert stds[0.0] == pytest.approx(
    {"fc1": 64**-0.5, "fc2": 200**-0.5, "fc3": 200**-0.5, "classifier": 0.5}, rel=0.1
  )


# --- positions ------------------------------------------------------------------------------------


def test_a_grid_resampled_onto_itself_stays_as_it_is():
  np.testing.assert_array_equal(bicubic_matrix(5, 5, 1.0), np.eye(5))


def test_twice_as_many_points_have_the_known_weights():
  """Those of a = -3/4 at a quarter and three quarters of the way; at the ends the end counts."""
  far, near = np.array([-0.10546875, 0.87890625, 0.26171875, -0.03515625]), slice(0, 4)
  matrix = bicubic_matrix(4, 8, 2.0)
  np.testing.assert_allclose(matrix[3, near], far, atol=1e-12)  # at 1.25
  np.testing.assert_allclose(matrix[4, near], far[::-1], atol=1e-12)  # at 1.75
  np.testing.assert_allclose(matrix[1, :3], [far[0] + far[1], far[2], far[3]], atol=1e-12)  # .25


def test_the_weights_of_a_point_add_up_to_one():
  for scale in (28.1 / 28, 0.5, 3.3):
    np.testing.assert_allclose(bicubic_matrix(28, 30, scale).sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize(("row", "place"), [(1, 0.9947), (14, 13.9484), (26, 25.9057)])
def test_the_released_stretch_reads_from_just_before_each_patch(row, place):
  """Between points a ramp comes out as t^3 - 1.5 t^2 + 1.5 t: the kernel of a = -3/4 bends it."""
  t = place % 1
  bent = np.floor(place) + t**3 - 1.5 * t**2 + 1.5 * t
  assert bicubic_matrix(28, 28, 28.1 / 28)[row] @ np.arange(28) == pytest.approx(bent, abs=2e-4)


def test_positions_are_resampled_along_rows_and_columns_alike():
  matrix = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
  grid = np.float32([0, 2, 4, 6]).reshape(1, 4, 1)  # row by row: 0 2 / 4 6
  found = resample(grid, matrix)
  np.testing.assert_allclose(found.reshape(3, 3), [[0, 1, 2], [2, 3, 4], [4, 5, 6]], atol=1e-6)


def test_the_stretch_leaves_both_tokens_positions_and_moves_the_patches():
  positions = np.random.default_rng(0).normal(size=(1, 2 + 9, 4)).astype(np.float32)
  stretched = np.asarray(released_positions(positions))
  np.testing.assert_array_equal(stretched[:, :2], positions[:, :2])
  assert 1e-3 < np.abs(stretched[:, 2:] - positions[:, 2:]).max() < 0.2


def test_stretched_positions_are_used_only_where_asked_for():
  params = random_params(make_net())
  fusion = lambda params, **form: quick_jit(make_net(**form).apply)({"params": params}, images())[1]
  plain, stretched = fusion(params), fusion(params, resample_positions=True)
  positions = released_positions(params["backbone"]["pos_embed"])
  moved = {**params, "backbone": {**params["backbone"], "pos_embed": positions}}
  np.testing.assert_allclose(stretched, fusion(moved), atol=1e-5)
  assert np.abs(stretched - plain).max() > 1e-3

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir import trees
from sbir.nn.attention import attend
from sbir.nn.vit import SIZES, Mlp, ViT, check_image_size, patchify, vit
from sbir.types import UserError

TINY = ViT(width=24, depth=1, num_heads=3, patch_size=8)
LEAVES = ("bias", "kernel")


def count(model, side=224):
  images = jnp.zeros((1, side, side, 3))
  shapes = jax.eval_shape(model.init, jax.random.key(0), images)
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def images(num=2, height=16, width=16):
  draw = np.random.default_rng(0)
  return draw.normal(size=(num, height, width, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def params():
  """Random throughout: a bias of zero would hide where it is added."""
  draw = np.random.default_rng(1)
  shapes = jax.eval_shape(TINY.init, jax.random.key(0), images())["params"]
  return jax.tree.map(lambda leaf: draw.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize(
  ("size", "patch", "published"),  # with the 1000-class head that we leave out
  [
    ("tiny", 16, 5_717_416),
    ("small", 16, 22_050_664),
    ("small", 32, 22_878_952),
    ("base", 8, 86_576_872),
    ("base", 16, 86_567_656),
    ("base", 32, 88_224_232),
  ],
)
def test_parameters_are_as_many_as_published(size, patch, published):
  width = SIZES[size][0]
  head = width * 1000 + 1000
  assert count(vit(size, patch)) == published - head


@pytest.mark.parametrize(
  ("size", "patch", "ours"),
  [("tiny", 16, 5_524_416), ("small", 8, 21_670_272), ("base", 16, 85_798_656)],
)
def test_parameters_without_a_head_are_as_many_as_published(size, patch, ours):
  assert count(vit(size, patch)) == ours  # small/8: DINO's backbone


@pytest.mark.parametrize(
  ("size", "patch"), [("nano", 8), ("micro", 16), ("micro", 32), ("tiny", 8), ("tiny", 32)]
)
def test_parameters_are_as_many_as_the_formula_says(size, patch):
  width, depth, _ = SIZES[size]
  block = 12 * width**2 + 13 * width  # attention 4, mlp 8; biases 4 + 5; two norms 4
  embedding = 3 * patch**2 * width + width + width + ((96 // patch) ** 2 + 1) * width
  assert count(vit(size, patch), side=96) == depth * block + embedding + 2 * width


def test_an_unknown_size_is_named_with_those_there_are():
  with pytest.raises(UserError, match="'huge' is unknown; one of: nano, micro, tiny, small, base"):
    vit("huge", 16)


@pytest.mark.parametrize(
  ("side", "nearest"), [(225, "224 or 240"), (10, "16"), (250, "240 or 256")]
)
def test_an_image_that_does_not_divide_into_patches_is_refused(side, nearest):
  message = f"image_size={side} must divide by patch_size=16; nearest: {nearest}"
  with pytest.raises(UserError, match=message):
    check_image_size((side, side), 16)
  with pytest.raises(UserError, match=message):
    count(vit("micro", 16), side)


def test_patches_come_by_row_each_flattened_by_row_column_channel():
  image = np.arange(4 * 6 * 3).reshape(1, 4, 6, 3)
  patches = patchify(image, 2)
  assert patches.shape == (1, 6, 12)
  np.testing.assert_array_equal(patches[0, 4], image[0, 2:4, 2:4].ravel())


def test_the_patch_embedding_is_the_strided_convolution(params):
  kernel, bias = params["patch_embed"]["kernel"], params["patch_embed"]["bias"]
  convolved = jax.lax.conv_general_dilated(
    images(),
    kernel.reshape(8, 8, 3, 24),
    (8, 8),
    "VALID",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision="highest",
  )
  ours = patchify(images(), 8) @ kernel + bias
  np.testing.assert_allclose(ours, (convolved + bias).reshape(2, 4, 24), atol=1e-4)


def test_the_mlp_uses_the_exact_gelu():
  """The usual tanh approximation is up to 5e-4 off, which a small golden does not notice."""
  tokens, identity = np.linspace(-4, 4, 64, dtype=np.float32).reshape(1, 1, 64), np.eye(64, 256)
  fc1 = {"kernel": identity, "bias": np.zeros(256)}
  fc2 = {"kernel": identity.T, "bias": np.zeros(64)}
  ours = Mlp().apply({"params": {"fc1": fc1, "fc2": fc2}}, tokens)
  expected = [x / 2 * (1 + math.erf(x / math.sqrt(2))) for x in tokens.ravel().tolist()]
  np.testing.assert_allclose(np.ravel(ours), expected, atol=1e-6)


def test_images_need_not_be_square():
  tall = images(height=32)
  tokens, _ = jax.eval_shape(TINY.init_with_output, jax.random.key(0), tall)
  assert tokens.shape == (2, 1 + 4 * 2, 24)


def test_bfloat16_compute_keeps_parameters_and_output_in_float32(params):
  half = TINY.clone(dtype=jnp.bfloat16)
  created = jax.eval_shape(half.init, jax.random.key(0), images())
  assert {leaf.dtype for leaf in jax.tree.leaves(created)} == {jnp.dtype("float32")}
  run = lambda model: jax.jit(model.apply)({"params": params}, images())
  tokens, exact = run(half), run(TINY)
  assert tokens.dtype == jnp.float32
  assert 0 < np.abs(tokens - exact).max() < 0.1


def test_each_image_is_encoded_by_itself(params):
  encode = jax.jit(lambda x: TINY.apply({"params": params}, x))
  np.testing.assert_allclose(encode(images())[1], encode(images()[::-1])[0], atol=1e-5)


def test_a_key_that_is_not_kept_is_as_if_it_were_not_there():
  draw = np.random.default_rng(0)
  query, key, value = draw.normal(size=(3, 2, 5, 6)).astype(np.float32)
  keep = np.array([[True, True, False, True, False]] * 2)
  masked = attend(query, key, value, 3, keep)
  without = attend(query, key[:, [0, 1, 3]], value[:, [0, 1, 3]], 3)
  np.testing.assert_allclose(masked, without, atol=1e-6)


def test_attention_is_the_weighted_mean_it_is_defined_as():
  draw = np.random.default_rng(0)
  query, key, value = draw.normal(size=(3, 2, 5, 6)).astype(np.float32)
  expected = []
  for head in (slice(0, 3), slice(3, 6)):
    weights = np.exp(query[..., head] @ key[..., head].transpose(0, 2, 1) / np.sqrt(3))
    expected.append(weights / weights.sum(-1, keepdims=True) @ value[..., head])
  ours = attend(query, key, value, 2)
  np.testing.assert_allclose(ours, np.concatenate(expected, axis=-1), atol=1e-5)


def test_parameters_have_the_names_that_weights_of_others_are_read_into():
  shapes = jax.eval_shape(TINY.init, jax.random.key(0), images())["params"]
  assert sorted(trees.flatten(shapes)) == [
    *(f"block_0/attention/{layer}/{leaf}" for layer in ("out", "qkv") for leaf in LEAVES),
    *(f"block_0/mlp/{layer}/{leaf}" for layer in ("fc1", "fc2") for leaf in LEAVES),
    *(f"block_0/norm_{i}/{leaf}" for i in (1, 2) for leaf in ("bias", "scale")),
    "cls_token",
    "norm/bias",
    "norm/scale",
    "patch_embed/bias",
    "patch_embed/kernel",
    "pos_embed",
  ]


def test_rematerialisation_changes_no_number_and_keeps_less():
  plain, remat = (ViT(24, 4, 3, 8, remat=remat) for remat in (False, True))
  pixels = images(4, 32, 32)
  params = plain.init(jax.random.key(0), pixels)
  assert jax.tree.map(jnp.shape, remat.init(jax.random.key(0), pixels)) == jax.tree.map(
    jnp.shape, params
  )
  grad_of = lambda model: jax.jit(jax.grad(lambda p: (model.apply(p, pixels) ** 3).sum()))
  one, other = (grad_of(model) for model in (plain, remat))
  for a, b in zip(jax.tree.leaves(one(params)), jax.tree.leaves(other(params)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)
  kept = [
    sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(saved(model, params, pixels)))
    for model in (plain, remat)
  ]
  assert kept[1] < kept[0] / 2


def saved(model, params, pixels):
  """Returns what the backward pass is given, as shapes."""
  _, back = jax.eval_shape(lambda p: jax.vjp(lambda q: model.apply(q, pixels), p), params)
  return back

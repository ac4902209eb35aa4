"""Where a model looks: the numbers are the softmax's, and whoever does not ask pays nothing."""

import re

import jax
import numpy as np
import pytest

import sbir
from pskd.model import fusion_attention
from sbir.attention_maps import attention_pictures, class_token_attention, laid_over
from sbir.nn import attention
from sbir.nn.attention import SelfAttention, attend, attention_weights
from sbir.nn.class_attention import as_maps, class_attention
from sbir.nn.vit import ViT
from sbir.types import UserError
from tests import pskd_tiny
from tests.packages import NETWORKS, SIDE, noise, save_package

TAKES = {name: ("photo", "sketch") for name in NETWORKS} | {"xmodal-student": ("photo",)}
CASES = [(name, modality) for name, modalities in TAKES.items() for modality in modalities]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  root = tmp_path_factory.mktemp("packages")
  return {name: save_package(root / name, name) for name in NETWORKS}


def random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_weights_are_the_softmax_by_which_values_are_mixed():
  query, key, value = random(2, 3, 8), random(2, 5, 8, seed=1), random(2, 5, 8, seed=2)
  weights = np.asarray(attention_weights(query, key, 2))
  split = lambda x: x.reshape(2, -1, 2, 4)
  scores = np.einsum("bqhe,bkhe->bhqk", split(query), split(key)) / 2  # sqrt(4)
  by_hand = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
  np.testing.assert_allclose(weights, by_hand, atol=1e-6)
  mixed = np.einsum("bhqk,bkhe->bqhe", weights, split(value)).reshape(2, 3, 8)
  np.testing.assert_allclose(mixed, attend(query, key, value, 2), atol=1e-6)


def test_a_layer_sows_rows_that_sum_to_one():
  layer, tokens = SelfAttention(2), random(2, 5, 8)
  params = layer.init(jax.random.key(0), tokens)
  _, sown = layer.apply(params, tokens, 3, mutable=["intermediates"])
  (weights,) = sown["intermediates"]["weights"]
  assert weights.shape == (2, 2, 3, 5)
  np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


def test_who_does_not_ask_computes_no_weights_and_keeps_none(monkeypatch):
  layer, tokens = SelfAttention(2), random(2, 5, 8)
  monkeypatch.setattr(attention, "attention_weights", None)  # calling it would be an error
  variables = layer.init(jax.random.key(0), tokens)
  assert list(variables) == ["params"]
  jax.grad(lambda v: layer.apply(v, tokens).sum())(variables)
  with pytest.raises(TypeError, match="NoneType"):
    layer.apply(variables, tokens, mutable=["intermediates"])


def test_outputs_and_gradients_are_the_same_whether_it_is_asked_or_not():
  layer, tokens = SelfAttention(2), random(2, 5, 8)
  variables = layer.init(jax.random.key(0), tokens)
  asked = lambda v: layer.apply(v, tokens, mutable=["intermediates"])[0].sum()
  plain = jax.value_and_grad(lambda v: layer.apply(v, tokens).sum())(variables)
  jax.tree.map(np.testing.assert_array_equal, plain, jax.value_and_grad(asked)(variables))


@pytest.mark.parametrize("remat", [False, True])
def test_of_a_vit_the_last_block_is_shown(remat):
  vit, images = ViT(12, 3, 2, 8, remat=remat), random(2, 16, 16, 3)
  params = vit.init(jax.random.key(0), images)["params"]
  _, sown = vit.apply({"params": params}, images, mutable=["intermediates"])
  (weights,) = sown["intermediates"]["block_2"]["attention"]["weights"]
  found = class_attention(vit, params, images)
  np.testing.assert_allclose(found, weights[:, :, 0, 1:].mean(1), atol=1e-6)
  np.testing.assert_allclose(found.sum(1) + weights[:, :, 0, 0].mean(1), 1, atol=1e-6)


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_every_kind_of_model_has_a_map_of_each_image_it_takes(folders, name, modality):
  model = sbir.from_pretrained(folders[name])
  maps = class_token_attention(model, noise(3), modality)
  assert (maps.shape, maps.dtype) == ((3, SIDE // 8, SIDE // 8), np.float32)
  assert (maps >= 0).all() and (maps.max(axis=(1, 2)) == 1).all()
  alone = class_token_attention(model, noise(3)[1:2], modality)
  np.testing.assert_allclose(alone[0], maps[1], atol=1e-5)


def test_pskd_shows_what_its_fusion_token_reads_not_the_other():
  model = pskd_tiny.make_net(depth=2)
  params, images = pskd_tiny.random_params(model), random(2, pskd_tiny.IMAGE, pskd_tiny.IMAGE, 3)
  _, sown = model.apply({"params": params}, images, mutable=["intermediates"])
  (weights,) = sown["intermediates"]["backbone"]["block_1"]["attention"]["weights"]
  found = fusion_attention(model, params, images)
  np.testing.assert_allclose(found, weights[:, :, 1, 2:].mean(1), atol=1e-6)
  assert np.abs(found - weights[:, :, 0, 2:].mean(1)).max() > 1e-4


def test_maps_are_divided_by_their_largest_row_by_row():
  shares = np.array([[0.1, 0.2, 0.05, 0.4], [0, 0, 0, 0]])
  np.testing.assert_allclose(as_maps(shares)[0], [[0.25, 0.5], [0.125, 1]])
  np.testing.assert_array_equal(as_maps(shares)[1], np.zeros((2, 2)))


@pytest.mark.parametrize(
  ("images", "modality", "message"),
  [
    (noise(1, side=8), "photo", r"squares are uint8[1, 8, 8, 3], expected uint8[b, 16, 16, 3]"),
    (noise(1)[0], "photo", r"squares are uint8[16, 16, 3], expected"),
    (noise(1) / 255, "photo", r"squares are float64[1, 16, 16, 3], expected"),
    (noise(0), "photo", "at least one"),
    (noise(1), "sketch", "modality='sketch', but this model takes photos"),
  ],
)
def test_other_images_are_refused_in_one_line(folders, images, modality, message):
  model = sbir.from_pretrained(folders["xmodal-student"])
  with pytest.raises(UserError, match=re.escape(message)):
    class_token_attention(model, images, modality)


def test_heat_is_red_where_it_is_most_and_leaves_the_rest_of_the_image_alone():
  image = np.full((40, 40, 3), 255, np.uint8)
  picture = laid_over(image, np.array([[1.0, 0], [0, 0]]))
  red, other = picture[5, 5].astype(int), picture[35, 35]
  assert red[0] > red[1] + 60 and red[0] > red[2] + 60
  np.testing.assert_array_equal(other, [255, 255, 255])


def test_pictures_have_the_size_of_the_images(folders):
  model = sbir.from_pretrained(folders["vit"])
  pictures = attention_pictures(model, noise(2), "photo")
  assert (pictures.shape, pictures.dtype) == ((2, SIDE, SIDE, 3), np.uint8)

"""What PSKD's networks are shown of an image in training and in evaluation."""

import jax
import numpy as np
import pytest

from pskd.views import plain_view, training_view
from sbir.data import augment
from sbir.data.gradients import oriented_gradients
from tests.pskd_tiny import AS_IT_IS, IMAGE, PLAIN, make_batch, recipe
from tests.xmodal_tiny import quick_jit

KEY = jax.random.key(0)
FLIPPED = AS_IT_IS | {"flip": 1.0}


def photos(num=4, side=IMAGE):
  return make_batch(num, 1, side=side)["photo"]


def view(images, recipe, key=KEY, size=IMAGE):
  run = quick_jit(lambda keys, images: training_view(keys, images, recipe, size))
  return np.asarray(run(jax.random.split(key, len(images)), images))


def test_evaluation_sees_the_pixels_normalised():
  images = photos()
  mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
  np.testing.assert_allclose(plain_view(images, PLAIN), (images / 255 - mean) / std, atol=1e-5)


@pytest.mark.parametrize("gradients", [False, True])
def test_with_all_probabilities_zero_training_sees_what_evaluation_sees(gradients):
  same = recipe(**AS_IT_IS, gradients=gradients)
  np.testing.assert_allclose(view(photos(), same), plain_view(photos(), same), atol=1e-5)


@pytest.mark.parametrize("crop", [(1.0, 1.0), (0.14, 1.0)])
def test_images_read_larger_are_shown_at_the_size_of_the_network(crop):
  seen = view(photos(side=24), recipe(**AS_IT_IS | {"crop": crop}))
  assert seen.shape == (4, IMAGE, IMAGE, 3)


def test_a_whole_crop_of_a_larger_image_is_that_image_resized():
  flat = np.broadcast_to(np.uint8([10, 100, 200]), (2, 24, 24, 3))
  small = np.broadcast_to(np.uint8([10, 100, 200]), (2, IMAGE, IMAGE, 3))
  np.testing.assert_allclose(view(flat, PLAIN), plain_view(small, PLAIN), atol=1e-5)


@pytest.mark.parametrize(
  "changes",
  [
    {"crop": (0.14, 1.0)},
    {"flip": 0.5},
    {"jitter": 1.0},
    {"gray": 0.5},
    {"blur": 0.5},
    {"solarise": 0.5},
  ],
  ids=lambda changes: next(iter(changes)),
)
def test_each_switch_changes_some_images_anew_with_each_key(changes):
  """Of eight copies of one image some differ, and one key draws the same twice."""
  copies, drawn = photos(1).repeat(8, axis=0), recipe(**AS_IT_IS | changes)
  run = quick_jit(lambda key: training_view(jax.random.split(key, 8), copies, drawn, IMAGE))
  one, again, other = (np.asarray(run(jax.random.key(seed))) for seed in (1, 1, 2))
  np.testing.assert_array_equal(one, again)
  assert np.abs(one - other).max() > 0.1
  assert np.abs(one - one[:1]).max() > 0.1
  assert np.abs(one - np.asarray(plain_view(copies, drawn))).max() > 0.1


def test_the_published_recipe_draws_all_of_it_and_keeps_to_the_colours_there_are():
  seen = view(photos(8, side=24), recipe())
  lowest, highest = (plain_view(np.full((1, 1, 1, 3), c, np.uint8), PLAIN) for c in (0, 255))
  assert seen.shape == (8, IMAGE, IMAGE, 3)
  assert (seen >= lowest - 1e-4).all() and (seen <= highest + 1e-4).all()


def test_a_flip_of_probability_one_mirrors_every_image():
  seen = view(photos(), recipe(**FLIPPED))
  np.testing.assert_allclose(seen, plain_view(photos()[:, :, ::-1], PLAIN), atol=1e-5)


def unit(seen):
  """Returns a view as it was before it was normalised."""
  return seen * np.array([0.229, 0.224, 0.225]) + np.array([0.485, 0.456, 0.406])


def test_colours_are_changed_before_they_are_normalised():
  gray = unit(view(photos(), recipe(**AS_IT_IS | {"gray": 1.0})))
  np.testing.assert_allclose(gray, gray[..., :1].repeat(3, axis=-1), atol=1e-5)
  pixels = photos() / 255
  turned = np.where(photos() >= 128, 1 - pixels, pixels)
  solarised = unit(view(photos(), recipe(**AS_IT_IS | {"solarise": 1.0})))
  np.testing.assert_allclose(solarised, turned, atol=1e-5)


def test_gradients_are_taken_after_an_image_is_mirrored():
  # A mirrored slope has another orientation; mirroring the finished map would keep the old one.
  seen = view(photos(), recipe(**FLIPPED, gradients=True, mean=(1.0,) * 3, std=(0.5,) * 3))
  mirrored = oriented_gradients(augment.to_unit(photos()[:, :, ::-1]))
  np.testing.assert_allclose(seen, augment.normalise(mirrored, 1.0, 0.5), atol=1e-4)

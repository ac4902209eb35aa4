"""What the networks are shown of a pair in training and in evaluation."""

import functools

import jax
import numpy as np
import pytest

from sbir.data import augment
from sbir.data.gradients import oriented_gradients
from tests.xmodal_tiny import make_batch, quick_jit
from xmodal.views import Recipe, fresh_keys, plain_view, stored_keys, training_views

ALL_RANDOM = Recipe(flip=0.5, degrees=10, scale=0.2, shift=0.1, gray=0.5, jitter=0.4)
SKETCHES = ("sketch", "sketch_positive")


def images():
  return {name: pixels for name, pixels in make_batch().items() if name != "id"}


def fresh_views(recipe):
  return quick_jit(lambda: training_views(fresh_keys(jax.random.key(0), 8), images(), recipe))()


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(gradients=True, mean=1.0)])
def test_without_augmentation_training_sees_what_evaluation_sees(recipe):
  views = fresh_views(recipe)
  for name, pixels in images().items():
    np.testing.assert_allclose(views[name], plain_view(pixels, recipe), atol=1e-5, err_msg=name)


def test_with_gradients_even_white_paper_is_zero():
  paper = np.full((1, 16, 16, 3), 255, np.uint8)
  view = plain_view(paper, Recipe(gradients=True, mean=1.0))
  np.testing.assert_allclose(view, 0, atol=1e-6)


def test_gradients_are_taken_after_an_image_is_mirrored():
  # A mirrored slope has another orientation; mirroring the finished map would keep the old one.
  views = fresh_views(Recipe(flip=1.0, gradients=True))
  mirrored = augment.to_unit(images()["sketch"][:, :, ::-1])
  expected = augment.normalise(oriented_gradients(mirrored), 0.5, 0.5)
  np.testing.assert_allclose(views["sketch"], expected, atol=1e-4)


def test_what_is_drawn_at_random_makes_a_recipe_random_and_how_it_is_normalised_does_not():
  for name in ("flip", "degrees", "scale", "shift", "gray", "jitter"):
    assert Recipe(**{name: 0.5}).is_random(), name
  still = Recipe(gradients=True, mean=1.0, std=0.25)
  assert not still.is_random()
  assert still._replace(flip=0.5, jitter=0.1).plain() == still


@functools.cache
def stored(recipe, seed=0):
  def views(batch):
    keys = stored_keys(seed, batch["sketch_index"], batch["view"])
    return training_views(keys, {name: batch[name] for name in ("photo", "sketch")}, recipe)

  return quick_jit(views)


def stored_batch(rows=range(8), view=0):
  """Returns 8 pairs: four photos twice, each time with another sketch."""
  photo, pixels = np.arange(8) % 4, make_batch()
  batch = {"photo": pixels["photo"][photo], "sketch": pixels["sketch"]}
  batch |= {"sketch_index": np.arange(4, 12, dtype=np.int32), "view": np.full(8, view, np.int32)}
  return {name: values[list(rows)] for name, values in batch.items()}


def differ(one, other):
  """Returns which rows differ."""
  return np.abs(np.asarray(one) - np.asarray(other)).max(axis=(1, 2, 3)) > 1e-3


def test_a_stored_view_is_the_same_whatever_else_is_in_the_batch():
  whole, rows = stored(ALL_RANDOM)(stored_batch()), [6, 1, 3]
  part = stored(ALL_RANDOM)(stored_batch(rows))
  for name, view in whole.items():
    np.testing.assert_allclose(part[name], view[np.array(rows)], atol=1e-6, err_msg=name)


def test_a_photo_has_other_stored_views_beside_each_of_its_sketches():
  views = stored(ALL_RANDOM)(stored_batch())
  assert differ(views["photo"][:4], views["photo"][4:]).all()


def test_other_views_seeds_and_sketches_are_drawn_otherwise():
  first = stored(ALL_RANDOM)(stored_batch())
  moved = {**stored_batch(), "sketch_index": np.arange(5, 13, dtype=np.int32)}
  others = [stored(ALL_RANDOM)(stored_batch(view=1)), stored(ALL_RANDOM, 1)(stored_batch())]
  for other in (*others, stored(ALL_RANDOM)(moved)):
    for name, view in first.items():
      assert differ(view, other[name]).all(), name


@pytest.mark.parametrize("kind", ["fresh", "stored"])
def test_a_pair_is_mirrored_together_as_its_photos_key_says(kind):
  recipe, batch = Recipe(flip=0.5), stored_batch()
  views = fresh_views(recipe) if kind == "fresh" else stored(recipe)(batch)
  batch = images() if kind == "fresh" else batch
  mirrored = {name: differ(view, plain_view(batch[name], recipe)) for name, view in views.items()}
  assert 0 < mirrored["photo"].sum() < 8
  for name in mirrored.keys() - {"photo"}:
    np.testing.assert_array_equal(mirrored[name], mirrored["photo"], err_msg=name)


def test_a_sketchs_view_needs_no_photo_to_be_the_same():
  def alone(batch):
    keys = stored_keys(0, batch["sketch_index"], batch["view"])
    return training_views(keys, {"sketch": batch["sketch"]}, ALL_RANDOM)

  views = quick_jit(alone)(stored_batch())
  assert list(views) == ["sketch"]
  np.testing.assert_array_equal(views["sketch"], stored(ALL_RANDOM)(stored_batch())["sketch"])

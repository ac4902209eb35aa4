"""What the networks are shown of a pair in training and in evaluation."""

import jax
import numpy as np
import pytest

from sbir.data import augment
from sbir.data.gradients import oriented_gradients
from tests.xmodal_tiny import make_batch, quick_jit
from xmodal.views import Recipe, plain_view, training_views


def images():
  return {name: pixels for name, pixels in make_batch().items() if name != "id"}


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(gradients=True, mean=1.0)])
def test_without_augmentation_training_sees_what_evaluation_sees(recipe):
  views = quick_jit(lambda: training_views(jax.random.key(0), images(), recipe))()
  for name, pixels in images().items():
    np.testing.assert_allclose(views[name], plain_view(pixels, recipe), atol=1e-5, err_msg=name)


def test_with_gradients_even_white_paper_is_zero():
  paper = np.full((1, 16, 16, 3), 255, np.uint8)
  view = plain_view(paper, Recipe(gradients=True, mean=1.0))
  np.testing.assert_allclose(view, 0, atol=1e-6)


def test_gradients_are_taken_after_an_image_is_mirrored():
  # A mirrored slope has another orientation; mirroring the finished map would keep the old one.
  views = quick_jit(
    lambda: training_views(jax.random.key(0), images(), Recipe(flip=1.0, gradients=True))
  )()
  mirrored = augment.to_unit(images()["sketch"][:, :, ::-1])
  expected = augment.normalise(oriented_gradients(mirrored), 0.5, 0.5)
  np.testing.assert_allclose(views["sketch"], expected, atol=1e-4)

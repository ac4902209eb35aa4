"""Oriented gradients: what they show of an edge, and what they do not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir.data.gradients import oriented_gradients
from tests.xmodal_tiny import quick_jit

SIDE = 16
find = quick_jit(oriented_gradients)


def noise():
  return np.random.default_rng(0).uniform(0.2, 0.8, (2, SIDE, SIDE, 3)).astype(np.float32)


def edge(angle):
  """Returns an image that rises from 0 to 1 towards `angle`, in degrees, over its middle half."""
  y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
  turn = np.deg2rad(angle)
  ramp = np.clip((x * np.cos(turn) + y * np.sin(turn)) / (SIDE / 2) + 0.5, 0, 1)
  return np.repeat(ramp[None, ..., None], 3, axis=-1).astype(np.float32)


def test_an_even_image_is_white():
  np.testing.assert_allclose(find(np.full((1, SIDE, SIDE, 3), 0.3, np.float32)), 1, atol=1e-6)


@pytest.mark.parametrize(("angle", "channel"), [(0, 0), (60, 1), (120, 2), (180, 0), (240, 1)])
def test_an_edge_is_darkest_in_the_channel_of_its_orientation(angle, channel):
  middle = np.asarray(find(edge(angle)))[0, SIDE // 2, SIDE // 2]
  assert middle.argmin() == channel
  # cos^4 of 60 degrees is 1/16, and its root 1/4: the other two show a quarter of the strength.
  others = np.delete(middle, channel)
  np.testing.assert_allclose(1 - others, (1 - middle[channel]) / 4, atol=1e-3)


def test_an_edge_halfway_between_two_orientations_shows_equally_in_both():
  middle = np.asarray(find(edge(90)))[0, SIDE // 2, SIDE // 2]
  np.testing.assert_allclose(middle[1], middle[2], atol=1e-5)
  np.testing.assert_allclose(middle[0], 1, atol=1e-3)


def test_a_negative_looks_like_the_image_itself():
  np.testing.assert_allclose(find(1 - noise()), find(noise()), atol=2e-3)


def test_of_channels_as_steep_as_each_other_the_first_counts():
  """In bytes: red rises to the right, blue downwards by just as much, at other brightness."""
  y, x = np.mgrid[:SIDE, :SIDE]
  levels = np.stack([3 * x + 100, 0 * x, 3 * y + 17], axis=-1)[None].astype(np.float32)
  found = np.asarray(find(levels / 255))[:, 4:-4, 4:-4]
  levels[..., 2] = 0
  np.testing.assert_allclose(found, np.asarray(find(levels / 255))[:, 4:-4, 4:-4], atol=1e-5)


def test_a_picture_in_bytes_has_the_same_gradients_compiled_and_not():
  images = np.random.default_rng(0).integers(0, 8, (8, 4 * SIDE, 4 * SIDE, 3)) * 30
  images = images.astype(np.float32) / 255
  compiled = jax.jit(oriented_gradients)(images)  # optimised: with other roundings
  np.testing.assert_allclose(compiled, oriented_gradients(images), atol=1e-5)


def test_contrast_and_brightness_do_not_matter():
  np.testing.assert_allclose(find(noise() * 0.5 + 0.1), find(noise()), atol=2e-3)


def test_the_steepest_colour_channel_counts():
  coloured = np.concatenate([edge(0)[..., :1], edge(90)[..., :1] / 4, edge(90)[..., :1] / 4], -1)
  np.testing.assert_array_equal(
    np.asarray(find(coloured))[0, 8, 8].argmin(), np.asarray(find(edge(0)))[0, 8, 8].argmin()
  )


def test_values_lie_between_nothing_and_the_steepest():
  maps = np.asarray(find(noise()))
  assert maps.min(axis=(1, 2, 3)) == pytest.approx(0, abs=1e-5)
  assert maps.max() <= 1


def test_each_image_is_scaled_by_itself():
  first, second = noise()
  alone = find(jnp.stack([first, first]))[0]
  np.testing.assert_allclose(find(jnp.stack([first, second * 0.1]))[0], alone, atol=1e-6)

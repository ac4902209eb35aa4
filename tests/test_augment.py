"""Augmentation: what each op does to images a reader can work out by hand, and never does."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbir.data import augment
from sbir.data.augment import Affine, Jitter

SIDE = 8
SEEDS = st.integers(0, 2**31 - 1)
few = settings(max_examples=20, deadline=None)


# Compiled once here: op by op, XLA compiles each of their twenty small steps alone.
crop = jax.jit(augment.crop, static_argnames=("size", "method", "fill"))
affine = jax.jit(augment.affine, static_argnames="fill")
sample_crops = jax.jit(augment.sample_crops, static_argnames=("b", "ratio"))
sample_affines = jax.jit(augment.sample_affines, static_argnames="b")
sample_jitters = jax.jit(augment.sample_jitters, static_argnames=("b", "brightness"))
sample_flips = jax.jit(augment.sample_flips, static_argnames="b")
sample_grays = jax.jit(augment.sample_grays, static_argnames="b")
jitter = jax.jit(augment.jitter)


def noise(b=3, side=SIDE, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.random((b, side, side, 3)), jnp.float32)


def ramp(side=SIDE):
  """Rises from left to right by 1/16 a pixel, the same in every row and channel."""
  return jnp.broadcast_to(jnp.arange(side)[None, None, :, None] / 16, (1, side, side, 3))


def moves(angle=0.0, scale=1.0, down=0.0, right=0.0, b=1):
  return Affine(*(jnp.full(b, part) for part in (angle, scale, down, right)))


def recolour(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, b=1):
  return Jitter(*(jnp.full(b, part) for part in (brightness, contrast, saturation, hue)))


def near(actual, expected, atol=1e-6):
  np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def test_normalise_maps_bytes_to_the_range_the_towers_expect():
  images = jnp.array([0, 51, 255], jnp.uint8).reshape(1, 1, 1, 3)
  near(augment.normalise(images).ravel(), [-1, -0.6, 1])
  near(augment.normalise(images, (0, 0.2, 0.5), (1, 2, 0.25)).ravel(), [0, 0, 2])


def test_normalise_takes_augmented_floats_as_they_are():
  images = jnp.arange(0, 256, dtype=jnp.uint8)[:255].reshape(1, 5, 17, 3)
  near(augment.normalise(augment.to_unit(images)), augment.normalise(images))


def test_flipping_twice_gives_the_image_back():
  images, flips = noise(), jnp.array([True, False, True])
  once = augment.flip(images, flips)
  near(once[0], images[0, :, ::-1], 0)
  near(once[1], images[1], 0)
  near(augment.flip(once, flips), images, 0)


@few
@given(SEEDS)
def test_probability_zero_draws_nothing_and_one_draws_all(seed):
  key = jax.random.key(seed)
  for sample in (sample_flips, sample_grays):
    assert not sample(key, 32, 0.0).any()
    assert sample(key, 32, 1.0).all()


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_the_whole_image_as_box_changes_nothing(method):
  images = noise()
  boxes = jnp.tile(jnp.array([0.0, 0.0, 1.0, 1.0]), (3, 1))
  near(crop(images, boxes, method=method), images)


def test_a_crop_of_a_ramp_is_the_ramp_between_the_edges_of_the_box():
  # The box spans columns 2 to 6 of 8; four output columns see exactly these, eight see half steps.
  box = jnp.array([[0.5, 0.25, 0.5, 0.5]])
  near(crop(ramp(), box, size=4)[0, 0, :, 0], jnp.array([2, 3, 4, 5]) / 16)
  expected = (jnp.arange(8) / 2 + 1.75) / 16
  near(crop(ramp(), box)[0, 3, :, 0], expected)


def test_a_crop_takes_rows_from_the_top_and_columns_from_the_left():
  images = noise(1)
  near(crop(images, jnp.array([[0.5, 0.25, 0.25, 0.25]]), size=2), images[:, 4:6, 2:4])


def test_a_tall_box_is_stretched_sideways_only():
  images = noise(1)
  out = crop(images, jnp.array([[0.0, 0.5, 1.0, 0.25]]), size=SIDE)
  # Columns 4 and 5 become four each; the two about the middle see both, 5/8 to 3/8 and mirrored.
  near(out[:, :, 3], 0.625 * images[:, :, 4] + 0.375 * images[:, :, 5])
  near(out[:, :, 4], 0.375 * images[:, :, 4] + 0.625 * images[:, :, 5])


def test_a_cubic_crop_does_not_leave_the_range_of_images():
  edge = jnp.where(jnp.arange(SIDE) < 4, 0.0, 1.0)
  images = jnp.broadcast_to(edge[None, None, :, None], (1, SIDE, SIDE, 3))
  out = crop(images, jnp.array([[0.25, 0.25, 0.5, 0.5]]), method="cubic")
  assert (out >= 0).all() and (out <= 1).all()


def test_shrinking_averages_instead_of_skipping_pixels():
  every_fourth = jnp.where(jnp.arange(32) % 4 == 0, 1.0, 0.0)
  images = jnp.broadcast_to(every_fourth[None, None, :, None], (1, 32, 32, 3))
  small = crop(images, jnp.array([[0.0, 0.0, 1.0, 1.0]]), size=8)
  near(small[:, :, 1:-1], 0.25, 0.05)  # 0 where nothing is smoothed: between columns 1 and 2


def test_a_box_over_the_edge_shows_the_fill_there():
  images = jnp.zeros((1, SIDE, SIDE, 3))
  box = jnp.array([[-0.5, 0.0, 1.0, 1.0]])
  out = crop(images, box, fill=0.75)
  near(out[0, :4], 0.75)
  near(out[0, 4:], 0.0)


@few
@given(SEEDS, st.floats(0.05, 0.9))
def test_sampled_boxes_lie_inside_and_keep_area_and_ratio(seed, smallest):
  boxes = sample_crops(jax.random.key(seed), 64, area=(smallest, 1.0))
  top, left, height, width = boxes.T
  assert (
    (boxes >= 0).all() and (top + height <= 1 + 1e-6).all() and (left + width <= 1 + 1e-6).all()
  )
  assert (height * width >= smallest - 1e-5).all()
  assert (width / height >= 3 / 4 - 1e-5).all() and (width / height <= 4 / 3 + 1e-5).all()


def test_sampled_areas_are_uniform_and_ratios_are_as_often_tall_as_wide():
  boxes = sample_crops(jax.random.key(0), 20_000, area=(0.1, 0.5))
  area, ratio = boxes[:, 2] * boxes[:, 3], boxes[:, 3] / boxes[:, 2]
  # Up to .5 every draw of this ratio fits, so nothing is drawn again and the law is exact.
  near(np.quantile(area, [0.25, 0.5, 0.75]), [0.2, 0.3, 0.4], 0.01)
  near((ratio > 1).mean(), 0.5, 0.02)


def test_where_no_draw_fits_the_box_is_the_whole_image():
  boxes = sample_crops(jax.random.key(0), 8, area=(1.0, 1.0), ratio=(1.2, 1.3))
  near(boxes, np.tile([0, 0, 1, 1], (8, 1)), 0)


def test_the_identity_move_changes_nothing():
  images = noise()
  for fill in (augment.WHITE, None):
    near(affine(images, moves(b=3), fill=fill), images)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_counter_clockwise(quarters):
  images = noise()
  turned = affine(images, moves(angle=quarters * np.pi / 2, b=3), fill=None)
  near(turned, jnp.rot90(images, quarters, axes=(1, 2)), 1e-5)


def test_a_shift_goes_down_and_right_and_leaves_fill_or_edge_behind():
  images = noise(1)
  for fill in (0.25, None):
    out = affine(images, moves(down=2 / SIDE, right=1 / SIDE), fill=fill)
    near(out[:, 2:, 1:], images[:, :-2, :-1])
    near(out[:, 0, 1:], images[:, 0, :-1] if fill is None else fill)
    near(out[:, 1, 1:], out[:, 0, 1:])


def test_a_scale_of_two_shows_the_middle_half():
  out = affine(ramp(), moves(scale=2.0))
  near(out[0, 3, :, 0], (jnp.arange(SIDE) / 2 + 1.75) / 16)


def test_far_outside_there_is_only_fill():
  images = jnp.zeros((1, SIDE, SIDE, 3))
  near(affine(images, moves(right=3.0), fill=1.0), 1.0)


@few
@given(SEEDS)
def test_sampled_moves_stay_in_their_ranges(seed):
  drawn = sample_affines(jax.random.key(seed), 64, degrees=15.0, scale=(0.8, 1.1), shift=0.125)
  assert (abs(drawn.angle) <= np.deg2rad(15) + 1e-6).all()
  assert ((drawn.scale >= 0.8) & (drawn.scale <= 1.1)).all()
  assert (abs(drawn.down) <= 0.125).all() and (abs(drawn.right) <= 0.125).all()


def test_the_identity_jitter_changes_nothing():
  near(jitter(noise(), recolour(b=3)), noise())


def test_brightness_is_a_factor_cut_at_white():
  near(jitter(ramp(), recolour(brightness=3.0)), jnp.minimum(ramp() * 3, 1))


def test_brightness_is_cut_before_contrast_turns_about_the_mean():
  halves = jnp.where(jnp.arange(SIDE) < 4, 0.0, 0.5)
  images = jnp.broadcast_to(halves[None, None, :, None], (1, SIDE, SIDE, 3))
  out = jitter(images, recolour(brightness=4.0, contrast=0.5))[0, 0, :, 0]
  near(out[::7], [0.25, 0.75])  # 0 and 1 about .5; uncut it would be 0 and 2 about 1


def test_contrast_zero_leaves_the_mean_gray():
  images = noise(1)
  mean = float((images.mean((0, 1, 2)) * jnp.array(augment.LUMA)).sum())
  near(jitter(images, recolour(contrast=0.0)), mean)


def test_saturation_zero_is_grayscale():
  images = noise()
  gray = augment.grayscale(images, jnp.ones(3, bool))
  near(jitter(images, recolour(saturation=0.0, b=3)), gray)
  near(gray[..., 0], images @ jnp.array(augment.LUMA))


def test_grayscale_leaves_the_others_alone():
  out = augment.grayscale(noise(), jnp.array([False, True, False]))
  near(out[::2], noise()[::2], 0)
  assert np.ptp(out[1], axis=-1).max() == 0


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.25, 1 / 3])
def test_turning_the_hue_agrees_with_colorsys(turn):
  colours = [*noise(1)[0].reshape(-1, 3).tolist(), (1, 1, 1), (0, 0, 0), (0.5, 0.5, 0.5)]
  colours += [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)]
  out = jitter(jnp.array(colours)[None, None], recolour(hue=turn))[0, 0]
  for colour, found in zip(colours, out, strict=True):
    h, s, v = colorsys.rgb_to_hsv(*colour)
    near(found, colorsys.hsv_to_rgb((h + turn) % 1, s, v), 1e-5)


@few
@given(SEEDS)
def test_sampled_jitters_stay_in_their_ranges(seed):
  drawn = sample_jitters(jax.random.key(seed), 64, hue=0.1, brightness=1.5, probability=1.0)
  assert ((drawn.brightness >= 0) & (drawn.brightness <= 2.5)).all()
  assert (abs(drawn.contrast - 1) <= 0.4).all() and (abs(drawn.saturation - 1) <= 0.2).all()
  assert (abs(drawn.hue) <= 0.1).all() and (drawn.hue < 0).any()


def test_jitter_leaves_the_rest_untouched_as_often_as_it_is_told():
  drawn = sample_jitters(jax.random.key(1), 4000, probability=0.8)
  untouched = jnp.stack([drawn.brightness == 1, drawn.contrast == 1, drawn.hue == 0])
  assert (untouched.all(0) == untouched.any(0)).all()  # all of an image's ops together
  near(untouched[0].mean(), 0.2, 0.03)


OPS = {
  "flip": (sample_flips, augment.flip),
  "crop": (sample_crops, crop),
  "affine": (sample_affines, affine),
  "jitter": (sample_jitters, jitter),
  "grayscale": (sample_grays, augment.grayscale),
}


@pytest.mark.parametrize("name", OPS)
def test_an_op_is_a_function_of_its_key_and_stays_in_range(name):
  sample, apply = OPS[name]

  def run(key, images):
    return apply(images, sample(key, len(images)))

  images = noise(16)
  first = run(jax.random.key(3), images)
  assert first.shape == images.shape and first.dtype == jnp.float32
  assert (first >= 0).all() and (first <= 1).all()
  near(run(jax.random.key(3), images), first, 0)
  assert (run(jax.random.key(4), images) != first).any()


@pytest.mark.parametrize("name", OPS)
def test_parameters_drawn_once_treat_photo_and_sketch_alike(name):
  sample, apply = OPS[name]
  parameters = sample(jax.random.key(5), 16)
  photo = apply(noise(16), parameters)
  near(apply(noise(16), parameters), photo, 0)
  drawn = np.asarray(jax.tree.leaves(parameters)[0])
  assert len(np.unique(drawn, axis=0)) > 1  # but each image its own

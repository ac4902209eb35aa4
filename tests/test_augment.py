"""Moving images: what each op does where a reader can work it out, and that PIL does the same."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sbir.data import augment
from sbir.data.augment import Affine
from tests.pictures import SEEDS, SIDE, few, near, noise

# Compiled once here: op by op, XLA compiles each of their twenty small steps alone.
crop = jax.jit(augment.crop, static_argnames=("size", "method", "fill"))
affine = jax.jit(augment.affine, static_argnames="fill")
sample_crops = jax.jit(augment.sample_crops, static_argnames=("b", "ratio"))
sample_affines = jax.jit(augment.sample_affines, static_argnames="b")
sample_flips = jax.jit(augment.sample_flips, static_argnames="b")


def ramp(side=SIDE):
  """Rises from left to right by 1/16 a pixel, the same in every row and channel."""
  return jnp.broadcast_to(jnp.arange(side)[None, None, :, None] / 16, (1, side, side, 3))


def black_and_white(b=3, side=SIDE, seed=0):
  """Returns noise as bytes, of 0 and 255 only: nothing overshoots more when resized."""
  rng = np.random.default_rng(seed)
  return (rng.integers(0, 2, (b, side, side, 3)) * 255).astype(np.uint8)


def moves(angle=0.0, scale=1.0, down=0.0, right=0.0, b=1):
  return Affine(*(jnp.full(b, part) for part in (angle, scale, down, right)))


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


def test_a_mirrored_image_is_the_one_pil_mirrors():
  pixels = black_and_white(1)
  expected = np.asarray(ImageOps.mirror(Image.fromarray(pixels[0])))
  near(augment.flip(augment.to_unit(pixels), jnp.array([True]))[0] * 255, expected, 0)


@few
@given(SEEDS)
def test_probability_zero_draws_nothing_and_one_draws_all(seed):
  key = jax.random.key(seed)
  assert not sample_flips(key, 32, 0.0).any()
  assert sample_flips(key, 32, 1.0).all()


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


@pytest.mark.parametrize("method", ["linear", "cubic"])
@pytest.mark.parametrize("size", [12, 64])
def test_crops_are_those_pil_resizes(method, size):
  pixels = black_and_white(24, 32)
  boxes = sample_crops(jax.random.key(0), 24, area=(0.14, 1.0), ratio=(3 / 4, 4 / 3))
  found = crop(augment.to_unit(pixels), boxes, size=size, method=method)
  filters = {"linear": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC}
  for image, (top, left, height, width), ours in zip(pixels, np.asarray(boxes), found, strict=True):
    corners = np.clip([left, top, left + width, top + height], 0, 1) * 32
    expected = Image.fromarray(image).resize((size, size), filters[method], tuple(corners))
    # PIL rounds to bytes after each axis: half a level, which the second axis' weights, 1.25 in
    # absolute sum for cubic, enlarge, and another half.
    near(ours * 255, np.asarray(expected), 1.2)


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


def torchvision_boxes(b, area, ratio, side=10_000, tries=10):
  """Returns boxes as RandomResizedCrop.get_params draws them, for an image of `side` pixels."""
  rng = np.random.default_rng(0)

  def draw():
    for _ in range(tries):
      pixels = side * side * rng.uniform(*area)
      aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
      width, height = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
      if width <= side and height <= side:
        return rng.integers(0, side - height + 1), rng.integers(0, side - width + 1), height, width
    return 0, 0, side, side

  return np.array([draw() for _ in range(b)]) / side


def test_boxes_are_distributed_as_torchvision_draws_them():
  area, ratio, b = (0.14, 1.0), (3 / 4, 4 / 3), 20_000
  ours = np.asarray(sample_crops(jax.random.key(0), b, area=area, ratio=ratio))
  theirs = torchvision_boxes(b, area, ratio)

  def quantiles(boxes):
    top, left, height, width = boxes.T
    numbers = np.stack([height * width, width / height, top, left])
    return np.quantile(numbers, [0.1, 0.25, 0.5, 0.75, 0.9], axis=1)

  # A median of 20 000 draws from a range of .9 is good to .003, the difference of two to .0045.
  near(quantiles(ours), quantiles(theirs), 0.014)


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


OPS = {
  "flip": (sample_flips, augment.flip),
  "crop": (sample_crops, crop),
  "affine": (sample_affines, affine),
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

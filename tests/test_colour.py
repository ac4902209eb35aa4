"""Recolouring and blurring: what each op does by hand, and how near it comes to PIL."""

import colorsys
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from sbir.data import colour
from sbir.data.augment import to_unit
from sbir.data.colour import Jitter
from tests.pictures import SEEDS, SIDE, few, near, noise

# Compiled once here: op by op, XLA compiles each of their many small steps alone.
sample_jitters = jax.jit(colour.sample_jitters, static_argnames=("b", "brightness"))
sample_orders = jax.jit(colour.sample_orders, static_argnames="b")
sample_grays = jax.jit(colour.sample_grays, static_argnames="b")
sample_solarised = jax.jit(colour.sample_solarised, static_argnames="b")
sample_blurs = jax.jit(colour.sample_blurs, static_argnames="b")
jitter = jax.jit(colour.jitter)
jitter_in_order = jax.jit(colour.jitter_in_order)
blur = jax.jit(colour.blur)


def photos(b, side=32):
  """Returns bytes: every other image is noise, the others colours that run into each other."""
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (b, side, side, 3), np.uint8)
  for i in range(0, b, 2):
    pixels[i] = Image.fromarray(pixels[i, :4, :4]).resize((side, side), Image.Resampling.BICUBIC)
  return pixels


def with_pil(op, pixels, *parameters):
  """Returns op(PIL image, its parameters) of each image, as bytes."""
  rows = zip(pixels, *(np.asarray(each).tolist() for each in parameters), strict=True)
  return np.stack([np.asarray(op(Image.fromarray(image), *own)) for image, *own in rows])


def recolour(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, b=1):
  parts = (brightness, contrast, saturation, hue)
  return Jitter(*(jnp.broadcast_to(jnp.asarray(part, jnp.float32), (b,)) for part in parts))


def halves(low, high):
  """Returns one gray image, `low` in its left half and `high` in its right."""
  row = jnp.where(jnp.arange(SIDE) < SIDE // 2, low, high)
  return jnp.broadcast_to(row[None, None, :, None], (1, SIDE, SIDE, 3))


def test_the_identity_jitter_changes_nothing():
  near(jitter(noise(), recolour(b=3)), noise())
  near(jitter_in_order(noise(), recolour(b=3), sample_orders(jax.random.key(0), 3)), noise())


def test_brightness_is_a_factor_cut_at_white():
  near(jitter(halves(0.2, 0.4), recolour(brightness=3.0)), halves(0.6, 1.0))


def test_brightness_is_cut_before_contrast_turns_about_the_mean():
  out = jitter(halves(0.0, 0.5), recolour(brightness=4.0, contrast=0.5))
  near(out, halves(0.25, 0.75))  # 0 and 1 about .5; uncut it would be 0 and 2 about 1


def test_contrast_zero_leaves_the_mean_gray():
  images = noise(1)
  mean = float((images.mean((0, 1, 2)) * jnp.array(colour.LUMA)).sum())
  near(jitter(images, recolour(contrast=0.0)), mean)


def test_saturation_zero_is_grayscale():
  images = noise()
  gray = colour.grayscale(images, jnp.ones(3, bool))
  near(jitter(images, recolour(saturation=0.0, b=3)), gray)
  near(gray[..., 0], images @ jnp.array(colour.LUMA))


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.25, 1 / 3])
def test_turning_the_hue_agrees_with_colorsys(turn):
  colours = [*noise(1)[0].reshape(-1, 3).tolist(), (1, 1, 1), (0, 0, 0), (0.5, 0.5, 0.5)]
  colours += [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)]
  out = jitter(jnp.array(colours)[None, None], recolour(hue=turn))[0, 0]
  for one, found in zip(colours, out, strict=True):
    h, s, v = colorsys.rgb_to_hsv(*one)
    near(found, colorsys.hsv_to_rgb((h + turn) % 1, s, v), 1e-5)


ENHANCERS = {
  "brightness": ImageEnhance.Brightness,
  "contrast": ImageEnhance.Contrast,
  "saturation": ImageEnhance.Color,
}


@pytest.mark.parametrize("name", ENHANCERS)
def test_stretching_agrees_with_pil(name):
  pixels, factors = photos(12), np.linspace(0.6, 1.4, 12)
  expected = with_pil(lambda image, f: ENHANCERS[name](image).enhance(f), pixels, factors)
  found = jitter(to_unit(pixels), recolour(**{name: factors}, b=12)) * 255
  # PIL rounds the gray it turns about (half a level, of which at most .4 arrives) and cuts the
  # result's fraction off: it is never brighter by more than the former.
  assert (found - expected).min() > -0.21 and (found - expected).max() < 1.21


def pil_turns_hue(image, steps):
  """Returns the image with its hue turned by `steps` of 255, as torchvision has it from PIL."""
  hue, saturation, value = image.convert("HSV").split()
  hue = Image.fromarray(np.asarray(hue) + np.uint8(steps % 256))
  return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def test_turning_the_hue_agrees_with_pil():
  pixels, steps = photos(12), np.linspace(-25, 25, 12).round().astype(int)
  expected = with_pil(pil_turns_hue, pixels, steps)
  found = jitter(to_unit(pixels), recolour(hue=steps / 255, b=12)) * 255
  # A step of PIL's hue is 6 levels of a channel. It cuts off up to one, bytes that wrap round at
  # 256 lose another, and cutting the saturation's fraction off is a level more.
  near(found, expected, 13)
  assert abs(found - expected).mean() < 1


def test_brightness_after_contrast_is_not_contrast_after_brightness():
  images = jnp.tile(halves(0.0, 0.5), (2, 1, 1, 1))
  orders = jnp.array([[0, 1, 2, 3], [3, 1, 0, 2]])
  out = jitter_in_order(images, recolour(brightness=4.0, contrast=0.5, b=2), orders)
  near(out[:1], halves(0.25, 0.75))  # 0 and .5 become 0 and 1, then half as far from .5
  near(out[1:], halves(0.5, 1.0))  # 0 and .5 become .125 and .375, then four times that


def test_each_of_the_24_orders_is_the_ops_one_after_the_other():
  orders = np.array(list(itertools.permutations(range(4))))
  parameters = {"brightness": 1.4, "contrast": 0.7, "saturation": 1.8, "hue": 0.1}
  images = noise(24)
  found = jitter_in_order(images, recolour(**parameters, b=24), jnp.asarray(orders))
  for image, order, ours in zip(images, orders, found, strict=True):
    expected = image[None]
    for name in (Jitter._fields[op] for op in order):
      expected = jitter(expected, recolour(**{name: parameters[name]}))
    near(ours, expected[0], 1e-5)


def test_every_order_is_drawn_equally_often():
  orders, counts = np.unique(sample_orders(jax.random.key(0), 12_000), axis=0, return_counts=True)
  assert orders.tolist() == [list(order) for order in itertools.permutations(range(4))]
  near(counts, 500, 100)  # standard deviation 22


def test_grayscale_leaves_the_others_alone():
  out = colour.grayscale(noise(), jnp.array([False, True, False]))
  near(out[::2], noise()[::2], 0)
  assert np.ptp(out[1], axis=-1).max() == 0


def test_grayscale_agrees_with_pil():
  pixels = photos(4)
  expected = with_pil(lambda image: image.convert("L").convert("RGB"), pixels)
  found = colour.grayscale(to_unit(pixels), jnp.ones(4, bool))
  near(found * 255, expected, 0.51)  # PIL rounds, and has the weights to 16 bits


def test_solarising_inverts_the_bright_half():
  images = halves(0.25, 0.875)
  near(colour.solarise(images, jnp.array([True])), halves(0.25, 0.125), 0)
  near(colour.solarise(images, jnp.array([False])), images, 0)


def test_solarising_agrees_with_pil_on_every_byte():
  pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
  expected = with_pil(partial(ImageOps.solarize, threshold=128), pixels)
  near(colour.solarise(to_unit(pixels), jnp.array([True])) * 255, expected, 1e-4)


def spot(side, y, x):
  return jnp.zeros((1, side, side, 3)).at[0, y, x].set(1.0)


def test_a_spot_blurred_by_the_root_of_two_is_three_boxes_of_three_pixels():
  # Variance 2 is three times that of a box of three, 2/3; [1 1 1] thrice folded, in the middle:
  row = np.array([0, 1, 3, 6, 7, 6, 3, 1, 0]) / 27
  out = blur(spot(9, 4, 4), jnp.sqrt(jnp.array([2.0])))
  near(out[0, :, :, 0], np.outer(row, row))


def test_the_edge_is_repeated_before_each_box():
  # The row 1 0 0 0 0 is 1 1 0 0 0 0 framed: 2/3 1/3 0; then 5/9 3/9 1/9; then 13/27 9/27 4/27 1/27.
  images = jnp.zeros((1, 5, 5, 3)).at[:, :, 0].set(1.0)
  out = blur(images, jnp.sqrt(jnp.array([2.0])))
  near(out[0, :, :, 0], np.tile(np.array([13, 9, 4, 1, 0]) / 27, (5, 1)))


@few
@given(st.floats(0.05, 3.0))
def test_blurring_spreads_by_the_radius_and_loses_nothing(radius):
  out = np.asarray(blur(spot(31, 15, 15), jnp.array([radius], jnp.float32)))[0, :, :, 0]
  away = np.arange(31) - 15
  near(out.sum(), 1.0, 1e-5)
  near([(out.sum(axis) * away**2).sum() for axis in (0, 1)], radius**2, 1e-3)


def test_radius_zero_changes_nothing_whatever_the_others_have():
  out = blur(noise(), jnp.array([0.0, 2.0, 0.0]))
  near(out[::2], noise()[::2], 0)
  assert abs(out[1] - noise()[1]).max() > 0.1


def test_blurring_agrees_with_pil():
  pixels, radii = photos(20)[:, :, :23], np.linspace(0.1, 2.0, 20)
  pixels[1::4] = pixels[1::4] // 128 * 255  # nothing has steeper edges
  gaussian = lambda image, radius: image.filter(ImageFilter.GaussianBlur(radius))
  expected = with_pil(gaussian, pixels, radii)
  found = blur(to_unit(pixels), jnp.asarray(radii, jnp.float32)) * 255
  # PIL rounds after each of six boxes, half a level each, and a box enlarges no difference. Its
  # roundings cancel out on average.
  near(found, expected, 3)
  assert abs(found - expected).mean() < 0.5
  near((found - expected).mean(), 0, 0.05)


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


def test_sampled_radii_are_uniform_in_their_range_as_often_as_told():
  radii = np.asarray(sample_blurs(jax.random.key(0), 20_000, radius=(0.5, 2.5), probability=0.25))
  near((radii > 0).mean(), 0.25, 0.01)  # standard deviation .003
  near(np.quantile(radii[radii > 0], [0, 0.25, 0.5, 0.75, 1]), [0.5, 1, 1.5, 2, 2.5], 0.05)


@few
@given(SEEDS)
def test_probability_zero_draws_nothing_and_one_draws_all(seed):
  key = jax.random.key(seed)
  for sample in (sample_grays, sample_solarised):
    assert not sample(key, 32, 0.0).any()
    assert sample(key, 32, 1.0).all()
  assert not sample_blurs(key, 32, probability=0.0).any()
  assert sample_blurs(key, 32, probability=1.0).all()
  for drawn, identity in zip(sample_jitters(key, 32, probability=0.0), (1, 1, 1, 0), strict=True):
    assert (drawn == identity).all()


def sample_ordered(key, b, probability=0.8):
  jitter_key, order_key = jax.random.split(key)
  return sample_jitters(jitter_key, b, probability=probability), sample_orders(order_key, b)


OPS = {
  "jitter": (sample_jitters, jitter),
  "jitter_in_order": (sample_ordered, lambda images, drawn: jitter_in_order(images, *drawn)),
  "grayscale": (sample_grays, colour.grayscale),
  "solarise": (sample_solarised, colour.solarise),
  "blur": (sample_blurs, blur),
}


def drawn_for(name, key, probability=0.5):
  return OPS[name][0](jax.random.key(key), 16, probability=probability)


@pytest.mark.parametrize("name", OPS)
def test_an_op_is_a_function_of_its_key_and_stays_in_range(name):
  apply, images = OPS[name][1], noise(16)
  first = apply(images, drawn_for(name, 3))
  assert first.shape == images.shape and first.dtype == jnp.float32
  assert (first >= 0).all() and (first <= 1).all()
  near(apply(images, drawn_for(name, 3)), first, 0)
  assert (apply(images, drawn_for(name, 4)) != first).any()


@pytest.mark.parametrize("name", OPS)
def test_with_probability_zero_an_op_changes_nothing(name):
  near(OPS[name][1](noise(16), drawn_for(name, 5, probability=0.0)), noise(16))


@pytest.mark.parametrize("name", OPS)
def test_each_image_has_parameters_of_its_own(name):
  images = jnp.tile(noise(1), (16, 1, 1, 1))
  out = np.asarray(OPS[name][1](images, drawn_for(name, 5)))
  num_kinds = len(np.unique(out.reshape(16, -1), axis=0))
  assert num_kinds == 2 if name in ("grayscale", "solarise") else num_kinds > 4

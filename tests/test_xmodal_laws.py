"""What XAQC and XMRD must obey whatever the numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.core import jaxprs_in_params

from sbir.nn.losses import l2_normalise, smooth_l1
from tests.xmodal_tiny import unit
from xmodal import queue
from xmodal.losses import in_batch_contrast, xaqc, xmrd_angle, xmrd_distance

FEW = settings(max_examples=10, deadline=None)
XMRD = {"distance": jax.jit(xmrd_distance), "angle": jax.jit(xmrd_angle)}
SEEDS = st.integers(0, 2**16)


def points(seed, num=6, width=5):
  return np.random.default_rng(seed).normal(size=(num, width)).astype(np.float32)


def started(keys, ids=None):
  ids = np.full(len(keys), -1) if ids is None else ids
  return queue.Queue(jnp.asarray(keys), jnp.asarray(ids), jnp.int32(0))


def test_the_released_scalar_target_teaches_the_contrastive_loss_nothing():
  """Why we match fused vectors: the released student's target is a pair score [b, 1].

  Of length 1 it is 1, whatever the pair; so are all keys once it has filled the queue. Every logit
  is the same, the loss is ln(k + 1) and its gradient zero.
  """
  scores = jax.nn.sigmoid(jnp.array([[-1.0], [0.3], [2.0], [0.1]]))
  target = jnp.broadcast_to(l2_normalise(scores), (4, 5))
  full = started(unit(points(1, num=12)))
  for step in range(3):
    full = queue.push(full, target, jnp.arange(4) + 4 * step)
  loss_of = lambda query: xaqc(query, target, jnp.arange(100, 104), full)
  loss, gradient = jax.value_and_grad(loss_of)(points(0, num=4))
  assert float(loss) == pytest.approx(np.log(12 + 1), rel=1e-6)
  np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_contrast_is_the_cross_entropy_of_finding_the_own_key_by_hand():
  query, key = np.float32([[1, 0], [0, 1]]), np.float32([[1, 0], [1, 0]])
  others = np.float32([[0, 1], [1, 0], [-1, 0]])
  loss = xaqc(query, key, jnp.array([0, 1]), started(others), temperature=1.0)
  first = np.log(np.exp(1) + np.exp(0) + np.exp(1) + np.exp(-1)) - 1
  second = np.log(np.exp(0) + np.exp(1) + np.exp(0) + np.exp(0)) - 0
  assert float(loss) == pytest.approx((first + second) / 2, rel=1e-6)


def test_a_key_of_the_querys_own_instance_is_no_negative():
  query, key, others = unit(points(0, num=2)), unit(points(1, num=2)), unit(points(2, num=4))
  ids = jnp.array([7, 8])
  masked = xaqc(query[:1], key[:1], ids[:1], started(others, [3, 7, 7, -1]))
  without = xaqc(query[:1], key[:1], ids[:1], started(others[[0, 3]]))
  assert float(masked) == pytest.approx(float(without), rel=1e-6)
  untouched = xaqc(query[1:], key[1:], ids[1:], started(others, [3, 7, 7, -1]))
  assert float(untouched) == pytest.approx(
    float(xaqc(query[1:], key[1:], ids[1:], started(others))), rel=1e-6
  )


def test_a_query_whose_instance_fills_the_queue_has_no_loss_and_a_finite_gradient():
  loss_of = lambda query: xaqc(
    query, unit(points(1, num=2)), jnp.array([7, 7]), started(unit(points(2, num=3)), [7, 7, 7])
  )
  loss, gradient = jax.value_and_grad(loss_of)(points(0, num=2))
  assert float(loss) == 0.0
  np.testing.assert_array_equal(gradient, 0.0)


def test_with_in_batch_the_batchs_keys_of_other_instances_are_negatives_too():
  query, key, others = (unit(points(seed, num=4)) for seed in range(3))
  ids = np.array([5, 6, 6, 9])
  loss = xaqc(query, key, jnp.asarray(ids), started(others), in_batch=True)
  by_hand = []
  for row in range(4):
    negatives = np.concatenate([others, key[ids != ids[row]]])
    logits = np.concatenate([[query[row] @ key[row]], negatives @ query[row]]) / 0.07
    by_hand.append(np.log(np.exp(logits).sum()) - logits[0])
  assert float(loss) == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_contrast_in_the_batch_alone_is_symmetric():
  photo, sketch, ids = unit(points(0, num=4)), unit(points(1, num=4)), jnp.arange(4)
  there, back = in_batch_contrast(photo, sketch, ids), in_batch_contrast(sketch, photo, ids)
  assert float(there) == pytest.approx(float(back), rel=1e-6)


def test_contrast_in_the_batch_alone_takes_no_row_of_the_same_instance_as_negative():
  photo, sketch = unit(points(0, num=2)), unit(points(1, num=2))
  assert float(in_batch_contrast(photo, sketch, jnp.array([6, 6]))) == pytest.approx(0.0, abs=1e-6)
  assert float(in_batch_contrast(photo, sketch, jnp.array([6, 7]))) > 0.1


@pytest.mark.parametrize("argument", ["key", "queue"])
def test_no_gradient_reaches_the_keys(argument):
  def loss_of(fixed):
    key, others = (fixed, points(2)) if argument == "key" else (points(1), fixed)
    return xaqc(points(0), key, jnp.arange(6), started(others))

  np.testing.assert_array_equal(jax.grad(loss_of)(jnp.asarray(points(3))), 0.0)


@pytest.mark.parametrize("loss", XMRD)
def test_no_gradient_reaches_the_teachers_points(loss):
  np.testing.assert_array_equal(jax.grad(XMRD[loss], argnums=1)(points(0), points(1)), 0.0)


@pytest.mark.parametrize("loss", XMRD)
@FEW
@given(seed=SEEDS)
def test_a_perfect_student_has_no_relational_loss(loss, seed):
  assert float(XMRD[loss](points(seed), points(seed))) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("loss", XMRD)
@FEW
@given(seed=SEEDS, scale=st.floats(0.1, 10), shift=st.floats(-2, 2), whose=st.integers(0, 1))
def test_relations_do_not_notice_rotation_scale_and_shift(loss, seed, scale, shift, whose):
  pair = [points(seed), points(seed + 1)]
  rotation, _ = np.linalg.qr(points(seed + 2, num=5))
  expected = float(XMRD[loss](*pair))
  pair[whose] = (scale * pair[whose] @ rotation + shift).astype(np.float32)
  assert float(XMRD[loss](*pair)) == pytest.approx(expected, rel=1e-4, abs=1e-6)
  assert expected > 1e-3


@pytest.mark.parametrize("loss", XMRD)
def test_student_and_teacher_may_have_different_widths(loss):
  padded = np.pad(points(0), ((0, 0), (0, 3)))
  assert float(XMRD[loss](points(0), padded)) == pytest.approx(0.0, abs=1e-9)


def unit_arms(corners):
  """Returns u[i, j], the unit vector from corner j to i; zero where they coincide."""
  arms = corners[:, None] - corners[None]
  squared = jnp.sum(arms**2, axis=-1, keepdims=True)
  return jnp.where(squared > 0, arms / jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)


def triple_by_triple(student, teacher):
  """The angle loss as it is defined: every corner, every two arms, difference by difference."""
  cosines = lambda corners: jnp.einsum("ijd,ikd->ijk", unit_arms(corners), unit_arms(corners))
  return jnp.mean(smooth_l1(cosines(student) - cosines(teacher)))


def value_and_gradient_by_definition(student, teacher):
  with jax.enable_x64(True):
    exact = jax.jit(jax.value_and_grad(triple_by_triple))
    return exact(student.astype(np.float64), teacher.astype(np.float64))


def distances_by_definition(student, teacher):
  """The distance loss as it is defined, difference by difference."""

  def relative(corners):
    away = ~np.eye(len(corners), dtype=bool)
    arms = corners[:, None] - corners
    lengths = jnp.where(away, jnp.sqrt(jnp.where(away, jnp.sum(arms**2, axis=-1), 1.0)), 0.0)
    return lengths * away.sum() / lengths.sum()

  return jnp.mean(smooth_l1(relative(student) - jax.lax.stop_gradient(relative(teacher))))


@pytest.mark.parametrize("apart", [1.0, 1e-3, 1e-5], ids=["far", "near", "all but coinciding"])
@FEW
@given(seed=SEEDS)
def test_the_distance_loss_and_its_gradient_are_exact_however_near_two_points_are(apart, seed):
  """Of one photo seen with two sketches a teacher may have nearly the same vector twice."""
  pair = points(seed, 8, 96), points(seed + 1, 8, 96)
  for corners, step in zip(pair, points(seed + 2, 2, 96), strict=True):
    corners[1] = corners[0] + np.float32(apart) * step
  with jax.enable_x64(True):
    exact = jax.jit(jax.value_and_grad(distances_by_definition))
    loss, gradient = exact(*(corners.astype(np.float64) for corners in pair))
  ours, our_gradient = jax.jit(jax.value_and_grad(xmrd_distance))(*pair)
  assert float(ours) == pytest.approx(float(loss), rel=1e-5)
  np.testing.assert_allclose(our_gradient, gradient, atol=1e-5 * np.abs(gradient).max())


def test_differences_of_all_pairs_never_exist_at_once():
  biggest = largest_array(jax.grad(xmrd_distance), points(0, 40, 8), points(1, 40, 8))
  assert biggest <= 40 * 40


# Fewer corners than are taken together, as many, and numbers that do not divide by them.
@pytest.mark.parametrize("num", [3, 6, 8, 13, 32])
@FEW
@given(seed=SEEDS)
def test_the_angle_loss_and_its_gradient_are_those_of_the_definition(num, seed):
  pair = points(seed, num), points(seed + 1, num)
  loss, gradient = value_and_gradient_by_definition(*pair)
  ours, our_gradient = jax.jit(jax.value_and_grad(xmrd_angle))(*pair)
  assert float(ours) == pytest.approx(float(loss), rel=1e-5)
  assert float(XMRD["angle"](*pair)) == pytest.approx(float(loss), rel=1e-5)
  np.testing.assert_allclose(our_gradient, gradient, atol=1e-5 * np.abs(gradient).max())


def test_the_gradient_of_the_angle_loss_is_rounded_little_at_the_published_width():
  pair = points(0, 40, 768), points(1, 40, 768)
  _, gradient = value_and_gradient_by_definition(*pair)
  ours = jax.jit(jax.grad(xmrd_angle))(*pair)
  np.testing.assert_allclose(ours, gradient, atol=1e-6 * np.abs(gradient).max())


def test_where_points_coincide_the_angle_loss_has_the_gradient_of_the_definition():
  student, teacher = points(0), points(1)
  student[3], teacher[5] = student[1], teacher[0]
  _, gradient = value_and_gradient_by_definition(student, teacher)
  ours = jax.grad(xmrd_angle)(student, teacher)
  np.testing.assert_allclose(ours, gradient, atol=1e-5 * np.abs(gradient).max())


def test_the_gradient_of_the_angle_loss_is_scaled_by_what_comes_from_above():
  plain = jax.grad(xmrd_angle)(points(0), points(1))
  scaled = jax.grad(lambda student: 4 * xmrd_angle(student, points(1)))(points(0))
  np.testing.assert_array_equal(scaled, 4 * plain)  # a power of two: nothing is rounded


def largest_array(function, *arguments):
  """Returns the number of elements of the largest array in the function's program."""
  return max(map(math.prod, shapes_in(jax.make_jaxpr(function)(*arguments).jaxpr)))


def shapes_in(jaxpr):
  for equation in jaxpr.eqns:
    yield from (variable.aval.shape for variable in equation.outvars)
    for inner in jaxprs_in_params(equation.params):
      yield from shapes_in(inner)


@pytest.mark.parametrize("of", [xmrd_angle, jax.grad(xmrd_angle)], ids=["value", "gradient"])
def test_the_angles_of_all_corners_never_exist_at_once(of):
  assert largest_array(of, points(0, 40), points(1, 40)) == 40 * 40


def test_the_value_of_the_angle_loss_alone_computes_no_gradient():
  flops = lambda of: jax.jit(of).lower(points(0, 40), points(1, 40)).compile().cost_analysis()
  both = flops(jax.value_and_grad(xmrd_angle))["flops"]
  assert flops(xmrd_angle)["flops"] < 0.8 * both


def test_an_arm_without_length_has_cosine_zero_as_in_the_definition():
  student = points(0)
  student[3] = student[1]
  expected = triple_by_triple(student, points(1))
  assert float(xmrd_angle(student, points(1))) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("coinciding", [2, 6], ids=["two", "all"])
@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("loss", XMRD)
def test_points_that_coincide_give_a_finite_loss_and_gradient(loss, side, coinciding):
  pair = {"student": points(0), "teacher": points(1)}
  pair[side][:coinciding] = pair[side][0]
  value, gradient = jax.value_and_grad(XMRD[loss])(pair["student"], pair["teacher"])
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("loss", "least"), [(xmrd_distance, 2), (xmrd_angle, 3)])
def test_a_group_too_small_for_the_relation_is_refused(loss, least):
  with pytest.raises(ValueError, match=f"a batch of {least - 1} is too small"):
    loss(points(0, num=least - 1), points(1, num=least - 1))


def test_a_zero_vector_stays_zero_and_its_gradient_is_finite():
  vectors = jnp.array([[0.0, 0.0], [3.0, 4.0]])
  normed = l2_normalise(vectors)
  np.testing.assert_allclose(normed, [[0, 0], [0.6, 0.8]], rtol=1e-6)
  gradient = jax.grad(lambda x: jnp.sum(l2_normalise(x) ** 2 + l2_normalise(x)))(vectors)
  assert np.isfinite(gradient).all()

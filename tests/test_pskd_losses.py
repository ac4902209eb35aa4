"""What the losses of PSKD and its correlation matrix must obey whatever the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pskd.losses import (
  instance_adaptive,
  selective_distillation,
  selective_targets,
  smoothed_cross_entropy,
)
from pskd.model import Head
from pskd.prototypes import correlation_matrix, prototypes_of
from tests.xmodal_tiny import quick_jit

FEW = settings(max_examples=15, deadline=None)
SEEDS = st.integers(0, 2**16)
B, C, E = 6, 5, 4


def numbers(seed, *shape, scale=2.0):
  return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def labels(seed=0, num=B):
  return np.random.default_rng(seed).integers(0, C, num).astype(np.int32)


def softmax(rows):
  powers = np.exp(rows - rows.max(axis=-1, keepdims=True))
  return powers / powers.sum(axis=-1, keepdims=True)


# --- numbers worked out elsewhere -----------------------------------------------------------------


@pytest.fixture
def vectors():
  """The small case worked out in double precision: b 4, c 5, d 6."""
  with jax.enable_x64(True):
    i, c = np.arange(4)[:, None], np.arange(5)[None]
    unit = np.cos(1.3 * np.arange(24.0) + 0.1).reshape(4, 6)
    yield {
      "student": 2 * np.sin(1 + 5 * i + c),
      "teacher": 3 * np.cos(0.7 * (5 * i + c)),
      "labels": np.array([0, 3, 3, 1]),
      "prototypes": np.sin(0.9 * np.arange(30.0) + 0.3).reshape(5, 6),
      "bottleneck": unit / np.linalg.norm(unit, axis=1, keepdims=True),
    }


def test_smoothed_cross_entropy_of_the_small_case(vectors):
  loss = smoothed_cross_entropy(vectors["student"], vectors["labels"])
  assert float(loss) == pytest.approx(1.92373244, abs=1e-8)


def test_correlation_of_the_small_case(vectors):
  expected = [1, 0.58965621, -0.34506272, -0.90770770, -0.92621064]
  np.testing.assert_allclose(correlation_matrix(vectors["prototypes"])[0], expected, atol=1e-8)


def targets_of(vectors):
  matrix = correlation_matrix(vectors["prototypes"])
  return selective_targets(vectors["teacher"], vectors["labels"], matrix)


def test_selective_targets_of_the_small_case(vectors):
  expected = [0.47308214, 0.09112670, 0.01975331, 0.09313286, 0.32290498]
  np.testing.assert_allclose(targets_of(vectors)[0], expected, atol=1e-8)


def test_selective_distillation_of_the_small_case(vectors):
  loss = selective_distillation(vectors["student"], targets_of(vectors))
  assert float(loss) == pytest.approx(2.89976101, abs=1e-8)


def test_instance_adaptive_loss_of_the_small_case(vectors):
  loss = instance_adaptive(vectors["prototypes"], vectors["bottleneck"], vectors["labels"])
  assert float(loss) == pytest.approx(1.78146564, abs=1e-8)


# --- the correlation matrix -----------------------------------------------------------------------


@FEW
@given(seed=SEEDS, clip=st.booleans())
def test_correlation_is_symmetric_with_a_unit_diagonal_and_within_bounds(seed, clip):
  matrix = np.asarray(correlation_matrix(numbers(seed, C, E), clip_negative=clip))
  np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
  np.testing.assert_allclose(np.diag(matrix), 1.0, atol=1e-6)
  assert matrix.min() >= (0.0 if clip else -1 - 1e-6) and matrix.max() <= 1 + 1e-6


@FEW
@given(seed=SEEDS, scales=st.lists(st.floats(0.01, 100), min_size=C, max_size=C))
def test_correlation_does_not_notice_how_long_prototypes_are(seed, scales):
  prototypes = numbers(seed, C, E)
  longer = (np.array(scales)[:, None] * prototypes).astype(np.float32)
  ours, theirs = correlation_matrix(longer), correlation_matrix(prototypes)
  np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_clip_negative_sets_negative_correlations_to_zero_and_leaves_the_others():
  prototypes = np.float32([[1, 0], [1, 1], [-2, 0]])
  half = np.sqrt(0.5)
  plain = [[1, half, -1], [half, 1, -half], [-1, -half, 1]]
  np.testing.assert_allclose(correlation_matrix(prototypes), plain, atol=1e-6)
  clipped = correlation_matrix(prototypes, clip_negative=True)
  np.testing.assert_allclose(clipped, np.maximum(plain, 0), atol=1e-6)


def test_no_gradient_reaches_the_prototypes_of_a_correlation():
  gradient = jax.grad(lambda rows: jnp.sum(correlation_matrix(rows)[0]))(numbers(0, C, E))
  np.testing.assert_array_equal(gradient, 0.0)


def test_prototypes_are_the_rows_of_the_classifier():
  kernel = numbers(0, E, C)
  np.testing.assert_array_equal(
    prototypes_of({"head": {"classifier": {"kernel": kernel}}}), kernel.T
  )


# --- the teacher's signal -------------------------------------------------------------------------


@FEW
@given(seed=SEEDS)
def test_selective_targets_are_probabilities(seed):
  matrix = correlation_matrix(numbers(seed + 1, C, E))
  targets = np.asarray(selective_targets(numbers(seed, B, C), labels(seed), matrix))
  assert targets.min() >= 0
  np.testing.assert_allclose(targets.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("matrix", [None, np.ones((C, C), np.float32)], ids=["none", "ones"])
def test_without_a_matrix_or_with_ones_it_is_plain_distillation(matrix):
  logits = numbers(0, B, C)
  targets = selective_targets(logits, labels(), matrix)
  np.testing.assert_allclose(targets, softmax(logits), atol=1e-6)


def test_unlike_classes_lose_what_the_teacher_said_of_them():
  """With the identity, the true class keeps its logit and the others are as good as unheard."""
  logits = np.float32([[5, 1, -3], [9, 1, 2]])
  targets = selective_targets(logits, np.array([1, 2]), np.eye(3, dtype=np.float32))
  kept = np.float32([[0, 1, 0], [0, 0, 2]])
  np.testing.assert_allclose(targets, softmax(kept), atol=1e-6)


def test_each_sample_takes_the_row_of_its_own_label():
  matrix = np.float32([[1, 2, 3], [4, 5, 6], [7, 8, 9]]) / 9
  logits, own = numbers(0, 4, 3), np.array([2, 0, 1, 2])
  by_hand = [softmax(row * matrix[label]) for row, label in zip(logits, own, strict=True)]
  np.testing.assert_allclose(selective_targets(logits, own, matrix), by_hand, atol=1e-6)


def test_no_gradient_reaches_teacher_or_prototypes_through_the_targets():
  def loss_of(teacher_logits, prototypes):
    targets = selective_targets(teacher_logits, labels(), correlation_matrix(prototypes))
    return selective_distillation(numbers(2, B, C), targets)

  for gradient in quick_jit(jax.grad(loss_of, argnums=(0, 1)))(numbers(0, B, C), numbers(1, C, E)):
    np.testing.assert_array_equal(gradient, 0.0)


# --- distillation ---------------------------------------------------------------------------------


DISTIL = quick_jit(jax.value_and_grad(selective_distillation))


@FEW
@given(seed=SEEDS)
def test_distillation_is_least_where_the_student_says_what_the_targets_say(seed):
  logits = numbers(seed, B, C)
  targets = softmax(logits)
  least, gradient = DISTIL(logits, targets)
  np.testing.assert_allclose(gradient, 0.0, atol=1e-6)
  entropy = -np.mean(np.sum(targets * np.log(targets), axis=1))
  assert float(least) == pytest.approx(entropy, rel=1e-5)
  other = selective_distillation(logits + numbers(seed + 1, B, C, scale=0.5), targets)
  assert float(other) > float(least)


# --- smoothed cross-entropy -----------------------------------------------------------------------


def by_weights(logits, own, smoothing):
  """Returns the loss as it is defined: 1 - s on the label, s / (c - 1) on each other class."""
  num = logits.shape[1]
  weights = np.full(logits.shape, smoothing / (num - 1))
  weights[np.arange(len(own)), own] = 1 - smoothing
  return -np.mean(np.sum(weights * np.log(softmax(logits.astype(np.float64))), axis=1))


@FEW
@given(seed=SEEDS, smoothing=st.floats(0, 0.9))
def test_smoothing_is_that_of_the_explicit_weights(seed, smoothing):
  logits, own = numbers(seed, B, C), labels(seed)
  loss = smoothed_cross_entropy(logits, own, smoothing)
  assert float(loss) == pytest.approx(by_weights(logits, own, smoothing), rel=1e-5)


def test_smoothing_is_optaxs_with_the_share_that_falls_back_on_the_label_added():
  logits, own = numbers(0, B, C), labels()
  smooth = optax.smooth_labels(jax.nn.one_hot(own, C), 0.1 * C / (C - 1))
  theirs = optax.softmax_cross_entropy(logits, smooth).mean()
  assert float(smoothed_cross_entropy(logits, own, 0.1)) == pytest.approx(float(theirs), rel=1e-6)


def test_the_published_smoothing_is_a_tenth():
  logits, own = numbers(0, B, C), labels()
  assert float(smoothed_cross_entropy(logits, own)) == pytest.approx(by_weights(logits, own, 0.1))


def test_a_single_class_has_no_loss():
  loss, gradient = quick_jit(jax.value_and_grad(smoothed_cross_entropy))(
    jnp.ones((2, 1)), jnp.zeros(2, int)
  )
  assert float(loss) == 0.0
  np.testing.assert_array_equal(gradient, 0.0)


# --- instance-level adaptive learning -------------------------------------------------------------

ILA = quick_jit(instance_adaptive, static_argnames="group")


def test_instance_learning_is_the_cross_entropy_of_finding_the_own_sample_by_hand():
  prototypes = np.float32([[2, 0], [0, 3]])
  bottleneck, own = np.float32([[1, 0], [0, 1], [0.6, 0.8]]), np.array([0, 1, 1])
  scores = np.float64([[2, 0, 1.2], [0, 3, 2.4], [0, 3, 2.4]])  # row: prototype of a sample's class
  expected = by_weights(scores, np.arange(3), 0.1)
  assert float(ILA(prototypes, bottleneck, own)) == pytest.approx(expected, rel=1e-6)


def test_samples_of_the_same_class_are_negatives():
  """Of two equal samples of one class, neither can be told from the other: ln 2."""
  same = np.float32([[0.6, 0.8], [0.6, 0.8]])
  loss = ILA(numbers(0, C, 2), same, np.array([3, 3]))
  assert float(loss) == pytest.approx(np.log(2), rel=1e-6)


@FEW
@given(seed=SEEDS)
def test_instance_learning_is_the_mean_over_its_groups(seed):
  prototypes, bottleneck, own = numbers(seed, C, E), numbers(seed + 1, B, E), labels(seed)
  groups = [ILA(prototypes, bottleneck[i : i + 2], own[i : i + 2]) for i in range(0, B, 2)]
  loss = ILA(prototypes, bottleneck, own, group=2)
  assert float(loss) == pytest.approx(np.mean(groups), rel=1e-5)
  whole = ILA(prototypes, bottleneck, own, group=B)
  assert float(ILA(prototypes, bottleneck, own)) == pytest.approx(float(whole), rel=1e-6)


@FEW
@given(order=st.permutations(range(3)), within=st.permutations(range(2)))
def test_instance_learning_does_not_notice_the_order_of_groups_or_within_them(order, within):
  prototypes, bottleneck, own = numbers(0, C, E), numbers(1, B, E), labels(2)
  rows = np.arange(B).reshape(3, 2)[list(order)][:, list(within)].ravel()
  shuffled = ILA(prototypes, bottleneck[rows], own[rows], group=2)
  expected = ILA(prototypes, bottleneck, own, group=2)
  assert float(shuffled) == pytest.approx(float(expected), rel=1e-5)


def test_who_shares_a_group_matters():
  prototypes, bottleneck, own = numbers(0, C, E), numbers(1, B, E), labels(2)
  rows = np.array([0, 2, 1, 3, 4, 5])
  mixed = ILA(prototypes, bottleneck[rows], own[rows], group=2)
  assert abs(float(mixed) - float(ILA(prototypes, bottleneck, own, group=2))) > 1e-3


def test_the_gradient_of_instance_learning_reaches_prototypes_and_features():
  own = np.array([0, 1, 1, 3, 0, 3])
  gradient = quick_jit(jax.grad(instance_adaptive, argnums=(0, 1)))
  grads = gradient(numbers(0, C, E), numbers(1, B, E), own)
  of_prototypes, of_features = (np.abs(grad).max(axis=1) for grad in grads)
  assert (of_prototypes > 1e-3).tolist() == [True, True, False, True, False]
  assert (of_features > 1e-4).all()


# --- where nothing may become nan -----------------------------------------------------------------


def test_prototypes_of_length_zero_correlate_with_nothing():
  prototypes = numbers(0, C, E)
  prototypes[2] = 0
  matrix = np.asarray(correlation_matrix(prototypes))
  np.testing.assert_array_equal(matrix[2], 0.0)
  assert np.isfinite(matrix).all()


def test_a_head_that_answers_zero_has_a_finite_gradient():
  head, tokens = Head(C, 8, E), jnp.zeros((2, 3))
  shapes = jax.eval_shape(head.init, jax.random.key(0), tokens)
  params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)

  def loss_of(params):
    bottleneck, logits = head.apply(params, tokens)
    own = jnp.arange(2)
    prototypes = prototypes_of({"head": params["params"]})
    targets = selective_targets(logits, own, correlation_matrix(prototypes))
    distilled = selective_distillation(logits, targets) + smoothed_cross_entropy(logits, own)
    return distilled + instance_adaptive(prototypes, bottleneck, own)

  loss, grads = quick_jit(jax.value_and_grad(loss_of))(params)
  assert float(loss) == pytest.approx(2 * np.log(C) + np.log(2), rel=1e-6)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_logits_far_apart_give_a_finite_loss_and_gradient():
  logits = np.float32([[1e4, -1e4, 0, 0, 0]])
  loss, gradient = quick_jit(jax.value_and_grad(smoothed_cross_entropy))(
    jnp.asarray(logits), np.array([1])
  )
  assert np.isfinite(loss) and np.isfinite(gradient).all()

"""Instance ranks, accuracies, percentiles, means and intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbir.retrieval.metrics import (
  acc_at_k,
  bootstrap_interval,
  instance_counts,
  instance_ranks,
  mean_over_queries,
  per_class_mean,
  rank_percentile,
)
from sbir.types import UserError

settings.register_profile("metrics", deadline=None, max_examples=40)
settings.load_profile("metrics")


def random_case(seed, num_queries=6, num_gallery=9, width=4):
  rng = np.random.default_rng(seed)
  sides = rng.normal(size=(num_queries, width)), rng.normal(size=(num_gallery, width))
  return *sides, rng.integers(0, num_gallery, num_queries), rng


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_ranks_of_four_photos_can_be_checked_with_a_pencil(distance):
  gallery = np.array([[1.0, 0], [0.8, 0.6], [0, 1], [-1, 0]])  # all of length 1
  query = np.array([[1.0, 0]] * 4)
  ranks = instance_ranks(query, gallery, np.arange(4), distance=distance)
  assert ranks.tolist() == [1, 2, 3, 4]


@given(st.integers(0, 2**16), st.sampled_from(["cosine", "euclidean"]))
def test_a_photo_that_is_the_query_ranks_first(seed, distance):
  _, gallery, _, _ = random_case(seed)
  ranks = instance_ranks(gallery, gallery, np.arange(len(gallery)), distance=distance)
  assert (ranks == 1).all()


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])
def test_constant_embeddings_rank_last(distance, value):
  query, gallery = np.full((5, 384), value), np.full((101, 384), value)
  ranks = instance_ranks(query, gallery, np.arange(5), distance=distance)
  assert (ranks == 101).all()
  assert acc_at_k(ranks, 1) == 0


def test_a_collapsed_network_in_float32_does_not_look_skilled():
  # Same direction, other lengths, float32 rounding: cosines are 1 up to their last bits.
  rng = np.random.default_rng(0)
  direction, lengths = rng.normal(size=64), rng.uniform(0.1, 9, (50, 1))
  embeddings = (direction * lengths).astype(np.float32)
  assert acc_at_k(instance_ranks(embeddings, embeddings, np.arange(50)), 10) == 0


@given(st.integers(0, 2**16), st.sampled_from(["cosine", "euclidean"]))
def test_permuting_the_gallery_moves_no_rank_even_with_ties(seed, distance):
  query, gallery, target, rng = random_case(seed)
  gallery[4:8] = gallery[:4]
  order = rng.permutation(len(gallery))
  np.testing.assert_array_equal(
    instance_ranks(query, gallery[order], np.argsort(order)[target], distance=distance),
    instance_ranks(query, gallery, target, distance=distance),
  )


@given(st.integers(0, 2**16), st.floats(1e-3, 1e3))
def test_cosine_ranks_do_not_change_when_a_side_is_rescaled(seed, factor):
  query, gallery, target, _ = random_case(seed)
  np.testing.assert_array_equal(
    instance_ranks(query * factor, gallery, target), instance_ranks(query, gallery, target)
  )


@given(st.integers(0, 2**16))
def test_a_copy_of_the_right_photo_costs_one_place_and_is_counted_as_a_tie(seed):
  query, gallery, target, _ = random_case(seed)
  doubled = np.concatenate([gallery, gallery[target[:1]]])
  first = slice(0, 1)
  alone = instance_ranks(query[first], gallery, target[first])
  assert instance_ranks(query[first], doubled, target[first]) == alone + 1
  assert instance_counts(query[first], doubled, target[first])[1] == 1
  assert instance_counts(query[first], gallery, target[first])[1] == 0


def test_ranks_do_not_depend_on_the_size_of_the_blocks(monkeypatch):
  query, gallery, target, _ = random_case(0, num_queries=30)
  whole = instance_ranks(query, gallery, target)
  monkeypatch.setattr("sbir.retrieval.ranking.BLOCK_ELEMENTS", 20)
  np.testing.assert_array_equal(instance_ranks(query, gallery, target), whole)


def test_accuracy_counts_ranks_up_to_k():
  ranks = np.array([1, 2, 5, 6])
  assert [acc_at_k(ranks, k) for k in (1, 5, 10)] == [0.25, 0.75, 1.0]


def test_percentile_is_the_share_of_other_photos_beaten():
  assert rank_percentile(np.array([1, 3, 5]), 5).tolist() == [1.0, 0.5, 0.0]
  assert rank_percentile(np.array([1]), 1).tolist() == [1.0]
  assert rank_percentile(np.array([2, 1, 2]), np.array([3, 1, 2])).tolist() == [0.5, 1.0, 0.0]


def test_class_means_leave_out_queries_that_do_not_count():
  values, label = np.array([1.0, np.nan, 0.0, np.nan]), np.array(["cat", "cat", "cat", "dog"])
  means = per_class_mean(values, label)
  assert list(means) == ["cat", "dog"]
  assert means["cat"] == 0.5
  assert np.isnan(means["dog"])
  assert mean_over_queries(values) == 0.5


def test_bootstrap_interval_of_a_mean_is_about_two_standard_errors_each_way():
  values = np.random.default_rng(0).normal(size=400)
  low, high = bootstrap_interval(values)
  error = values.std() / 20
  np.testing.assert_allclose(
    [low, high], values.mean() + 1.96 * error * np.array([-1, 1]), atol=0.01
  )


def test_bootstrap_interval_is_repeatable_and_leaves_out_nan():
  values = np.random.default_rng(1).normal(size=50)
  assert bootstrap_interval(values, seed=3) == bootstrap_interval(np.append(values, np.nan), seed=3)
  assert bootstrap_interval(values, seed=3) != bootstrap_interval(values + 0.1, seed=3)
  assert bootstrap_interval(np.ones(4)) == (1.0, 1.0)
  assert np.isnan(bootstrap_interval(np.array([np.nan]))).all()


@pytest.mark.parametrize(
  ("target", "message"),
  [
    ([0, 3], r"target\[1\]=3 is outside a gallery of 3"),
    ([0, -1], r"target\[1\]=-1 is outside"),
    ([0], "expected 2 whole numbers"),
    ([0.0, 1.0], "float64"),
  ],
)
def test_targets_that_do_not_fit_are_refused(target, message):
  with pytest.raises(UserError, match=message):
    instance_ranks(np.eye(3)[:2], np.eye(3), np.array(target))


def test_nan_embeddings_are_refused_instead_of_ranking_first():
  with pytest.raises(UserError, match="query embeddings: 2 of 2 rows hold nan"):
    instance_ranks(np.full((2, 3), np.nan), np.eye(3), np.array([0, 1]))


def test_ranks_outside_the_gallery_are_refused():
  with pytest.raises(UserError, match="rank 4 is outside a gallery of 3"):
    rank_percentile(np.array([1, 4]), 3)
  with pytest.raises(UserError, match="expected one rank"):
    acc_at_k(np.array([]), 1)

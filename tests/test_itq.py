"""Binary codes: the rotation, three ways of fitting, and Hamming rankings; laws and hand cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbir.category_report import preset_rows
from sbir.retrieval.hamming import evaluate_codes, hamming_scores
from sbir.retrieval.itq import (
  encode,
  encode_pair,
  fit_codes,
  itq_rotation,
  principal_components,
)
from sbir.retrieval.presets import category_metrics
from sbir.retrieval.ranking import rank_hits, sort_scores
from sbir.types import UserError

settings.register_profile("itq", deadline=None, max_examples=25)
settings.load_profile("itq")


def clustered(num, width=24, seed=0):
  """Returns embeddings around eight centres that are the same for every seed, and their classes."""
  centres = np.random.default_rng(99).normal(size=(8, width))
  rng = np.random.default_rng(seed)
  label = rng.integers(0, 8, num)
  return centres[label] + 0.4 * rng.normal(size=(num, width)), label


def error(projected, rotation):
  """Returns the squared distance between rotated points and their signs."""
  turned = projected @ rotation
  return ((np.where(turned >= 0, 1, -1) - turned) ** 2).sum()


def errors(projected, num=30, **options):
  """Returns the error after 0, 1, .. iterations."""
  return [error(projected, itq_rotation(projected, iterations=i, **options)) for i in range(num)]


# The rotation -------------------------------------------------------------------------------------


def test_four_points_on_the_axes_are_turned_onto_the_diagonals():
  axes = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
  rotation = itq_rotation(axes)
  # Each coordinate is then 1/sqrt(2) away from 0, not 0 or 1: the error falls from 4 to this.
  assert error(axes, np.eye(2)) == 4
  assert error(axes, rotation) == pytest.approx(8 * (1 - 0.5**0.5) ** 2)
  np.testing.assert_allclose(np.abs(axes @ rotation), 0.5**0.5)


@given(st.integers(0, 2**16), st.booleans())
def test_the_rotation_is_orthogonal(seed, is_released):
  projected = np.random.default_rng(seed).normal(size=(40, 7))
  rotation = itq_rotation(projected, iterations=5, seed=seed, is_released=is_released)
  np.testing.assert_allclose(rotation.T @ rotation, np.eye(7), atol=1e-12)


@given(st.integers(0, 2**16))
def test_an_iteration_never_makes_the_error_larger(seed):
  projected = np.random.default_rng(seed).normal(size=(60, 9))
  assert (np.diff(errors(projected, seed=seed)) <= 1e-9).all()


def test_the_released_update_makes_the_error_larger_at_times_and_ends_worse():
  projected = clustered(200)[0] @ principal_components(clustered(200)[0], 16)
  released, right = errors(projected, is_released=True), errors(projected)
  assert (np.diff(released) > 0).any()
  assert released[-1] > right[-1]


def test_the_released_rotation_is_that_of_the_reference_written_out():
  projected = np.random.default_rng(3).normal(size=(50, 6))
  np.random.seed(50)
  rotation, _, _ = np.linalg.svd(np.random.randn(6, 6))
  for _ in range(50):
    signs = np.ones((50, 6)) * -1
    signs[projected @ rotation >= 0] = 1
    left, _, right = np.linalg.svd(np.dot(signs.T, projected))
    rotation = np.dot(right, left.T)
  np.testing.assert_allclose(itq_rotation(projected, is_released=True), rotation, atol=1e-9)


def test_components_are_the_directions_of_largest_variance_with_a_fixed_sign():
  points = np.random.default_rng(0).normal(size=(80, 5)) * [1, 5, 2, 9, 3]
  centred = points - points.mean(axis=0)
  components = principal_components(centred, 3)
  np.testing.assert_allclose(components.T @ components, np.eye(3), atol=1e-12)
  variances = (centred @ components).var(axis=0)
  expected = np.linalg.svd(centred, compute_uv=False)[:3] ** 2 / 80
  np.testing.assert_allclose(variances, expected)
  assert (components[[3, 1, 4], [0, 1, 2]] > 0.8).all()


# Fitting ------------------------------------------------------------------------------------------


def test_codes_fitted_to_training_embeddings_look_at_no_test_embedding():
  training = clustered(100)[0]
  query, gallery = clustered(9, seed=1)[0], clustered(11, seed=2)[0]
  codes = encode_pair(query, gallery, bits=16, training=training)
  alone = encode_pair(query[4:5], gallery[7:8], bits=16, training=training)
  np.testing.assert_array_equal(codes[0][4:5], alone[0])
  np.testing.assert_array_equal(codes[1][7:8], alone[1])
  assert [code.shape for code in codes] == [(9, 2), (11, 2)]


@pytest.mark.parametrize("fit", ["transductive", "released"])
def test_transductive_codes_do_not_see_where_each_side_lies(fit):
  query, gallery = clustered(60)[0], clustered(70, seed=1)[0]
  straight = encode_pair(query, gallery, bits=16, fit=fit)
  # The released update does not settle, so another last digit of a query gives other codes: the
  # queries are doubled, which is exact, and not moved.
  by = 8 if fit == "transductive" else 0
  moved = encode_pair(2 * query + by, 0.5 * gallery - 2, bits=16, fit=fit)
  for one, other in zip(straight, moved, strict=True):
    assert (np.unpackbits(one ^ other)).mean() < 0.01  # a bit may lie on the edge


def test_moving_all_embeddings_alike_moves_no_code_fitted_to_training_embeddings():
  training, query, gallery = (clustered(60, seed=seed)[0] for seed in range(3))
  straight = encode_pair(query, gallery, bits=16, training=training)
  moved = encode_pair(2 * query + 8, 2 * gallery + 8, bits=16, training=2 * training + 8)
  for one, other in zip(straight, moved, strict=True):
    assert (np.unpackbits(one ^ other)).mean() < 0.01


def test_the_three_ways_give_three_codes():
  query, gallery, training = (clustered(80, seed=seed)[0] for seed in range(3))
  ways = [
    encode_pair(query, gallery, bits=16, training=training),
    encode_pair(query, gallery, bits=16, fit="transductive"),
    encode_pair(query, gallery, bits=16, fit="released"),
  ]
  assert len({code[1].tobytes() for code in ways}) == 3


@pytest.mark.parametrize("fit", ["training", "transductive"])
def test_codes_keep_what_the_embeddings_know_of_the_classes(fit):
  (query, query_label), (gallery, gallery_label) = clustered(60), clustered(200, seed=1)
  training = clustered(300, seed=2)[0] if fit == "training" else None
  codes = encode_pair(query, gallery, bits=16, fit=fit, training=training)
  report = evaluate_codes(*codes, query_label, gallery_label)
  assert report.metrics["map@all[plain]"] > 0.9
  assert (report.dim, report.distance, report.queries, report.gallery) == (16, "hamming", 60, 200)


def test_codes_follow_the_seed():
  query, gallery = clustered(40)[0], clustered(40, seed=1)[0]
  one, same, other = (
    encode_pair(query, gallery, bits=16, fit="transductive", seed=s)[1].tobytes() for s in (1, 1, 2)
  )
  assert one == same != other


# Hamming distance ---------------------------------------------------------------------------------


def test_bits_that_differ_are_counted():
  query, gallery = (
    np.array([[0b1010, 0]], np.uint8),
    np.array([[0b1010, 0], [0b0101, 255]], np.uint8),
  )
  assert hamming_scores(query, gallery).tolist() == [[0, -12]]


@given(st.integers(1, 40), st.integers(0, 2**16))
def test_hamming_scores_are_the_count_over_unpacked_bits(num_bytes, seed):
  rng = np.random.default_rng(seed)
  query, gallery = (rng.integers(0, 256, (num, num_bytes)).astype(np.uint8) for num in (4, 6))
  apart = np.unpackbits(query, axis=1)[:, None] != np.unpackbits(gallery, axis=1)
  np.testing.assert_array_equal(hamming_scores(query, gallery), -apart.sum(axis=2))


@given(st.integers(0, 2**16))
def test_the_report_of_codes_is_that_of_their_distances(seed):
  rng = np.random.default_rng(seed)
  codes = rng.integers(0, 4, (5, 2)).astype(np.uint8), rng.integers(0, 4, (30, 2)).astype(np.uint8)
  labels = rng.integers(0, 3, 5), rng.integers(0, 3, 30)
  report = evaluate_codes(*codes, *labels)
  expected = category_metrics(rank_hits(hamming_scores(*codes), *labels))
  np.testing.assert_equal(report.per_query, expected)
  sake, zse = report.presets["sake"], report.presets["zse"]
  assert sake["map@all"] == report.metrics["map@all[voc]"] == zse["map@all"]
  assert report.presets["sempcyc"]["map@all"] == pytest.approx(
    np.nan_to_num(expected["map@all[plain]"]).mean()
  )
  assert {row[1] for row in preset_rows(report)[1:]} == {"hamming"}


def test_small_blocks_of_codes_give_the_same_report(monkeypatch):
  rng = np.random.default_rng(0)
  codes = [rng.integers(0, 256, (num, 3)).astype(np.uint8) for num in (7, 11)]
  labels = rng.integers(0, 2, 7), rng.integers(0, 2, 11)
  whole = evaluate_codes(*codes, *labels)
  monkeypatch.setattr("sbir.retrieval.ranking.BLOCK_ELEMENTS", 23)
  assert evaluate_codes(*codes, *labels).summary() == whole.summary()


@given(st.integers(2, 300), st.integers(0, 2**16))
def test_whole_numbers_are_sorted_alike_whether_packed_in_31_bits_or_in_63(num, seed):
  limit = 2 ** (31 - max(1, (num - 1).bit_length()))
  rng = np.random.default_rng(seed)
  for edge in (limit - 1, limit, 200):  # the last that fits, the first that does not, many ties
    scores = rng.integers(-edge, edge + 1, (2, num))
    scores[:, :2] = -edge, edge
    order, tied = sort_scores(scores)
    np.testing.assert_array_equal(order, np.argsort(-scores, axis=1, kind="stable"))
    ranked = np.take_along_axis(scores, order, axis=1)
    np.testing.assert_array_equal(tied, ranked[:, 1:] == ranked[:, :-1])


# What is refused ----------------------------------------------------------------------------------


GOOD = {"query": np.eye(20), "gallery": np.eye(20), "bits": 16, "fit": "transductive"}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"bits": 8}, "bits=8 must be a multiple of 8 from 16 to 256"),
    ({"bits": 264}, "bits=264 must be"),
    ({"bits": 20}, "bits=20 must be"),
    ({"bits": 24}, "bits=24 is more than the 20 dimensions of the embeddings"),
    ({"query": np.eye(20)[:16]}, "bits=16 cannot be fitted to 16 embeddings"),
    ({"fit": "itq"}, "fit='itq' must be one of: training, transductive, released"),
    ({"fit": "training"}, "fit=training with no training embeddings"),
    ({"training": np.eye(30)}, "fit=transductive with 30 training embeddings"),
    ({"query": np.diag([np.nan, *[1] * 19])}, "query embeddings: 1 of 20 rows hold nan or inf"),
    ({"gallery": np.eye(21)}, "embeddings are 21 wide and the coder 20"),
  ],
)
def test_what_cannot_be_encoded_is_refused_in_one_line(change, message):
  with pytest.raises(UserError, match=message) as refused:
    encode_pair(**GOOD | change)
  assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
  ("query", "message"),
  [
    (np.zeros((2, 9), np.uint8), "query codes are 2 words long and gallery codes 1"),
    (np.zeros((2, 8), bool), r"query codes are bool\[2, 8\], expected uint8 of shape"),
    (np.zeros((0, 8), np.uint8), r"query codes are uint8\[0, 8\]"),
  ],
)
def test_codes_that_do_not_fit_are_refused(query, message):
  with pytest.raises(UserError, match=message):
    hamming_scores(query, np.zeros((3, 8), np.uint8))


def test_one_coder_serves_any_number_of_embeddings():
  coder = fit_codes(clustered(50)[0], 16)
  whole = encode(coder, clustered(30, seed=1)[0])
  parts = [encode(coder, part) for part in np.split(clustered(30, seed=1)[0], 3)]
  np.testing.assert_array_equal(whole, np.concatenate(parts))

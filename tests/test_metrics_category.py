"""Average precision and precision: hand-worked cases, laws, scikit-learn, ties, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

from sbir.retrieval.metrics import (
  average_precision,
  hits_in_order,
  precision_at_k,
  rank_hits,
)
from sbir.retrieval.presets import category_metrics, evaluate_categories
from sbir.retrieval.ranking import nearest, sort_scores
from sbir.types import UserError

settings.register_profile("metrics", deadline=None, max_examples=40)
settings.load_profile("metrics")


def flags(text: str):
  """Returns the hits of one query whose ranking is written as 1001..."""
  return hits_in_order(np.array([[c == "1" for c in text]]))


@st.composite
def retrieval(draw, distinct=False):
  """Draws scores [q, g] and labels; with `distinct`, no two scores of a query are equal."""
  num_queries, num_gallery = draw(st.integers(1, 5)), draw(st.integers(1, 12))
  rng = np.random.default_rng(draw(st.integers(0, 2**16)))
  if distinct:
    scores = rng.permuted(np.tile(np.arange(num_gallery) - 4.0, (num_queries, 1)), axis=1)
  else:
    scores = rng.integers(-2, 3, (num_queries, num_gallery)) / 2
  return scores, rng.integers(0, 3, num_queries), rng.integers(0, 3, num_gallery), rng


# By hand ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("ranking", "k", "interpolated", "expected"),
  [
    ("1001101001", None, True, 0.6542857),
    ("1001101001", None, False, 0.6342857),
    ("1001101001", 4, True, 0.375),
    ("1001101001", 4, False, 0.375),
    ("1001101001", 6, True, 0.44),
    ("1001101001", 6, False, 0.42),
    ("0111010000", None, True, 0.7291667),
    ("0111010000", None, False, 0.6458333),
    ("0111010000", 5, True, 0.5625),
    ("0111010000", 5, False, 0.4791667),
  ],
)
def test_average_precision_of_the_rankings_worked_by_hand(ranking, k, interpolated, expected):
  value = average_precision(flags(ranking), k, interpolated=interpolated, denominator="min")
  np.testing.assert_allclose(value, expected, atol=5e-8)


@pytest.mark.parametrize("k", [4, 6])
def test_precision_of_the_ranking_worked_by_hand(k):
  assert precision_at_k(flags("1001101001"), k)[0] == 0.5


# Labels 0 1 0 1 2 0; a query's scores sort the photos into the order written beside it.
SCORES = np.array(
  [
    [9, 8, 7, 6, 5, 4],  # 0 1 2 3 4 5: relevant 1 0 1 0 0 1
    [-1, -2, -3, -4, -5, -6],  # same order, label 1: relevant 0 1 0 1 0 0
    [1, 2, 3, 4, 6, 5],  # 4 5 3 2 1 0, label 2: relevant 1 0 0 0 0 0
    [1, 2, 3, 4, 5, 6],  # 5 4 3 2 1 0, label 3: none
  ]
)
BY_HAND = {
  "map@all[plain]": [(1 + 2 / 3 + 1 / 2) / 3, (1 / 2 + 1 / 2) / 2, 1, np.nan],
  "map@all[voc]": [(1 + 2 / 3 + 1 / 2) / 3, 1 / 2, 1, np.nan],
  "map@2[min,plain]": [1 / 2, (1 / 2) / 2, 1, np.nan],
  "map@2[hits,plain]": [1, 1 / 2, 1, 0],
  "map@2[R,plain]": [1 / 3, 1 / 4, 1, np.nan],
  "map@3[min,voc]": [(1 + 2 / 3) / 3, (1 / 2) / 2, 1, np.nan],
  "prec@2[N]": [1 / 2, 1 / 2, 1 / 2, 0],
  "prec@2[R]": [1 / 2, 1 / 2, 1, np.nan],
  "prec@9[N]": [3 / 6, 2 / 6, 1 / 6, 0],
  "prec@9[R]": [2 / 3, 1 / 2, 1, np.nan],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_four_by_six_scores_can_be_checked_with_a_pencil(name):
  hits = rank_hits(SCORES, np.array([0, 1, 2, 3]), np.array([0, 1, 0, 1, 2, 0]))
  np.testing.assert_allclose(category_metrics(hits, cuts=(2, 3, 9))[name], BY_HAND[name])


# Laws ---------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(0, 9))
def test_a_perfect_ranking_scores_one_everywhere(num_relevant, num_others):
  values = category_metrics(flags("1" * num_relevant + "0" * num_others), cuts=(1, 3, num_relevant))
  ones = {n: v[0] for n, v in values.items() if "[R," not in n}
  ones[f"map@{num_relevant}[R,voc]"] = values[f"map@{num_relevant}[R,voc]"][0]
  ones.pop("prec@3[N]")  # cannot be one when fewer than three are relevant
  assert ones == pytest.approx(dict.fromkeys(ones, 1.0))


@given(retrieval(distinct=True))
def test_permuting_the_gallery_changes_nothing_when_no_scores_tie(case):
  scores, query_label, gallery_label, rng = case
  order = rng.permutation(len(gallery_label))
  straight = category_metrics(rank_hits(scores, query_label, gallery_label), (1, 4))
  permuted = category_metrics(
    rank_hits(scores[:, order], query_label, gallery_label[order]), (1, 4)
  )
  np.testing.assert_equal(permuted, straight)


@given(retrieval())
def test_permuting_the_gallery_never_changes_plain_average_precision(case):
  scores, query_label, gallery_label, rng = case
  order = rng.permutation(len(gallery_label))
  np.testing.assert_allclose(
    average_precision(rank_hits(scores[:, order], query_label, gallery_label[order])),
    average_precision(rank_hits(scores, query_label, gallery_label)),
  )


@given(retrieval())
def test_a_rising_map_of_the_scores_changes_nothing(case):
  scores, query_label, gallery_label, _ = case
  straight = category_metrics(rank_hits(scores, query_label, gallery_label), (1, 4))
  for mapped in (np.exp(scores), scores**3 - 5, (2 * scores).astype(int), (scores * 2 - 9) * 1e-9):
    np.testing.assert_equal(
      category_metrics(rank_hits(mapped, query_label, gallery_label), (1, 4)), straight
    )


@given(retrieval())
def test_irrelevant_items_behind_everything_change_nothing_but_the_gallery_size(case):
  scores, query_label, gallery_label, _ = case
  padded = np.pad(scores, ((0, 0), (0, 3)), constant_values=-99)
  straight = rank_hits(scores, query_label, gallery_label)
  longer = rank_hits(padded, query_label, np.pad(gallery_label, (0, 3), constant_values=7))
  for options in ({}, {"interpolated": True}, {"denominator": "hits"}):
    np.testing.assert_array_equal(
      average_precision(longer, **options), average_precision(straight, **options)
    )


@given(retrieval())
def test_plain_average_precision_is_scikit_learns_ties_included(case):
  scores, query_label, gallery_label, _ = case
  values = average_precision(rank_hits(scores, query_label, gallery_label))
  for value, score, label in zip(values, scores, query_label, strict=True):
    relevant = gallery_label == label
    if relevant.any():
      assert value == pytest.approx(average_precision_score(relevant, score))
    else:
      assert np.isnan(value)


@given(retrieval(), st.integers(1, 12))
def test_average_precision_divided_by_hits_is_scikit_learns_inside_the_first_k(case, k):
  scores, query_label, gallery_label, _ = case
  values = average_precision(rank_hits(scores, query_label, gallery_label), k, denominator="hits")
  for value, score, label in zip(values, scores, query_label, strict=True):
    first = np.argsort(-score, kind="stable")[:k]
    relevant = gallery_label[first] == label
    expected = average_precision_score(relevant, score[first]) if relevant.any() else 0
    assert value == pytest.approx(expected)


@given(hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 15))), st.integers(1, 15))
def test_vectorised_sums_equal_the_definitions_written_as_loops(relevant, k):
  hits = hits_in_order(relevant)
  for row, flag in enumerate(relevant):
    cut, total = min(k, len(flag)), flag.sum()
    precision = np.cumsum(flag) / np.arange(1, len(flag) + 1)
    plain = sum(precision[j] for j in range(cut) if flag[j])
    best = sum(precision[j:cut].max() for j in range(cut) if flag[j])
    for denominator, divisor in (("min", min(k, total)), ("hits", flag[:cut].sum()), ("R", total)):
      for sums, interpolated in ((plain, False), (best, True)):
        value = average_precision(hits, k, interpolated=interpolated, denominator=denominator)[row]
        if divisor:
          assert value == pytest.approx(sums / divisor)
        else:
          assert value == 0 if denominator == "hits" else np.isnan(value)


# Ties and order -----------------------------------------------------------------------------------


def test_equal_scores_stay_in_gallery_order_whatever_their_type():
  scores = np.array([[1, 3, 1, 3, 2]])
  for dtype in (np.int8, np.uint16, np.int64, np.float32, np.float64):
    order, tied = sort_scores(scores.astype(dtype))
    assert order.tolist() == [[1, 3, 4, 0, 2]]
    assert tied.tolist() == [[True, False, False, True]]


def test_whole_numbers_too_large_to_pack_are_sorted_all_the_same():
  scores = np.array([[2**61, -(2**61), 2**61, 0]])
  assert sort_scores(scores)[0].tolist() == [[0, 2, 3, 1]]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("width", [3, 100, 385])
def test_equal_photos_tie_even_where_they_coincide_with_the_query(width, distance):
  # The root of a distance that is 0 up to rounding is the worst case: 1e-17 becomes 3e-9.
  for seed in range(10):
    gallery = np.tile(np.random.default_rng(seed).normal(size=width), (101, 1))
    assert (nearest(gallery[:7], gallery, 9, distance=distance) == np.arange(9)).all()
    labels = np.zeros(7, int), np.zeros(101, int)
    assert evaluate_categories(gallery[:7], gallery, *labels, distance=distance).ties == 7


def test_photos_of_one_direction_tie_under_cosine_though_their_lengths_differ():
  rng = np.random.default_rng(0)
  direction = rng.normal(size=(1, 384))
  gallery = direction * rng.uniform(0.1, 9, (200, 1))
  assert (nearest(direction, gallery, 200) == np.arange(200)).all()


def test_only_queries_with_equal_scores_are_counted_as_tied():
  query = np.array([[1.0, 0], [1, 1], [0, 1]])
  gallery = np.array([[1.0, 0], [0, 1], [-1, 0]])  # cosines 1 0 -1; .7 .7 -.7; 0 1 0
  report = evaluate_categories(query, gallery, np.zeros(3, int), np.zeros(3, int))
  assert report.ties == 2
  assert any("2 of 3 queries have gallery items of equal score" in note for note in report.warnings)


# From embeddings ----------------------------------------------------------------------------------


@given(st.integers(0, 2**16), st.sampled_from(["cosine", "euclidean"]))
def test_blocks_of_embeddings_rank_as_distances_taken_one_by_one(seed, distance):
  rng = np.random.default_rng(seed)
  query, gallery = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(9, 4))
  gallery[3:6] = gallery[:3]
  labels = rng.integers(0, 2, 6), rng.integers(0, 2, 9)
  wide = query[:, None].astype(float)
  if distance == "cosine":
    norms = np.linalg.norm(wide, axis=2) * np.linalg.norm(gallery, axis=1)
    scores = (wide * gallery).sum(axis=2) / norms
  else:
    scores = -np.linalg.norm(wide - gallery, axis=2)
  expected = category_metrics(rank_hits(scores.round(9), *labels))
  values = evaluate_categories(query, gallery, *labels, distance=distance).per_query
  for name in expected:
    np.testing.assert_allclose(values[name], expected[name], err_msg=name)


@pytest.mark.parametrize("factor", [1e-30, 3.0, 1e160])
def test_rescaling_both_sides_changes_no_figure(factor):
  rng = np.random.default_rng(1)
  query, gallery = rng.normal(size=(8, 5)), rng.normal(size=(40, 5))
  labels = rng.integers(0, 3, 8), rng.integers(0, 3, 40)
  straight = evaluate_categories(query, gallery, *labels)
  scaled = evaluate_categories(query * factor, gallery * factor, *labels)
  assert scaled.summary() == straight.summary()


def test_small_blocks_give_the_same_report_as_one_block(monkeypatch):
  rng = np.random.default_rng(2)
  sides = rng.normal(size=(7, 5)), rng.normal(size=(11, 5))
  labels = rng.choice(["cat", "dog"], 7), rng.choice(["cat", "dog", "owl"], 11)
  whole = evaluate_categories(*sides, *labels)
  monkeypatch.setattr("sbir.retrieval.ranking.BLOCK_ELEMENTS", 23)
  assert evaluate_categories(*sides, *labels).summary() == whole.summary()


def test_queries_without_relevant_photos_are_reported_and_left_out():
  report = evaluate_categories(
    np.eye(2), np.eye(2), np.array(["cat", "gnu"]), np.array(["cat", "dog"]), cuts=(1, 5)
  )
  assert report.metrics["map@all[voc]"] == 1.0
  assert report.presets["sempcyc"]["map@all"] == 0.5  # that evaluator counts them as 0
  assert [note.split()[0] for note in report.warnings] == ["1", "k=5"]


def test_summary_has_the_documented_keys_and_no_nan():
  summary = evaluate_categories(np.eye(2), np.eye(2), np.array([0, 0]), np.array([1, 1])).summary()
  assert list(summary) == ["queries", "gallery", "dim", "metrics", "presets", "ties", "warnings"]
  assert summary["metrics"]["map@all[plain]"] is None
  assert set(summary["presets"]) == {"sake", "zse", "sempcyc"}


GOOD = {
  "query": np.eye(3),
  "gallery": np.eye(3),
  "query_label": np.arange(3),
  "gallery_label": np.arange(3),
}
NAN, INF = np.diag([1, np.nan, 1]), np.diag([1, 1, np.inf])


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"query": NAN}, r"query embeddings: 1 of 3 rows hold nan or inf \(first: row 1\)"),
    ({"gallery": INF}, r"gallery embeddings: 1 of 3 rows .* row 2"),
    ({"query": np.ones((3, 2))}, "query is 2 wide and gallery 3"),
    ({"query": np.ones((0, 3))}, r"shape \(0, 3\)"),
    ({"gallery": np.ones(3)}, r"shape \(3,\)"),
    ({"gallery": np.full((3, 3), "x")}, "expected real numbers"),
    ({"query_label": np.arange(4)}, r"query_label has shape \(4,\)"),
    ({"gallery_label": np.arange(3.0)}, "gallery_label is float64"),
    ({"gallery_label": np.array(["a", "b", "c"])}, "numbers on both sides"),
    ({"distance": "manhattan"}, "distance='manhattan' must be one of: cosine, euclidean"),
    ({"presets": ("sak",)}, "preset='sak' must be one of: sake, zse, sempcyc"),
    ({"cuts": (10, 0)}, "k=0 must be at least 1"),
  ],
)
def test_bad_input_is_refused_in_one_line(change, message):
  with pytest.raises(UserError, match=message) as error:
    evaluate_categories(**GOOD | change)
  assert "\n" not in str(error.value)


def test_scores_that_are_not_finite_are_refused():
  with pytest.raises(UserError, match="1 nan or inf"):
    rank_hits(np.array([[1.0, np.nan]]), np.array([0]), np.array([0, 1]))

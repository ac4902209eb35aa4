"""What stands beside the category figures: nearest items, classes, intervals, chance, and files."""

import csv
import io
import json
import math

import numpy as np
import pytest

from sbir.category_report import (
  class_csv,
  class_table,
  headline_rows,
  query_csv,
  save_report,
  table,
)
from sbir.retrieval.category_stats import (
  best_typical_worst,
  chance,
  class_mean,
  class_rows,
  headlines,
  intervals,
)
from sbir.retrieval.presets import evaluate_categories
from sbir.retrieval.ranking import nearest
from sbir.types import UserError


def case(num_queries=60, num_gallery=300, spread=1.0, classes=("ant", "bee", "cat", "dog"), seed=0):
  """Returns the report of embeddings around one centre a class, with the embeddings behind it."""
  rng = np.random.default_rng(seed)
  centres = rng.normal(size=(len(classes), 6))

  def draw(num):
    label = rng.integers(0, len(classes), num)
    return centres[label] + spread * rng.normal(size=(num, 6)), np.array(classes)[label]

  (query, query_label), (gallery, gallery_label) = draw(num_queries), draw(num_gallery)
  return evaluate_categories(query, gallery, query_label, gallery_label), query, gallery


@pytest.fixture(scope="module")
def report():
  return case()[0]


def lines_of(text):
  return list(csv.DictReader(io.StringIO(text)))


# In the report ------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_the_nearest_items_are_those_of_the_ranking_and_know_whether_they_are_right(distance):
  _, query, gallery = case()
  rng = np.random.default_rng(1)
  labels = rng.integers(0, 3, len(query)), rng.integers(0, 3, len(gallery))
  report = evaluate_categories(query, gallery, *labels, distance=distance)
  expected = nearest(query, gallery, 10, distance=distance)
  np.testing.assert_array_equal(report.nearest_rows, expected)
  np.testing.assert_array_equal(report.nearest_is_right, labels[1][expected] == labels[0][:, None])
  np.testing.assert_allclose(report.nearest_is_right.mean(axis=1), report.per_query["prec@10[N]"])


def test_places_beyond_a_small_gallery_are_empty():
  report = evaluate_categories(np.eye(3), np.eye(3), np.arange(3), np.arange(3))
  np.testing.assert_array_equal(report.nearest_rows[:, 0], np.arange(3))
  assert (report.nearest_rows[:, 3:] == -1).all() and not report.nearest_is_right[:, 3:].any()


def test_labels_are_kept_as_given_and_relevant_items_counted(report):
  assert set(report.query_label) == {"ant", "bee", "cat", "dog"}
  expected = [(report.gallery_label == name).sum() for name in report.query_label]
  np.testing.assert_array_equal(report.num_relevant, expected)


def test_the_printed_summary_has_no_more_keys_than_documented(report):
  documented = ["queries", "gallery", "dim", "metrics", "presets", "ties", "warnings"]
  assert list(report.summary()) == documented


# Beside the report --------------------------------------------------------------------------------


def test_classes_by_hand():
  query = np.eye(4)[[0, 0, 1]]
  gallery = np.eye(4)[[0, 1, 2]]
  report = evaluate_categories(
    query, gallery, np.array([5, 7, 7]), np.array([5, 7, 9]), cuts=(100,)
  )
  five, seven = class_rows(report)
  # The second query finds its class behind the photo of class 5, in a tie with that of class 9.
  assert (five.name, five.queries, five.gallery, five.metrics["map@all[voc]"]) == ("5", 1, 1, 1.0)
  assert (seven.name, seven.queries, seven.gallery) == ("7", 2, 1)
  assert seven.metrics["map@all[voc]"] == (1 / 2 + 1) / 2
  assert class_mean(report)["map@all[voc]"] == (1 + 3 / 4) / 2
  assert report.metrics["map@all[voc]"] == (1 + 1 / 2 + 1) / 3


def test_intervals_hold_the_mean_and_narrow_with_more_queries(report):
  wide, narrow = intervals(report), intervals(case(num_queries=960)[0])
  for name, (low, high) in wide.items():
    assert low < report.metrics[name] < high
    assert narrow[name][1] - narrow[name][0] < (high - low) / 2


def test_chance_is_what_random_embeddings_reach():
  rng = np.random.default_rng(3)
  labels = rng.integers(0, 4, 400), np.repeat(np.arange(5), [20, 40, 60, 80, 100])
  report = evaluate_categories(rng.normal(size=(400, 64)), rng.normal(size=(300, 64)), *labels)
  for name, expected in chance(report).items():
    assert report.metrics[name] == pytest.approx(expected, abs=0.02)
  assert chance(report)["prec@100[N]"] == pytest.approx(report.num_relevant.mean() / 300, abs=0.005)


def test_chance_and_intervals_follow_their_seed(report):
  assert chance(report) == chance(report, seed=0) != chance(report, seed=1)
  assert intervals(report) == intervals(report, seed=0) != intervals(report, seed=1)


def test_queries_without_relevant_items_have_no_average_precision_by_chance_either():
  labels = np.array([0, 9]), np.array([0, 1])
  report = evaluate_categories(np.eye(2), np.eye(2), *labels)
  figures = chance(report)
  assert 0.5 <= figures["map@all[voc]"] <= 1.0
  assert figures["prec@100[N]"] == 0.25
  nothing = evaluate_categories(np.eye(2), np.eye(2), np.array([8, 9]), np.array([0, 1]))
  assert math.isnan(chance(nothing)["map@all[voc]"])


def test_headlines_are_those_within_the_cuts():
  report = evaluate_categories(np.eye(2), np.eye(2), np.arange(2), np.arange(2), cuts=(1, 200))
  assert headlines(report) == ("map@all[voc]", "map@all[plain]", "map@200[min,voc]", "prec@200[N]")
  assert set(chance(report)) == set(intervals(report)) == set(headlines(report))
  assert class_table(report)[0] == ("class", "queries", "gallery", "map@all[voc]")


# As files -----------------------------------------------------------------------------------------


def test_the_table_shows_mean_interval_class_mean_and_chance(report):
  line = next(line for line in table(report).splitlines() if line.startswith("prec@100[N]"))
  low, high = intervals(report)["prec@100[N]"]
  means = report.metrics["prec@100[N]"], class_mean(report)["prec@100[N]"]
  figures = (means[0], low, high, means[1], chance(report)["prec@100[N]"])
  assert (
    line.split()[1:]
    == "{:.1f} {:.1f} - {:.1f} {:.1f} {:.1f}".format(*(100 * figure for figure in figures)).split()
  )
  assert headline_rows(report)[3][1] == line.split()[1]


def test_the_table_says_what_it_is_told_about_the_protocol_and_how_chance_was_found(report):
  text = table(report, {"protocol": "zero-shot"})
  assert "\nprotocol: zero-shot\n" in text and "chance: measured" in text


def test_every_class_has_its_line(report):
  rows = {row["class"]: row for row in lines_of(class_csv(report))}
  assert list(rows) == ["ant", "bee", "cat", "dog"]
  cats = report.query_label == "cat"
  assert int(rows["cat"]["queries"]) == cats.sum()
  assert int(rows["cat"]["gallery"]) == (report.gallery_label == "cat").sum()
  expected = report.per_query["map@all[voc]"][cats].mean()
  assert float(rows["cat"]["map@all[voc]"]) == pytest.approx(expected, abs=1e-12)


def test_every_query_has_its_line_with_a_star_before_each_right_item(report):
  names = [f"s{i}" for i in range(60)], [f"p{i}" for i in range(300)]
  rows = lines_of(query_csv(report, *names))
  assert [row["query"] for row in rows] == names[0]
  for i, row in enumerate(rows):
    found = [row[f"top{place}"] for place in range(1, 11)]
    assert [text.lstrip("*") for text in found] == [f"p{k}" for k in report.nearest_rows[i]]
    assert [text[0] == "*" for text in found] == report.nearest_is_right[i].tolist()
    assert float(row["map@all[voc]"]) == report.per_query["map@all[voc]"][i]


def test_a_figure_nobody_can_compute_is_an_empty_cell():
  report = evaluate_categories(np.eye(2), np.eye(2), np.array([0, 9]), np.array([0, 1]))
  row = lines_of(query_csv(report))[1]
  assert (row["map@all[voc]"], row["prec@100[N]"], row["top3"]) == ("", "0.0", "")
  assert lines_of(class_csv(report))[1]["map@all[voc]"] == ""


def test_names_that_do_not_fit_are_refused(report):
  with pytest.raises(UserError, match="2 gallery names for 300 gallery embeddings, expected one"):
    query_csv(report, gallery_names=["a", "b"])


def test_saved_files_hold_the_report(report, tmp_path):
  paths = save_report(report, tmp_path / "new", "test", about={"protocol": "zero-shot"})
  names = ["test.json", "test.txt", "test_queries.csv", "test_classes.csv"]
  assert [path.name for path in paths] == names
  assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
  saved = json.loads(paths[0].read_text())
  assert {name: saved[name] for name in report.summary()} == report.summary()
  assert saved["about"] == {"protocol": "zero-shot"}
  assert saved["intervals"]["map@all[voc]"] == list(intervals(report)["map@all[voc]"])
  assert saved["chance"] == chance(report)
  assert [row["class"] for row in saved["classes"]] == ["ant", "bee", "cat", "dog"]


def test_json_holds_null_where_nothing_can_be_computed(tmp_path):
  report = evaluate_categories(np.eye(2), np.eye(2), np.array([8, 9]), np.array([0, 1]))
  saved = json.loads(save_report(report, tmp_path)[0].read_text())
  assert saved["intervals"]["map@all[voc]"] == [None, None]
  assert saved["chance"]["map@all[voc]"] is saved["classes"][0]["map@all[voc]"] is None


def test_a_folder_that_cannot_be_made_is_a_users_mistake(report, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot be written"):
    save_report(report, tmp_path / "file" / "in")


def test_names_of_bytes_are_written_as_text(tmp_path):
  labels = np.array([b"cat", b"dog"])
  report = evaluate_categories(np.eye(2), np.eye(2), labels, labels)
  assert [row.name for row in class_rows(report)] == ["cat", "dog"]
  assert [row["class"] for row in lines_of(query_csv(report))] == ["cat", "dog"]


# Queries to show ----------------------------------------------------------------------------------


def test_best_typical_and_worst_are_of_many_classes_and_none_comes_twice(report):
  picked = best_typical_worst(report, 2)
  assert [word for word, _ in picked] == ["best"] * 2 + ["typical"] * 2 + ["worst"] * 2
  rows = [row for _, row in picked]
  values, label = report.per_query["map@all[voc]"][rows], report.query_label[rows]
  assert len(set(rows)) == 6
  assert values[0] == report.per_query["map@all[voc]"].max()
  assert values[5] == report.per_query["map@all[voc]"].min()
  assert (np.diff(values) <= 0).all()
  assert all(label[i] != label[i + 1] for i in (0, 2, 4))


def test_few_queries_are_shown_once_and_those_without_relevant_items_never():
  report = evaluate_categories(np.eye(3), np.eye(3), np.array([0, 1, 9]), np.array([1, 0, 0]))
  assert sorted(row for _, row in best_typical_worst(report, 2)) == [0, 1]

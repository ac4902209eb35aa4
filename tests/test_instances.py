"""The instance report: figures, protocols, files, and refused input."""

import csv
import json

import numpy as np
import pytest

from sbir.instances import best_typical_worst, evaluate_instances
from sbir.protocols import PROTOCOLS, trials
from sbir.report import csv_text, save_report, table
from sbir.retrieval.metrics import instance_ranks
from sbir.types import UserError


def case(num_photos=40, sketches_each=3, noise=1.0, undrawn=2, seed=0):
  """Returns embeddings and ids in which a sketch is its photo plus noise; the last `undrawn` photos
  have no sketch."""
  rng = np.random.default_rng(seed)
  gallery = rng.normal(size=(num_photos, 8))
  gallery_ids = [f"p{k:03d}" for k in rng.permutation(num_photos)]
  rows = np.repeat(np.arange(num_photos - undrawn), sketches_each)
  query = gallery[rows] + noise * rng.normal(size=(len(rows), 8))
  return query, gallery, [gallery_ids[row] for row in rows], gallery_ids


def test_the_full_protocol_asks_every_sketch_against_every_photo():
  query, gallery, query_ids, gallery_ids = case()
  report = evaluate_instances(query, gallery, query_ids, gallery_ids)
  assert (report.queries, report.gallery, report.protocol) == (114, 40, "full")
  target = np.array([gallery_ids.index(name) for name in query_ids])
  ranks = instance_ranks(query, gallery, target)
  np.testing.assert_array_equal(report.ranks, ranks)
  np.testing.assert_array_equal(report.target_rows, target)
  assert report.metrics["acc@5"] == (ranks <= 5).mean()
  assert report.metrics["median_rank_percentile"] == np.median((40 - ranks) / 39)
  assert report.chance["acc@5"] == 5 / 40
  low, high = report.intervals["acc@5"]
  assert low < report.metrics["acc@5"] < high


def test_without_noise_every_sketch_finds_its_photo_first():
  report = evaluate_instances(*case(noise=0.0))
  assert report.metrics["acc@1"] == report.metrics["mean_rank_percentile"] == 1.0
  np.testing.assert_array_equal(report.nearest_rows[:, 0], report.target_rows)
  assert report.warnings == []


def test_random_embeddings_are_near_chance():
  query, gallery, query_ids, gallery_ids = case(num_photos=200, noise=1.0)
  query = np.random.default_rng(9).normal(size=query.shape)
  report = evaluate_instances(query, gallery, query_ids, gallery_ids)
  assert report.metrics["acc@10"] == pytest.approx(0.05, abs=0.03)
  assert report.metrics["mean_rank_percentile"] == pytest.approx(0.5, abs=0.05)


def test_constant_embeddings_find_nothing_and_say_why():
  query, gallery, *ids = case()
  report = evaluate_instances(np.ones_like(query), np.ones_like(gallery), *ids)
  assert report.metrics["acc@10"] == 0
  assert report.ties == report.queries
  assert "114 of 114 sketches score their own photo like another" in report.warnings[0]


# Released protocols -------------------------------------------------------------------------------


def test_the_released_protocol_asks_one_sketch_per_drawn_photo_in_batches_of_sixteen():
  report = evaluate_instances(*case(), protocol="released", seed=1)
  assert (report.queries, report.gallery) == (38, 16)
  assert len(np.unique(report.target_rows)) == 38
  assert report.chance["acc@1"] == pytest.approx((16 + 16 + 6 * 16 / 6) / 16 / 38)
  assert report.warnings == ["the last batch holds 6 photos only, so its task is easier"]
  query_ids, gallery_ids = case()[2:]
  for query, target in zip(report.query_rows, report.target_rows, strict=True):
    assert query_ids[query] == gallery_ids[target]


def test_a_released_batch_never_answers_with_a_photo_of_another_batch():
  report = evaluate_instances(*case(), protocol="released")
  batch_of = {row: place // 16 for place, row in enumerate(report.target_rows)}
  for target, top in zip(report.target_rows, report.nearest_rows, strict=True):
    assert {batch_of[row] for row in top if row >= 0} == {batch_of[target]}
    assert (top < 0).sum() == (4 if batch_of[target] == 2 else 0)


def test_released_choices_follow_the_seed():
  draws = [evaluate_instances(*case(), protocol="released", seed=s).query_rows for s in (0, 0, 1)]
  np.testing.assert_array_equal(draws[0], draws[1])
  assert (draws[0] != draws[2]).any()


def test_one_per_class_draws_one_photo_of_each_class():
  category = np.array(["cat", "dog", "owl", "emu"])[np.arange(40) % 4]
  report = evaluate_instances(*case(), protocol="one_per_class", gallery_category=category)
  assert (report.queries, report.gallery) == (4, 4)
  assert sorted(category[report.target_rows]) == ["cat", "dog", "emu", "owl"]


def test_one_per_class_never_draws_a_photo_nobody_drew():
  photo_row, category = np.array([3, 4, 2]), np.array(["a", "b", "a", "b", "c"])
  for seed in range(9):
    (part,) = trials("one_per_class", photo_row, 5, category=category, seed=seed)
    np.testing.assert_array_equal(category[part.gallery_rows], ["a", "b", "c"])
    np.testing.assert_array_equal(part.gallery_rows, [2, 3, 4])


def test_one_per_class_needs_categories():
  with pytest.raises(UserError, match="needs photos of 2 categories or more"):
    evaluate_instances(*case(), protocol="one_per_class")


def test_released_figures_are_labelled_as_not_comparable():
  report = evaluate_instances(*case(), protocol="released")
  assert "not comparable with the full gallery" in table(report)
  assert "batch of 16" in report.summary()["protocol_text"]


def test_every_protocol_gives_each_query_its_own_photo_as_target():
  photo_row = np.array([4, 0, 0, 2, 4, 1])
  category = np.array(["a", "b", "a", "b", "a"])
  for protocol in PROTOCOLS:
    for part in trials(protocol, photo_row, 5, category=category):
      np.testing.assert_array_equal(part.gallery_rows[part.target], photo_row[part.query_rows])


# Files --------------------------------------------------------------------------------------------


def test_the_csv_names_each_query_its_rank_and_the_ten_nearest():
  query, gallery, query_ids, gallery_ids = case()
  names = [f"sketch/{k}.png" for k in range(len(query))]
  report = evaluate_instances(query, gallery, query_ids, gallery_ids, query_names=names)
  rows = list(csv.DictReader(csv_text(report).splitlines()))
  assert list(rows[0]) == ["query", "photo", "rank", *(f"top{k}" for k in range(1, 11))]
  assert [row["query"] for row in rows] == names
  assert [row["photo"] for row in rows] == query_ids
  for row in rows:
    rank = int(row["rank"])
    assert (
      (row[f"top{rank}"] == row["photo"])
      if rank <= 10
      else row["photo"] not in list(row.values())[3:]
    )


def test_places_that_a_small_gallery_lacks_stay_empty_in_the_csv():
  report = evaluate_instances(np.eye(3), np.eye(3), ["a", "b", "c"], ["a", "b", "c"])
  assert csv_text(report).splitlines()[2] == "b,b,1,b,a,c" + 7 * ","


def test_saved_files_hold_the_report(tmp_path):
  report = evaluate_instances(*case())
  paths = save_report(report, tmp_path / "new", "full")
  assert [path.name for path in paths] == ["full.json", "full.txt", "full.csv"]
  saved = json.loads(paths[0].read_text())
  assert saved["metrics"] == report.metrics
  assert saved["intervals"]["acc@1"] == list(report.intervals["acc@1"])
  assert (saved["queries"], saved["gallery"], saved["dim"]) == (114, 40, 8)
  assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(p.name for p in paths)


def test_a_folder_that_cannot_be_made_is_a_users_mistake(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot be written"):
    save_report(evaluate_instances(*case()), tmp_path / "file" / "in")


def test_the_table_shows_percentages_with_interval_and_chance():
  line = next(text for text in table(evaluate_instances(*case())).splitlines() if "Acc@10" in text)
  report = evaluate_instances(*case())
  low, high = report.intervals["acc@10"]
  expected = f"{100 * report.metrics['acc@10']:.1f} % {100 * low:.1f} - {100 * high:.1f} 25.0 %"
  assert line.split()[1:] == expected.split()


# Choice of queries, bad input ---------------------------------------------------------------------


def test_best_typical_and_worst_queries_are_picked_in_order():
  ranks = np.array([50, 1, 7, 100, 2, 30, 8, 9, 60])
  assert ranks[best_typical_worst(ranks, 2)].tolist() == [1, 2, 8, 9, 60, 100]
  assert sorted(best_typical_worst(np.array([3, 1]), 3)) == [0, 1]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"query": np.full((2, 3), np.nan)}, "query embeddings: 2 of 2 rows hold nan"),
    ({"query_ids": ["a"]}, "1 query ids for 2 query embeddings"),
    ({"gallery_ids": ["a", "b"]}, "2 gallery ids for 3 gallery embeddings"),
    ({"gallery_ids": ["a", "b", "a"]}, "gallery id a comes twice"),
    ({"query_ids": ["a", "x"]}, r"1 query ids are not in the gallery \(first: x\)"),
    ({"query_names": ["one"]}, "1 query names for 2 queries"),
    ({"protocol": "ful"}, "protocol='ful' must be one of: full, released, one_per_class"),
    ({"distance": "l2"}, "distance='l2' must be one of"),
    ({"cuts": (0,)}, "k=0 must be at least 1"),
  ],
)
def test_bad_input_is_refused_in_one_line(change, message):
  good = {"query": np.eye(3)[:2], "gallery": np.eye(3)}
  good |= {"query_ids": ["a", "b"], "gallery_ids": ["a", "b", "c"]}
  with pytest.raises(UserError, match=message) as error:
    evaluate_instances(**good | change)
  assert "\n" not in str(error.value)


def test_numbers_and_names_both_serve_as_ids():
  report = evaluate_instances(np.eye(3), np.eye(3), np.array([7, 8, 9]), ["7", "8", "9"])
  assert report.metrics["acc@1"] == 1

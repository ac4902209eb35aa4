"""What reports show beside the figures: modality gap, first right ranks, what counts."""

import numpy as np
import pytest
from PIL import Image

from sbir.embed import in_batches
from sbir.hidden_parts import what_counts
from sbir.html_report import Section, write_html
from sbir.plots import rank_histogram
from sbir.plots_closer import HEADS, attention_grid, share_curves
from sbir.projection import Projection
from sbir.report_extras import MAX_SKETCHES, sampled
from sbir.retrieval.first_right import chance_of_first, first_right_ranks
from sbir.retrieval.modality_gap import MAX_PAIRS, modality_gap, pairs_of_class


def random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


# Modality gap -------------------------------------------------------------------------------------


def test_the_gap_by_hand():
  query, gallery = np.array([[1.0, 0], [0, 2.0]]), np.array([[0, 3.0], [0, 1.0]])
  gap = modality_gap(query, gallery, np.array([[0, 0], [1, 1]]))
  assert gap.gap == pytest.approx(np.hypot(0.5, 0.5))  # (.5, .5) to (0, 1)
  assert gap.pair == pytest.approx(np.sqrt(2) / 2)  # sqrt 2 and 0
  assert gap.share == pytest.approx(1)


def test_groups_with_one_centre_have_no_gap_and_the_share_is_never_above_one():
  query, gallery = unit(random(40, 6)), unit(random(40, 6, seed=1))
  both = np.concatenate([query, -query]), np.concatenate([gallery, -gallery])
  pairs = np.stack([np.arange(80)] * 2, axis=1)
  assert modality_gap(*both, pairs).share == pytest.approx(0, abs=1e-9)
  assert 0 < modality_gap(query, gallery, pairs[:40]).share < 1


def test_no_length_and_no_rotation_of_the_vectors_changes_the_gap():
  query, gallery, pairs = random(9, 4), random(9, 4, seed=1), np.stack([np.arange(9)] * 2, axis=1)
  turn = np.linalg.qr(random(4, 4, seed=2))[0]
  other = modality_gap(5 * query @ turn, 0.1 * gallery @ turn, pairs)
  assert modality_gap(query, gallery, pairs)[:3] == pytest.approx(other[:3])


def test_many_pairs_are_sampled_the_same_way_each_time():
  pairs = np.zeros((MAX_PAIRS + 5, 2), int)
  assert modality_gap(random(1, 4), random(1, 4, seed=1), pairs).num_pairs == MAX_PAIRS
  pairs = pairs_of_class(np.array(["a", "b"]), np.array(["b", "a", "b"]))
  assert sorted(map(tuple, pairs.tolist())) == [(0, 1), (1, 0), (1, 2)]


# First right rank ---------------------------------------------------------------------------------


def test_the_first_right_rank_by_hand():
  gallery = np.array([[1.0, 0], [0.9, 0.1], [0, 1.0], [0, 1.0]])
  label = np.array(["a", "b", "b", "c"])
  query = np.array([[2.0, 0], [2.0, 0], [0, 5.0], [1.0, 0]])
  ranks = first_right_ranks(query, gallery, np.array(["a", "b", "b", "z"]), label)
  assert ranks.tolist() == [1, 2, 2]  # the tie with "c" counts against; "z" is left out


def test_chance_of_a_first_right_item_is_that_of_random_orders():
  assert chance_of_first(np.array([1, 1]), 5) == pytest.approx(np.arange(1, 6) / 5)
  by_hand = [2 / 4, 1 - 2 / 4 * 1 / 3, 1, 1]
  assert chance_of_first(np.array([2, 0]), 4) == pytest.approx(by_hand)
  draw = np.random.default_rng(0)
  firsts = [1 + draw.permutation(12)[:3].min() for _ in range(4000)]
  measured = [(np.array(firsts) <= k).mean() for k in range(1, 13)]
  assert chance_of_first(np.array([3]), 12) == pytest.approx(measured, abs=0.03)


# What counts --------------------------------------------------------------------------------------


def test_only_the_part_that_the_embedding_sees_counts():
  squares = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
  seen = lambda images: images[:, 2:4, 4:6, 0].astype(float).reshape(len(images), -1)
  embed = lambda images: unit(seen(images))
  falls = what_counts(squares, embed, embed(squares), 4)
  assert falls.shape == (2, 4, 4) and (falls[:, 1, 2] > 0.01).all()
  falls[:, 1, 2] = 0
  assert np.abs(falls).max() < 1e-12


# Pieces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [1, 3, 4, 9])
def test_batches_of_one_size_give_each_image_its_own_row(num):
  squares, sizes = random(num, 2, 2, 3), []

  def apply(images):
    sizes.append(len(images))
    return images.reshape(len(images), -1)

  np.testing.assert_array_equal(in_batches(apply, squares, 4), squares.reshape(num, -1))
  assert set(sizes) == {4}


def test_a_line_joins_each_shown_sketch_and_its_photo_if_that_is_shown():
  is_query, row = np.array([True, True, False, False]), np.array([0, 2, 5, 7])
  links = Projection(np.zeros((4, 2)), is_query, row).links(np.array([7, 0, 6]))
  assert links.tolist() == [[0, 3]]


def test_queries_are_sampled_once_each_and_the_same_by_seed():
  picked = sampled(500, 1)
  assert len(set(picked)) == MAX_SKETCHES and picked.tolist() == sampled(500, 1).tolist()
  assert sampled(3, 1).tolist() == [0, 1, 2]


def test_pictures_are_drawn(tmp_path):
  grey = np.full((8, 8, 3), 200, np.uint8)
  figures = {"a": [(0.1, 0.0, 0.2), (0.5, 0.4, 0.6)], "b": [(0.2, 0.1, 0.3)] * 2}
  strips = np.stack([[grey] * 2] * 3)
  paths = [
    attention_grid(tmp_path / "a.png", [[grey] * (1 + len(HEADS))] * 2, [True, False], labels="ab"),
    share_curves(tmp_path / "b.png", (0.5, 1.0), figures, strips, chance={"a": 0.1}),
    rank_histogram(
      tmp_path / "c.png", np.array([1, 3]), 9, chance=chance_of_first(np.array([2]), 9)
    ),
  ]
  for path in paths:
    with Image.open(path) as picture:
      assert min(picture.size) > 200 and np.asarray(picture).std() > 0


def test_a_long_page_begins_with_links_to_its_sections(tmp_path):
  few, many = ([Section(f"Part <{i}>") for i in range(num)] for num in (3, 4))
  assert "<nav>" not in write_html(tmp_path / "a.html", "t", few).read_text()
  text = write_html(tmp_path / "b.html", "t", many).read_text()
  for i in range(4):
    assert f'<a href="#s{i}">Part &lt;{i}&gt;</a>' in text and f'<h2 id="s{i}">' in text

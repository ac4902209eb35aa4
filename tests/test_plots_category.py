"""Pictures of category retrieval: files that open, frames where they belong, mistakes refused."""

import subprocess
import sys

import numpy as np
import pytest

from sbir import drawing, plots_category
from sbir.projection import project
from sbir.types import UserError
from tests.paths import REPO
from tests.test_plots import GREEN, PITCH, grey, pixels

MATHS = ["A$AP", "50$", r"\frac{", "hot-air_balloon"]


def green_columns(path):
  """Returns at which columns of the grid (0: the nearest photo) a green frame begins."""
  is_green = (pixels(path) == GREEN).all(axis=2).any(axis=0)
  first = drawing.MARGIN + drawing.CELL + drawing.GAP + drawing.ASIDE
  left = [round((first + i * (drawing.CELL + drawing.GAP)) * drawing.DPI) for i in range(4)]
  return [i for i, x in enumerate(left) if is_green[x - 3 : x + 4].any()]


def test_every_photo_of_the_class_is_framed_and_no_other(tmp_path):
  def draw(*is_right):
    return plots_category.category_grid(tmp_path / "a.png", grey(1), [grey(4)], [is_right])

  assert green_columns(draw(True, False, True, True)) == [0, 2, 3]
  assert green_columns(draw(False, False, False, False)) == []


def test_words_stand_beside_and_below_the_pictures(tmp_path):
  plain = (grey(2), [grey(3), grey(2)], [[True] * 3, [False] * 2])
  bare = pixels(plots_category.category_grid(tmp_path / "a.png", *plain))
  words = {
    "query_classes": MATHS[:2],
    "result_classes": [MATHS[:3], MATHS[:2]],
    "scores": [0.5, float("nan")],
    "labels": ["best", "worst"],
  }
  worded = pixels(plots_category.category_grid(tmp_path / "b.png", *plain, **words, title="$_"))
  assert worded.shape[0] > bare.shape[0] + PITCH / 4
  assert worded.shape[1] == pytest.approx(bare.shape[1] + drawing.LABEL * drawing.DPI, abs=2)


@pytest.mark.parametrize("num", [2, 13, 60])
def test_heat_maps_have_room_for_the_names_of_all_classes(tmp_path, num):
  rows = np.random.default_rng(0).normal(size=(num, 8))
  rows /= np.linalg.norm(rows, axis=1, keepdims=True)
  names = [f"{MATHS[i % 4]} {i}" for i in range(num)]
  path = plots_category.correlation_heatmap(tmp_path / "a.png", rows @ rows.T, names, title="$x")
  assert pixels(path).shape[0] > max(3, 0.15 * num) * drawing.DPI


def test_heat_maps_put_similar_classes_side_by_side():
  groups = np.array([0, 1, 2, 0, 1, 2, 0])
  correlation = np.where(groups[:, None] == groups, 0.9, 0.1)
  order = plots_category._side_by_side(correlation)
  assert sorted(order) == list(range(7))
  assert np.count_nonzero(np.diff(groups[order])) == 2


@pytest.mark.parametrize(
  ("shape", "fill", "num"), [((3, 3), 0, 4), ((3, 2), 0, 3), ((1, 1), 0, 1), ((2, 2), np.nan, 2)]
)
def test_a_matrix_that_does_not_fit_its_classes_is_refused(tmp_path, shape, fill, num):
  with pytest.raises(UserError, match=f"for {num} classes, expected finite numbers, one row"):
    plots_category.correlation_heatmap(tmp_path / "a.png", np.full(shape, fill), ["a"] * num)


@pytest.mark.parametrize("num", [1, 4, 40])
def test_every_class_has_a_bar(tmp_path, num):
  names = [f"{MATHS[i % 4]} {i}" for i in range(num)]
  values = {"map": np.full(num, 0.5), "prec": np.full(num, np.nan)}
  path = plots_category.class_bars(tmp_path / "a.png", names, values, title="t")
  blue = np.array([65, 124, 182])  # the accent colour, seen through
  is_blue = np.abs(pixels(path).astype(int) - blue).max(axis=2) < 12
  column = is_blue[:, np.flatnonzero(is_blue.any(axis=0))[0] + 9]  # left of the legend
  assert np.count_nonzero(np.diff(column.astype(int)) == 1) == num


def test_classes_without_a_figure_and_chance_are_drawn(tmp_path):
  values = {"map": [np.nan, 0.2], "prec": [np.nan, 0.1]}
  path = plots_category.class_bars(tmp_path / "a.png", ["a", "b"], values, chance={"map": 0.1})
  assert pixels(path).std() > 0


def test_bars_that_do_not_fit_their_classes_are_refused(tmp_path):
  with pytest.raises(UserError, match="classes: 2, map: 1"):
    plots_category.class_bars(tmp_path / "a.png", ["a", "b"], {"map": [0.1]})


@pytest.mark.parametrize("num", [1, 40])
def test_a_map_is_drawn_for_any_number_of_points(tmp_path, num):
  points = np.random.default_rng(0).normal(size=(num, 2))
  labels, is_query = np.array(MATHS)[np.arange(num) % 4], np.arange(num) % 3 == 0
  path = plots_category.embedding_map(tmp_path / "a.png", points, labels, is_query, title="Map")
  assert pixels(path).std() > 0


def test_points_of_one_class_lie_together_in_the_plane():
  rng = np.random.default_rng(0)
  centres = 5 * rng.normal(size=(3, 16))
  query_label, gallery_label = np.repeat([0, 1, 2], 6), np.repeat([0, 1, 2], 12)
  query = centres[query_label] + rng.normal(size=(18, 16))
  gallery = centres[gallery_label] + rng.normal(size=(36, 16))
  laid_out = project(query, gallery, max_points=40, seed=3)
  assert laid_out.points.shape == (40, 2)
  assert laid_out.is_query.sum() == 18  # fewer than half: the gallery has the rest
  label = laid_out.labels(query_label, gallery_label)
  apart = np.linalg.norm(laid_out.points[:, None] - laid_out.points, axis=2)
  np.fill_diagonal(apart, np.inf)
  assert (label[apart.argmin(axis=1)] == label).mean() > 0.9
  again = project(query, gallery, max_points=40, seed=3)
  np.testing.assert_array_equal(again.row, laid_out.row)
  assert len(np.unique(laid_out.row[~laid_out.is_query])) == 22


def test_few_or_equal_embeddings_are_laid_out_too():
  for query, gallery in ((np.eye(2), np.eye(2)), (np.ones((3, 1)), np.ones((4, 1)))):
    assert np.isfinite(project(query, gallery).points).all()


def test_drawing_libraries_are_imported_only_when_a_picture_is_made():
  code = """if True:
    import sys, sbir.plots_category, sbir.projection
    assert not {"matplotlib", "sklearn"} & set(sys.modules)
  """
  subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO)

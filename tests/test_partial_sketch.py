"""Sketches in part: what is shown was there, more share shows more, all of it shows all."""

import numpy as np
import pytest

from sbir.data.partial_sketch import (
  GUESSED,
  KNOWN,
  how_revealed,
  ink_order,
  partial_sketches,
  revealed,
)
from sbir.data.records import sketch_indices
from sbir.data.resized import resized
from sbir.data.synthetic import open_synthetic

SHARES = (0.05, 0.3, 0.6, 0.9, 1.0)
SYNTHETIC, FOLDER = {"source": "synthetic", "seed": 3}, {"source": "folder", "seed": 3}


@pytest.fixture(scope="module")
def source():
  return resized(open_synthetic("test", seed=3, num_test=4, num_sketches=1), 64)


def dark(image):
  return 255 - image.min(axis=2).astype(int)


@pytest.mark.parametrize("data", [SYNTHETIC, FOLDER], ids=["strokes", "pixels"])
def test_a_larger_share_shows_more_and_all_of_it_the_sketch(source, data):
  for index in sketch_indices(source):
    parts = partial_sketches(source, data, index, SHARES)
    np.testing.assert_array_equal(parts[-1], source.image(index))
    ink = [dark(part).sum() for part in parts]
    assert 0 < ink[0] < ink[2] < ink[4] and sorted(ink) == ink


@pytest.mark.parametrize("data", [SYNTHETIC, FOLDER], ids=["strokes", "pixels"])
def test_nothing_is_shown_that_the_whole_does_not_have(source, data):
  for index in sketch_indices(source):
    for part in partial_sketches(source, data, index, SHARES):
      assert (dark(part) <= dark(source.image(index))).all()


def test_the_share_of_pixels_is_what_was_asked_for():
  sketch = np.full((40, 40, 3), 255, np.uint8)
  sketch[20, 4:36] = 0
  parts = revealed(sketch, (0.25, 0.5, 0.75))
  assert [(part == 0).all(axis=2).sum() for part in parts] == [8, 16, 24]


def test_lines_come_longest_first_and_each_from_its_topmost_end():
  is_ink = np.zeros((6, 8), bool)
  is_ink[1:5, 6] = True  # four long
  is_ink[0, 0:3] = True  # three long, and further up
  order = ink_order(is_ink)
  np.testing.assert_array_equal(order[1:5, 6], [1, 2, 3, 4])
  np.testing.assert_array_equal(order[0, 0:3], [5, 6, 7])
  assert (order > 0).sum() == 7


def test_blank_paper_stays_blank():
  paper = np.full((8, 8, 3), 255, np.uint8)
  np.testing.assert_array_equal(revealed(paper, [0.5])[0], paper)


def test_the_report_says_whether_the_order_is_known():
  assert (how_revealed(SYNTHETIC), how_revealed(FOLDER)) == (KNOWN, GUESSED)

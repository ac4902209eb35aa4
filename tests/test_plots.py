"""The pictures: files that open, the right photo framed where it is, mistakes refused."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sbir import drawing, plots
from sbir.types import UserError
from tests.paths import REPO

GREEN = (26, 152, 80)  # drawing.RIGHT
PITCH = round((drawing.CELL + drawing.GAP) * drawing.DPI)


def grey(num):
  """Returns `num` small grey pictures."""
  return [np.full((8, 8, 3), 200, np.uint8)] * num


def pixels(path):
  with Image.open(path) as picture:
    assert picture.format == "PNG"
    return np.asarray(picture.convert("RGB"))


def green_box(path):
  """Returns (left, top, right, bottom) of the green in a picture, None without any."""
  rows, columns = np.nonzero((pixels(path) == GREEN).all(axis=2))
  return (columns.min(), rows.min(), columns.max(), rows.max()) if len(rows) else None


def grid(path, correct, **options):
  num = len(correct)
  return plots.retrieval_grid(path, grey(num), [grey(4)] * num, correct, **options)


def test_the_frame_is_around_the_right_photo_and_nowhere_else(tmp_path):
  first = green_box(grid(tmp_path / "a.png", [0]))
  third = green_box(grid(tmp_path / "b.png", [2]))
  assert third[0] - first[0] == pytest.approx(2 * PITCH, abs=1)
  assert third[1] == first[1]
  assert first[2] - first[0] < 1.1 * drawing.CELL * drawing.DPI


def test_a_missed_photo_is_framed_only_in_its_own_column(tmp_path):
  assert green_box(grid(tmp_path / "a.png", [None])) is None
  last = green_box(grid(tmp_path / "b.png", [None], right=grey(1)))
  fourth = green_box(grid(tmp_path / "c.png", [3]))
  assert last[0] - fourth[0] == pytest.approx(PITCH + drawing.ASIDE * drawing.DPI, abs=2)


def test_a_photo_that_was_found_is_not_shown_again_as_missed(tmp_path):
  mixed = pixels(grid(tmp_path / "a.png", [0, None], right=grey(2)))
  columns = np.flatnonzero((mixed[: mixed.shape[0] // 2] == GREEN).all(axis=2).any(axis=0))
  assert columns.max() - columns.min() < 1.1 * drawing.CELL * drawing.DPI


def test_every_query_has_its_row(tmp_path):
  one, three = (pixels(grid(tmp_path / f"{n}.png", [0] * n)).shape[0] for n in (1, 3))
  assert three - one == pytest.approx(2 * PITCH, abs=1)


def test_the_rank_is_written_beside_the_sketch(tmp_path):
  box = green_box(grid(tmp_path / "a.png", [1], ranks=[2], gallery_size=9, labels=["best"]))
  alone = green_box(grid(tmp_path / "b.png", [1]))
  assert box[0] < alone[0]  # the word "rank 2" is green too, and left of the photos


def test_pictures_of_other_shapes_and_fewer_results_fit(tmp_path):
  photos = [[np.zeros((5, 9, 3), np.uint8)], grey(3)]
  path = plots.retrieval_grid(tmp_path / "new" / "a.png", grey(2), photos, [0, 2], title="Grid")
  assert pixels(path).std() > 0


@pytest.mark.parametrize(("ranks", "size"), [([1], 1), ([1, 4, 4], 4), (range(1, 105), 104)])
def test_rank_histogram_is_drawn_for_any_gallery(tmp_path, ranks, size):
  path = plots.rank_histogram(tmp_path / "ranks.png", np.array(ranks), size)
  assert pixels(path).std() > 0


@pytest.mark.parametrize("ranks", [[], [0], [5]])
def test_ranks_outside_the_gallery_are_refused(tmp_path, ranks):
  with pytest.raises(UserError, match=r"in 1 \.\. 4"):
    plots.rank_histogram(tmp_path / "ranks.png", np.array(ranks), 4)


def test_loss_curve_takes_lines_with_holes_and_leaves_out_absent_scores(tmp_path):
  rows = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}, {"step": 3, "loss": 1.0, "acc": 0.5}]
  alone = plots.loss_curve(tmp_path / "a.png", rows, scores=("absent",))
  beside = plots.loss_curve(tmp_path / "b.png", rows, scores=("acc", "absent"), chance={"acc": 0.1})
  assert pixels(beside).shape[1] > pixels(alone).shape[1]


def test_loss_curve_without_a_loss_is_refused(tmp_path):
  with pytest.raises(UserError, match="1 lines of metrics hold no loss"):
    plots.loss_curve(tmp_path / "a.png", [{"step": 1, "loss": None}])


def test_lists_that_do_not_fit_are_refused(tmp_path):
  with pytest.raises(UserError, match="queries: 2, results: 1, correct: 2"):
    plots.retrieval_grid(tmp_path / "a.png", grey(2), [grey(3)], [0, 1])


def test_a_picture_that_cannot_be_written_is_a_users_mistake_and_leaves_nothing(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot be written"):
    grid(tmp_path / "file" / "a.png", [0])
  (tmp_path / "a.png").mkdir()
  with pytest.raises(UserError, match="cannot be written"):
    grid(tmp_path / "a.png", [0])
  assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "file"]


def test_matplotlib_is_imported_when_a_picture_is_made_and_pyplot_never(tmp_path):
  code = """if True:
    import sys, numpy as np, sbir.plots
    assert "matplotlib" not in sys.modules
    sbir.plots.rank_histogram(sys.argv[1], np.array([1]), 2)
    assert "matplotlib.pyplot" not in sys.modules
  """
  subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True, cwd=REPO)
  assert (tmp_path / "a.png").exists()

"""What a check lets pass and what not; the images it is made with."""

import numpy as np
import pytest
from PIL import Image

from sbir import export_images
from sbir.export_check import (
  ALLOWED,
  BATCH,
  Both,
  Deviation,
  Findings,
  check,
  deviation,
  same_order,
)
from sbir.export_images import check_images
from sbir.exported import Exported
from sbir.types import UserError
from tests.packages import PLAIN, SIDE


def circle(*degrees):
  """Returns vectors at these angles: cosines with the first are those of the differences."""
  turns = np.deg2rad(degrees)
  return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)


def order(photos, changed, sketch=0.0):
  side = lambda degrees: {"out": circle(*degrees)}
  sketches = Both({"out": circle(sketch)}, {"out": circle(sketch)})
  return same_order(sketches, Both(side(changed), side(photos)), "out", "out")


# --- the order ------------------------------------------------------------------------------------


def test_the_same_vectors_give_the_same_order_at_every_place():
  assert order([10, 20, 30], [10, 20, 30]) == (1, 1, 3, 3, 3)


def test_length_does_not_count():
  photos = {"out": circle(10, 20, 30)}
  longer = {"out": circle(10, 20, 30) * np.float32([[3], [1], [0.1]])}
  sketch = Both({"out": circle(0)}, {"out": circle(0) * 7})
  assert same_order(sketch, Both(longer, photos), "out", "out").identical == 3


def test_photos_whose_cosines_differ_by_more_than_allowed_must_not_change_places():
  # cos 20.00 - cos 20.02 = 1.2e-4
  assert order([10, 20.00, 20.02], [10, 20.02, 20.00]).same == 0


def test_photos_nearer_than_allowed_may_change_places():
  # cos 20.00 - cos 20.01 = 6.0e-5
  found = order([10, 20.00, 20.01], [10, 20.01, 20.00])
  assert (found.same, found.identical, found.places) == (1, 1, 3)


def test_beyond_the_tenth_place_order_does_not_count():
  photos = list(range(0, 60, 5))
  assert order(photos, [*photos[:10], 80, 70]).same == 1
  assert order(photos, [*photos[:9], 80, *photos[10:]]).same == 0


# --- the numbers ----------------------------------------------------------------------------------


def test_the_largest_deviation_is_told_with_its_output():
  one = {"a": np.zeros((2, 3)), "b": np.zeros((2, 1))}
  other = {"a": np.full((2, 3), 0.25), "b": np.array([[0], [-2.0]])}
  assert deviation(Both(other, one)) == (2.0, "b")


def test_not_a_number_is_no_small_deviation():
  found = deviation(Both({"a": np.array([[np.nan, 0]])}, {"a": np.array([[np.nan, 0]])}))
  assert found.value == np.inf


def test_missing_outputs_are_named():
  with pytest.raises(UserError, match="the outputs are a, expected a, b"):
    deviation(Both({"a": np.zeros(1)}, {"a": np.zeros(1), "b": np.zeros(1)}))


GOOD = Findings(Deviation(ALLOWED, "a"), Deviation(0.0, "a"), order([10, 20], [10, 20]))
COMPLAINTS = {
  "one image": (
    {"alone": Deviation(1.1e-4, "a")},
    "a differs from JAX by 1.1e-04 on single images",
  ),
  "five": ({"together": Deviation(0.5, "b")}, "b differs from JAX by 5.0e-01 on 5 images"),
  "no number": ({"together": Deviation(np.inf, "b")}, "b differs from JAX by inf"),
  "order": ({"order": order([10, 20], [20, 10])}, "1 of 1 sketches find other nearest 10 photos"),
}


def test_what_is_allowed_is_no_complaint():
  assert GOOD.complaint() == ""


@pytest.mark.parametrize("name", COMPLAINTS)
def test_anything_else_is_one(name):
  changes, expected = COMPLAINTS[name]
  assert expected in GOOD._replace(**changes).complaint()


# --- what is run ----------------------------------------------------------------------------------


class Recorder:
  """A file that is right, and remembers the batches it was given."""

  def __init__(self, wrong_after=1000):
    self.batches, self.num, self.wrong_after = [], 0, wrong_after

  def __call__(self, images):
    (x,) = images.values()
    self.batches.append(len(x))
    self.num += len(x)
    return {"out": x.reshape(len(x), -1)[:, :7] + (self.num > self.wrong_after)}


def checked(file, num_photos, dynamic):
  program = Exported(
    lambda params, images: {"out": images["photo"].reshape(images["photo"].shape[0], -1)[:, :7]},
    {"photo": None},
    {"photo": "out"},
    False,
  )
  draw = np.random.default_rng(0)
  squares = lambda num: list(draw.integers(0, 256, (num, SIDE, SIDE, 3)).astype(np.uint8))
  images = {"photo": squares(num_photos), "sketch": squares(2)}
  return check(file, program, {"none": np.zeros(1)}, PLAIN, images, dynamic=dynamic)


def test_a_dynamic_batch_is_run_at_5_and_at_1():
  file = Recorder()
  found = checked(file, 12, dynamic=True)
  assert file.batches == [BATCH] * 3 + [BATCH] + [1] * BATCH
  assert found.complaint() == "" and found.order == (2, 2, 12, 20, 20)


def test_a_fixed_batch_is_run_one_by_one():
  file = Recorder()
  assert checked(file, 3, dynamic=False).complaint() == ""
  assert set(file.batches) == {1}


def test_the_last_photo_is_looked_at_too():
  assert checked(Recorder(wrong_after=10), 12, dynamic=True).together.value == 1


# --- the images -----------------------------------------------------------------------------------


def test_drawn_images_are_squares_of_the_models_size():
  found = check_images(None, 24, "trim")
  assert {name: len(squares) for name, squares in found.items()} == {"photo": 64, "sketch": 16}
  assert {square.shape for squares in found.values() for square in squares} == {(24, 24, 3)}


def test_a_gallery_is_read_at_any_depth_and_hidden_files_are_not(tmp_path, monkeypatch):
  monkeypatch.setattr(export_images, "NUM_SKETCHES", 2)
  for name in ("b.png", "a/deep/c.png", ".thumbs/d.png", ".e.png"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 20), "red").save(tmp_path / name)
  (tmp_path / "notes.txt").write_text("no image")
  found = check_images(str(tmp_path), 24, "stretch")
  assert len(found["photo"]) == 2 and found["photo"][1].shape == (24, 24, 3)
  assert len(found["sketch"]) == 2


def test_a_gallery_without_images_is_refused(tmp_path):
  with pytest.raises(UserError, match="holds no image, expected photos"):
    check_images(str(tmp_path), 24, "stretch")


def test_a_broken_photo_is_named(tmp_path):
  (tmp_path / "a.png").write_bytes(b"no image")
  with pytest.raises(UserError, match=r"a\.png: not a readable image"):
    check_images(str(tmp_path), 24, "stretch")["photo"][0]

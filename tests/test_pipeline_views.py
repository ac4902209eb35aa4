"""Batches of stored views: which view and which records a row is of, and what is joined to it."""

from itertools import islice

import numpy as np
import pytest

from sbir.data.pipeline import PAIR_IMAGES, pair_batches, train_batches
from tests.test_pipeline import SIZE, FakeSource, drawn

NUM_ROWS = {"sketch": 10, "photo": 4}  # of an epoch of FakeSource


def batches(count, source=None, **settings):
  settings = {"image_size": SIZE, "batch_size": 3, "seed": 7, **settings}
  return list(islice(train_batches(source or FakeSource(), **settings), count))


@pytest.mark.parametrize("sample_by", ["sketch", "photo"])
@pytest.mark.parametrize("num_views", [1, 3])
def test_each_epoch_is_of_one_view_and_the_views_take_turns(sample_by, num_views):
  found = batches(20, sample_by=sample_by, num_views=num_views)
  views = np.concatenate([batch["view"] for batch in found])
  epochs = np.arange(60) // NUM_ROWS[sample_by]
  np.testing.assert_array_equal(views, epochs % num_views)
  assert views.dtype == np.int32


def test_a_batch_of_views_names_the_records_of_its_images():
  for batch in batches(8, num_views=2):
    for image, index in zip(
      PAIR_IMAGES, ("id", "sketch_index", "sketch_positive_index"), strict=True
    ):
      assert batch[index].dtype == np.int32
      np.testing.assert_array_equal(batch[image][:, 0, 0, 0], batch[index])


def test_views_change_nothing_in_which_pairs_are_drawn():
  plain, viewed = batches(8), batches(8, num_views=3)
  assert set(plain[0]) == {*PAIR_IMAGES, "id"}
  assert [drawn(batch) for batch in plain] == [drawn(batch) for batch in viewed]


@pytest.mark.parametrize("images", [("photo",), ("sketch", "sketch_positive")])
def test_images_that_are_not_asked_for_are_not_read(images):
  source = FakeSource()
  for batch in batches(8, source, images=images):
    assert set(batch) == {*images, "id"}
  kinds = {source.records[index].modality for index in source.reads}
  assert kinds == {images[0].split("_")[0]}
  source = FakeSource()
  list(pair_batches(source, image_size=SIZE, batch_size=4, images=images))
  assert {source.records[index].modality for index in source.reads} == kinds


def test_what_is_joined_is_asked_for_by_the_rows_and_views_of_the_batch():
  def join(rows, views):
    return {"target": np.stack([*rows.T, views], axis=1)}

  for batch in batches(8, num_views=2, join=join):
    columns = [
      batch[name] for name in ("id", "id", "sketch_index", "sketch_positive_index", "view")
    ]
    np.testing.assert_array_equal(batch["target"], np.stack(columns, axis=1))
  for batch in pair_batches(FakeSource(), image_size=SIZE, batch_size=4, join=join):
    id, photo, sketch, positive, view = batch["target"].T
    assert list(zip(id, photo, sketch, positive, strict=True)) == drawn(batch)
    assert not view.any()


def test_a_resumed_iterator_goes_on_in_the_same_view():
  straight = batches(9, num_views=2)
  iterator = train_batches(FakeSource(), image_size=SIZE, batch_size=3, seed=7, num_views=2)
  iterator.set_state({"next_index": 5})
  for one, other in zip(straight[5:], islice(iterator, 4), strict=True):
    assert one.keys() == other.keys()
    for name in one:
      np.testing.assert_array_equal(one[name], other[name], err_msg=name)

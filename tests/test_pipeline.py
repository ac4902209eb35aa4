"""The batches: what is drawn, in which order, and that any of it can be resumed or split."""

import json
import threading
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from sbir.data.pipeline import eval_batches, pair_batches, train_batches
from sbir.data.records import Record
from sbir.data.resized import resized
from sbir.types import UserError

SIZE = 4


class FakeSource:
  """Photos 0..n-1 with the given numbers of sketches; image i is filled with the number i."""

  name = "fake"

  def __init__(self, num_sketches=(3, 1, 0, 2, 4), size=SIZE):
    photos = [Record("photo", "", f"p{i}", f"p{i}.png") for i in range(len(num_sketches))]
    sketches = [
      Record("sketch", "", f"p{i}", f"p{i}_{k}.png")
      for i, count in enumerate(num_sketches)
      for k in range(count)
    ]
    self.records = (*photos, *sketches)
    self.size = size
    self.reads = Counter()

  def image(self, index, at_least=0):
    self.reads[index] += 1
    return np.full((self.size, self.size, 3), index, np.uint8)

  def stamp(self):
    return f"{self.size}, {len(self.records)}"


def batches(source=None, count=None, **overrides):
  settings = {"image_size": SIZE, "batch_size": 4, "seed": 7} | overrides
  iterator = train_batches(source or FakeSource(), **settings)
  return iterator if count is None else list(islice(iterator, count))


def drawn(batch):
  """Returns (id, photo, anchor, positive) per row, read back from the pixels."""
  pixels = [batch[name][:, 0, 0, 0].tolist() for name in ("photo", "sketch", "sketch_positive")]
  return list(zip(batch["id"].tolist(), *pixels, strict=True))


def rows(count, **settings):
  return [row for batch in batches(count=count, **settings) for row in drawn(batch)]


def test_every_sketch_is_an_anchor_once_in_each_epoch():
  anchors = [row[2] for row in rows(15, batch_size=2)]  # 10 sketches, 3 epochs
  for epoch in range(3):
    assert sorted(anchors[10 * epoch : 10 * epoch + 10]) == list(range(5, 15))
  assert anchors[:10] != anchors[10:20]


def test_every_photo_with_a_sketch_comes_once_in_each_epoch_when_sampled_by_photo():
  photos = [row[1] for row in rows(3, sample_by="photo")]
  for epoch in range(3):
    assert sorted(photos[4 * epoch : 4 * epoch + 4]) == [0, 1, 3, 4]


@pytest.mark.parametrize("sample_by", ["sketch", "photo"])
def test_anchor_and_positive_are_two_sketches_of_the_photo_named_by_id(sample_by):
  source = FakeSource()
  for id, photo, anchor, positive in rows(50, sample_by=sample_by):
    assert id == photo  # photos come first in the records
    assert source.records[anchor].instance == source.records[positive].instance == f"p{photo}"
    assert (anchor == positive) == (photo == 1)  # p1 has only one sketch


@pytest.mark.parametrize("sample_by", ["sketch", "photo"])
def test_every_ordered_pair_of_sketches_is_drawn_in_the_end(sample_by):
  seen = {(a, p) for _, photo, a, p in rows(150, sample_by=sample_by) if photo == 4}
  assert seen == {(a, p) for a in range(11, 15) for p in range(11, 15) if a != p}


def test_the_same_seed_gives_the_same_batches_whatever_the_threads_and_the_cache():
  first = rows(12)
  assert first == rows(12, num_threads=0) == rows(12, cache="none", num_threads=3)
  assert first != rows(12, seed=8)


@pytest.mark.parametrize("k", [0, 1, 3, 7])
def test_an_iterator_resumed_at_any_batch_continues_the_straight_one(k):
  iterator = batches()
  for _ in range(k):
    next(iterator)
  state = json.loads(json.dumps(iterator.get_state()))
  resumed = batches()
  next(resumed)  # a used iterator can be set back as well
  resumed.set_state(state)
  straight = [drawn(batch) for batch in batches(count=10)]
  assert [drawn(batch) for batch in islice(resumed, 10 - k)] == straight[k:]
  assert resumed.get_state() == {"next_index": 10}


@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_yield_the_global_batch_in_order(count):
  whole = batches(count=6)
  parts = [batches(count=6, process_index=i, process_count=count) for i in range(count)]
  for step, batch in enumerate(whole):
    for name, value in batch.items():
      joined = np.concatenate([part[step][name] for part in parts])
      np.testing.assert_array_equal(joined, value)


def test_batches_have_one_shape_and_the_promised_types():
  for batch in batches(FakeSource(size=9), 8):
    for name in ("photo", "sketch", "sketch_positive"):
      assert (batch[name].shape, batch[name].dtype) == ((4, SIZE, SIZE, 3), np.uint8)
    assert (batch["id"].shape, batch["id"].dtype) == ((4,), np.int32)


def test_a_remembered_image_is_read_once_and_an_unremembered_one_each_time():
  source = FakeSource()
  batches(source, 30)
  # Two threads that miss together may read twice; never more often than there are threads.
  assert set(source.reads) == set(range(15)) - {2}
  assert max(source.reads.values()) <= 2
  source = FakeSource()
  batches(source, 30, cache="none")
  assert max(source.reads.values()) > 10


def test_a_batch_is_a_copy_so_writing_to_it_leaves_the_cache_alone():
  source = FakeSource()
  images = resized(source, SIZE)
  first = next(eval_batches(images, [3], image_size=SIZE, batch_size=1))
  first["image"][:] = 99
  again = next(eval_batches(images, [3], image_size=SIZE, batch_size=1))
  assert (again["image"] == 3).all() and source.reads[3] == 1


def test_threads_that_fill_the_cache_together_see_whole_images():
  images = resized(FakeSource((1,) * 60, size=16), 16)
  wrong = []

  def read_all():
    wrong.extend(i for i in range(120) if not (images.image(i) == i).all())

  threads = [threading.Thread(target=read_all) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong


@pytest.mark.parametrize("count", [0, 1, 4, 5, 8])
def test_evaluation_covers_each_index_once_and_padding_is_masked(count):
  wanted = [9, 2, 5, 0, 14, 7, 1, 3][:count]
  out = list(eval_batches(FakeSource(), wanted, image_size=SIZE, batch_size=4))
  assert len(out) == -(-count // 4)
  assert [i for batch in out for i in batch["index"][batch["mask"]]] == wanted
  for batch in out:
    assert batch["image"].shape == (4, SIZE, SIZE, 3) and batch["index"].dtype == np.int32
    assert (batch["image"][:, 0, 0, 0] == batch["index"]).all()
    assert set(batch["index"][~batch["mask"]]) <= {wanted[-1]}


def test_evaluation_pairs_go_once_through_all_sketches_each_with_the_next():
  out = list(pair_batches(FakeSource(), image_size=SIZE, batch_size=4))
  assert [batch["mask"].sum() for batch in out] == [4, 4, 2]
  kept = [
    row for batch in out for row, keep in zip(drawn(batch), batch["mask"], strict=True) if keep
  ]
  assert kept == [
    *[(0, 0, 5, 6), (0, 0, 6, 7), (0, 0, 7, 5)],
    (1, 1, 8, 8),
    *[(3, 3, 9, 10), (3, 3, 10, 9)],
    *[(4, 4, 11, 12), (4, 4, 12, 13), (4, 4, 13, 14), (4, 4, 14, 11)],
  ]


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    (
      {"batch_size": 11},
      "batch_size=11 is more than the 10 training pairs of an epoch; nearest: 10",
    ),
    ({"batch_size": 5, "sample_by": "photo"}, "nearest: 4"),
    ({"batch_size": 0}, "at least 1"),
    ({"batch_size": 9, "process_count": 2}, "nearest: 8 or 10"),
    ({"seed": -1}, "seed=-1 must be 0 or more"),
    ({"sample_by": "class"}, "'sketch' or 'photo'"),
    ({"cache": "ram"}, "'memory', 'disk' or 'none'"),
    ({"num_threads": -1}, "num_threads=-1"),
  ],
)
def test_a_setting_out_of_range_is_refused_with_what_to_do(settings, message):
  with pytest.raises(UserError, match=message):
    batches(**settings)


def test_a_cache_larger_than_the_machine_is_refused_before_it_is_filled():
  with pytest.raises(UserError, match=r"GiB.* set data\.cache=none"):
    resized(FakeSource(), 10**7)


def test_a_source_without_a_single_pair_is_refused():
  with pytest.raises(UserError, match="0 training pairs"):
    batches(FakeSource((0, 0)))


def test_an_image_that_cannot_be_read_stops_the_iterator_with_the_users_error():
  class Broken(FakeSource):
    def image(self, index, at_least=0):
      raise UserError(f"{self.records[index].key}: truncated")

  for num_threads in (0, 2):
    with pytest.raises(UserError) as error:
      next(batches(Broken(), num_threads=num_threads))
    assert str(error.value).endswith("png: truncated")  # one line; Grain adds its note elsewhere

"""The laws of the two streams: every image once an epoch, no pairs, resumable, the same however
many processes there are."""

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbir.data.records import Record, ordered
from sbir.data.streams import class_batches, epoch_steps
from sbir.types import UserError

CLASSES = ("ant", "bat", "cat")
NAMES = ("photo", "sketch")


class Numbered:
  """Records dealt out to the classes in turn; the image of record i is one pixel of i."""

  name = "numbered"

  def __init__(self, photos: int, sketches: int):
    self.records = ordered(
      Record(modality, CLASSES[i % len(CLASSES)], f"{modality}{i}", f"{modality}/{i}")
      for modality, count in (("photo", photos), ("sketch", sketches))
      for i in range(count)
    )

  def image(self, index, at_least=0):
    return np.full((1, 1, 3), index, np.uint8)

  def stamp(self):
    return f"{len(self.records)}"


def batches(source, count=None, **overrides):
  words = {"image_size": 1, "num_photos": 1, "num_sketches": 1, "seed": 7, "num_threads": 0}
  iterator = class_batches(source, CLASSES, **words | overrides)
  return iterator if count is None else list(islice(iterator, count))


def drawn(batches, name):
  """The indices of one stream, batch after batch, read back from the pixels."""
  return [i for batch in batches for i in batch[name][:, 0, 0, 0].tolist()]


numbers = st.integers(1, 9)
sets = st.tuples(numbers, numbers, st.integers(0, 30), st.integers(0, 30)).map(
  lambda n: (n[0], n[1], n[0] + n[2], n[1] + n[3])  # a batch of each, and at least as many images
)


@settings(max_examples=40, deadline=None)
@given(sets, st.integers(0, 2**32 - 1))
def test_no_image_comes_twice_in_an_epoch_and_only_an_unfilled_batch_is_left_out(sizes, seed):
  b, c, photos, sketches = sizes
  source = Numbered(photos, sketches)
  steps = epoch_steps(source, num_photos=b, num_sketches=c)
  assert steps == min(photos // b, sketches // c)
  out = batches(source, 3 * steps, num_photos=b, num_sketches=c, seed=seed)
  for epoch in range(3):
    mine = out[epoch * steps : (epoch + 1) * steps]
    for name, size, first, count in (("photo", b, 0, photos), ("sketch", c, photos, sketches)):
      indices = drawn(mine, name)
      assert len(set(indices)) == len(indices) == steps * size
      assert set(indices) <= set(range(first, first + count))
  assert photos - steps * b < b or sketches - steps * c < c


@settings(max_examples=20, deadline=None)
@given(sets, st.integers(0, 2**32 - 1))
def test_labels_are_those_of_the_images(sizes, seed):
  b, c, photos, sketches = sizes
  source = Numbered(photos, sketches)
  out = batches(source, 3, num_photos=b, num_sketches=c, seed=seed)
  for name in NAMES:
    labels = [label for batch in out for label in batch[f"{name}_label"].tolist()]
    assert [CLASSES[label] for label in labels] == [
      source.records[i].category for i in drawn(out, name)
    ]


@settings(max_examples=20, deadline=None)
@given(sets, st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_a_resumed_iterator_goes_on_as_the_straight_one(sizes, taken, seed):
  b, c, photos, sketches = sizes
  words = {"num_photos": b, "num_sketches": c, "seed": seed}
  source = Numbered(photos, sketches)
  first = batches(source, **words)
  for _ in range(taken):
    next(first)
  state = json.loads(json.dumps(first.get_state()))
  assert state == {"next_index": taken}
  resumed = batches(source, **words)
  resumed.set_state(state)
  rest = list(islice(resumed, 4))
  straight = batches(source, taken + 4, **words)[taken:]
  for name in NAMES:
    assert drawn(rest, name) == drawn(straight, name)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([2, 3, 4]), numbers, numbers, st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_processes_together_yield_the_global_batch(count, b, c, more, seed):
  source = Numbered(count * b + more, count * c + 2 * more)
  words = {"num_photos": count * b, "num_sketches": count * c, "seed": seed}
  whole = batches(source, 4, **words)
  parts = [batches(source, 4, **words, process_index=i, process_count=count) for i in range(count)]
  for step, batch in enumerate(whole):
    for name, value in batch.items():
      joined = np.concatenate([part[step][name] for part in parts])
      np.testing.assert_array_equal(joined, value)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_one_stream_is_not_changed_by_the_other(seed):
  out = batches(Numbered(24, 24), 6, num_photos=4, num_sketches=4, seed=seed)
  fewer = batches(Numbered(24, 6), 6, num_photos=4, num_sketches=1, seed=seed)
  assert drawn(out, "photo") == drawn(fewer, "photo")
  assert [i - 24 for i in drawn(out, "sketch")] != drawn(out, "photo")  # nor is it the same order


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
  epochs = batches(Numbered(20, 20), 10, num_photos=10, num_sketches=10)
  other = batches(Numbered(20, 20), 2, num_photos=10, num_sketches=10, seed=8)
  for name in NAMES:
    orders = [tuple(drawn(epochs[k : k + 2], name)) for k in range(0, 10, 2)]
    assert len({*orders, tuple(drawn(other, name))}) == 6


def test_what_one_epoch_leaves_out_the_next_ones_bring():
  out = batches(Numbered(10, 40), 60, num_photos=4, num_sketches=1)  # 2 photos left out each time
  counts = Counter(drawn(out, "photo"))
  assert set(counts) == set(range(10)) and max(counts.values()) <= 30


def test_any_photo_meets_any_sketch_as_classes_are_not_paired():
  out = batches(Numbered(6, 6), 300)
  met = {(p, s) for p, s in zip(drawn(out, "photo"), drawn(out, "sketch"), strict=True)}
  assert len(met) == 36


def test_threads_change_nothing_and_arrays_have_the_promised_types():
  words = {"num_photos": 6, "num_sketches": 3, "image_size": 2}
  one, two = (batches(Numbered(20, 20), 9, **words, num_threads=n) for n in (0, 3))
  for a, b in zip(one, two, strict=True):
    assert {k: (v.shape, str(v.dtype)) for k, v in a.items()} == {
      "photo": ((6, 2, 2, 3), "uint8"),
      "photo_label": ((6,), "int32"),
      "sketch": ((3, 2, 2, 3), "uint8"),
      "sketch_label": ((3,), "int32"),
    }
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize(
  "words, message",
  [
    ({"num_photos": 11}, "num_photos=11 of a batch is more than the 10 .*nearest: 10"),
    ({"num_sketches": 21}, "num_sketches=21 of a batch is more than the 20 .*nearest: 20"),
    ({"num_photos": 0}, "num_photos=0 must be at least 1"),
    ({"num_photos": 3, "process_count": 2}, "num_photos=3 must divide by 2.*nearest: 2 or 4"),
    (
      {"num_photos": 2, "num_sketches": 5, "process_count": 2},
      "num_sketches=5 must divide by 2.*nearest: 4 or 6",
    ),
    ({"seed": -1}, "seed=-1 must be 0 or more"),
    ({"num_threads": -1}, "num_threads=-1"),
    ({"cache": "ram"}, "'memory', 'disk' or 'none'"),
  ],
)
def test_a_setting_out_of_range_is_refused_with_what_to_do(words, message):
  with pytest.raises(UserError, match=message) as got:
    batches(Numbered(10, 20), **words)
  assert "\n" not in str(got.value)


def test_a_category_that_is_not_trained_on_is_refused():
  words = {"image_size": 1, "num_photos": 1, "num_sketches": 1, "seed": 0}
  with pytest.raises(UserError, match=r"1 categories are none of the 2 classes.*'cat'"):
    class_batches(Numbered(9, 9), CLASSES[:2], **words)

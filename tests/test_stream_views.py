"""Stored views in the two streams: which view an image is shown in, and what is joined to it."""

import json
from itertools import islice

import numpy as np
import pytest

from sbir.data.streams import class_batches, epoch_steps
from tests.test_data_streams import CLASSES, NAMES, Numbered, batches, drawn

SOURCE = Numbered(7, 10)
SIZES = {"num_photos": 3, "num_sketches": 4}
STEPS = epoch_steps(SOURCE, **SIZES)


def both(index, view):
  """Joins numbers from which row and view can be read back."""
  return {"logits": np.stack([index, view], axis=1).astype(np.float32)}


def test_the_indices_are_those_of_the_images():
  out = batches(SOURCE, 6, **SIZES, num_views=2)
  for name in NAMES:
    indices = [i for batch in out for i in batch[f"{name}_index"].tolist()]
    assert indices == drawn(out, name)


@pytest.mark.parametrize("num_views", [1, 3])
def test_every_image_of_an_epoch_is_shown_in_the_view_of_the_epoch(num_views):
  out = batches(SOURCE, 7 * STEPS, **SIZES, num_views=num_views)
  for step, batch in enumerate(out):
    for name in NAMES:
      assert set(batch[f"{name}_view"].tolist()) == {step // STEPS % num_views}
      assert batch[f"{name}_view"].dtype == batch[f"{name}_index"].dtype == np.int32


def test_what_is_joined_is_that_of_the_row_and_its_view():
  for batch in batches(SOURCE, 3 * STEPS, **SIZES, num_views=2, join=both):
    for name in NAMES:
      index, view = batch[f"{name}_logits"].T.astype(int)
      np.testing.assert_array_equal(index, batch[f"{name}_index"])
      np.testing.assert_array_equal(view, batch[f"{name}_view"])


def test_stored_views_change_neither_the_images_nor_their_order():
  plain, stored = (
    batches(SOURCE, 5, **SIZES, **words) for words in ({}, {"num_views": 2, "join": both})
  )
  for one, two in zip(plain, stored, strict=True):
    assert set(two) - set(one) == {
      f"{name}_{column}" for name in NAMES for column in ("index", "view", "logits")
    }
    for name in one:
      np.testing.assert_array_equal(one[name], two[name])


def test_a_resumed_iterator_is_in_the_view_of_its_epoch_and_threads_change_nothing():
  words = {"image_size": 1, **SIZES, "seed": 3, "num_views": 3, "join": both}
  straight = list(islice(class_batches(SOURCE, CLASSES, **words, num_threads=0), 4 * STEPS))
  resumed = class_batches(SOURCE, CLASSES, **words, num_threads=2)
  resumed.set_state(json.loads(json.dumps({"next_index": STEPS + 1})))
  for one, two in zip(straight[STEPS + 1 :], islice(resumed, 3 * STEPS - 1), strict=True):
    for name in one:
      np.testing.assert_array_equal(one[name], two[name])


def test_processes_together_yield_the_global_batch():
  sizes = {"num_photos": 4, "num_sketches": 2, "num_views": 2, "join": both}
  whole = batches(SOURCE, 4, **sizes)
  parts = [batches(SOURCE, 4, **sizes, process_index=i, process_count=2) for i in range(2)]
  for step, batch in enumerate(whole):
    for name, value in batch.items():
      np.testing.assert_array_equal(np.concatenate([part[step][name] for part in parts]), value)

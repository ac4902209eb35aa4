"""data.on_error: what training does about an image that cannot be read, with real files."""

import json
import shutil
from itertools import islice

import numpy as np
import pytest

from sbir.data.bad_images import Unreadable
from sbir.data.fit import fit_square
from sbir.data.images import MAX_SIDE
from sbir.data.pairs import epoch_rows, find_pairs
from sbir.data.pipeline import PAIR_IMAGES, eval_batches, pair_batches, train_batches
from sbir.data.resized import resized
from sbir.data.streams import class_batches
from sbir.data.tfds_source import TfdsSource
from sbir.types import UserError
from tests.bad_files import DAMAGE, make_numbered, open_shoes
from tests.data_folders import make_qmul

SIZE, BATCH = 3, 20
PHOTO, SKETCH = 11, 140  # of other pairs; 210 images in all, so two may be bad


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  return make_numbered(tmp_path_factory.mktemp("numbered"))


@pytest.fixture
def root(whole, tmp_path):
  return shutil.copytree(whole, tmp_path / "shoes")


@pytest.fixture
def spoilt(root):
  """A set of which a photo is a link to nothing and a sketch is cut."""
  for index, kind in ((PHOTO, "a link to nothing"), (SKETCH, "truncated")):
    DAMAGE[kind][0](open_shoes(root).path(index))
  return root


def source_of(root, on_error="skip", **words):
  return resized(open_shoes(root), SIZE, **{"cache": "none"} | words, on_error=on_error)


def batches(source, number=None, **overrides):
  words = {"image_size": SIZE, "batch_size": BATCH, "seed": 7, "num_threads": 0} | overrides
  iterator = train_batches(source, **words)
  return iterator if number is None else list(islice(iterator, number))


def drawn(batch, names=PAIR_IMAGES):
  """Returns the indices of the images in each row, read back from the pixels."""
  return np.stack([batch[name][:, 0, 0, 0] for name in names], axis=1)


def expected(root, count, bad, **words):
  """Returns the rows of the first `count` batches by the rule, from the order and what is bad."""
  pairs, words = find_pairs(open_shoes(root)), {"sample_by": "sketch", "seed": 7} | words
  rows = []
  for epoch in range(4):
    order = epoch_rows(pairs, **words, epoch=epoch)[:, 1:]
    half = len(order) // 2
    for place, row in enumerate(order):
      others = np.roll(order, -place - half, axis=0)
      rows.append(next(row for row in (row, *others) if not set(row) & set(bad)))
  return np.stack(rows)[: count * BATCH]


def lines_with(capsys, path):
  return [line for line in capsys.readouterr().err.splitlines() if str(path) in line]


# --- stop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DAMAGE)
def test_by_default_a_bad_file_of_any_kind_stops_with_path_reason_and_what_to_do(kind, root):
  spoil, reason = DAMAGE[kind]
  files = open_shoes(root)
  spoil(files.path(PHOTO))
  with pytest.raises(UserError) as stopped:
    batches(resized(files, SIZE, on_error="stop"), 8)
  message = str(stopped.value)
  assert message.startswith(f"{files.path(PHOTO)}: ") and reason in message
  assert message.endswith("; or train without it: --config.data.on_error=skip")
  assert "\n" not in message


def test_another_word_is_refused(whole):
  with pytest.raises(UserError, match=r"data\.on_error='ignore' must be one of: stop, skip"):
    source_of(whole, "ignore")


# --- skip -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_bad_file_of_any_kind_is_skipped_told_once_and_tried_once(
  kind, cache, root, tmp_path, capsys
):
  spoil, reason = DAMAGE[kind]
  files = open_shoes(root)
  spoil(files.path(PHOTO))
  words = {"cache": cache, "cache_dir": tmp_path / "kept", "on_error": "skip"}
  source = resized(files, SIZE, **words)
  out = batches(source, 21)  # three epochs
  assert len(out) == 21 and PHOTO not in np.concatenate([drawn(batch) for batch in out])
  (line,) = lines_with(capsys, files.path(PHOTO))
  assert line.startswith("skipped: ") and reason in line
  assert files.reads[PHOTO] == 1
  source.bad.tell()
  assert capsys.readouterr().err == "shoe_v2: 1 of 210 images cannot be read and were skipped\n"


@pytest.mark.parametrize("sample_by", ["sketch", "photo"])
def test_a_row_half_an_epoch_on_stands_for_one_with_a_bad_image(sample_by, spoilt):
  out = batches(source_of(spoilt), 12, sample_by=sample_by)
  rows = np.concatenate([drawn(batch) for batch in out])
  np.testing.assert_array_equal(rows, expected(spoilt, 12, {PHOTO, SKETCH}, sample_by=sample_by))
  assert {len(batch["id"]) for batch in out} == {BATCH}
  assert np.concatenate([batch["id"] for batch in out]).tolist() == rows[:, 0].tolist()
  for batch in out[:3]:
    assert len(np.unique(drawn(batch), axis=0)) == BATCH  # none stands in a batch twice


@pytest.mark.parametrize(
  "words", [{"num_threads": 3}, {"cache": "memory", "num_threads": 2}, {"images": ("photo",)}]
)
def test_threads_caches_and_what_is_looked_at_change_nothing(words, spoilt):
  cache = words.pop("cache", "none")
  names = words.get("images", PAIR_IMAGES)
  rows = [drawn(batch, names) for batch in batches(source_of(spoilt, cache=cache), 12, **words)]
  wanted = expected(spoilt, 12, {PHOTO, SKETCH})[:, : len(names)]
  np.testing.assert_array_equal(np.concatenate(rows), wanted)


@pytest.mark.parametrize("taken", [1, 4, 9])
def test_a_resumed_iterator_goes_on_as_the_straight_one_though_it_has_met_nothing(taken, spoilt):
  straight = batches(source_of(spoilt), 12)
  first = batches(source_of(spoilt))
  for _ in range(taken):
    next(first)
  resumed = batches(source_of(spoilt))
  resumed.set_state(json.loads(json.dumps(first.get_state())))
  for batch, wanted in zip(resumed, straight[taken:], strict=False):
    np.testing.assert_array_equal(drawn(batch), drawn(wanted))


def test_until_it_stops_a_run_sees_what_one_that_skips_does_so_it_may_go_on_skipping(spoilt):
  pairs = find_pairs(open_shoes(spoilt))
  rows_of = lambda seed: epoch_rows(pairs, sample_by="sketch", seed=seed, epoch=0)
  is_late = lambda rows: not {PHOTO, SKETCH} & set(rows[: 2 * BATCH, 1:].flat)
  seed = next(seed for seed in range(100) if is_late(rows_of(seed)))
  stopping, skipping = (batches(source_of(spoilt, word), seed=seed) for word in ("stop", "skip"))
  seen = 0
  with pytest.raises(UserError, match=r"train without it"):
    for batch, wanted in zip(stopping, skipping, strict=True):
      np.testing.assert_array_equal(drawn(batch), drawn(wanted))
      seen += 1
  assert seen >= 2


@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_yield_the_global_batch_though_each_meets_its_own(count, spoilt):
  whole = batches(source_of(spoilt), 8)
  words = [{"process_index": i, "process_count": count} for i in range(count)]
  parts = [batches(source_of(spoilt), 8, **share) for share in words]
  for step, batch in enumerate(whole):
    for name, value in batch.items():
      joined = np.concatenate([part[step][name] for part in parts])
      np.testing.assert_array_equal(joined, value)


def test_more_bad_images_than_one_in_a_hundred_stop_with_how_many_and_the_first(spoilt):
  DAMAGE["no bytes"][0](open_shoes(spoilt).path(3))
  for num_threads in (0, 2):
    source = source_of(spoilt)
    with pytest.raises(UserError) as stopped:
      batches(source, 12, num_threads=num_threads)
    message = str(stopped.value)
    assert message.startswith("shoe_v2: 3 of 210 images cannot be read, expected at most 2 with")
    assert "python -m sbir.data.doctor names them all; the first: " in message
    assert f"the first: {spoilt}/train" in message and "\n" not in message


def test_a_small_set_may_have_one_and_it_must_leave_something_to_train_on(tmp_path):
  root = make_qmul(tmp_path / "shoes", train=["1"])
  (root / "trainA/1_9.png").write_bytes(b"")
  source = resized(open_shoes(root), SIZE, on_error="skip")
  with pytest.raises(UserError, match=r"1 of 3 images .* nothing is left to train on; python.*1_9"):
    next(batches(source, batch_size=1))


# --- what is measured -----------------------------------------------------------------------------


def test_what_is_measured_stops_at_a_bad_image_whatever_training_does(spoilt):
  source = source_of(spoilt)
  batches(source, 8)
  words = {"image_size": SIZE, "batch_size": BATCH}
  for out in (eval_batches(source, range(210), **words), pair_batches(source, **words)):
    with pytest.raises(Unreadable, match=r"cannot be read|truncated") as stopped:
      list(out)
    assert "on_error" not in str(stopped.value)


# --- two streams ----------------------------------------------------------------------------------


def streams(root, count, on_error="skip", **overrides):
  words = {"num_photos": 12, "num_sketches": 20, "seed": 3, "num_threads": 0} | overrides
  words |= {"image_size": SIZE}
  return list(islice(class_batches(source_of(root, on_error), ("",), **words), count))


def test_in_each_stream_an_image_half_an_epoch_on_stands_for_a_bad_one(spoilt, whole):
  plain, out = streams(whole, 10), streams(spoilt, 10)
  for name, bad, num, per_batch in (("photo", PHOTO, 70, 12), ("sketch", SKETCH, 140, 20)):
    before, after = (np.stack([drawn(batch, [name])[:, 0] for batch in b]) for b in (plain, out))
    assert (before == bad).sum() == 2 and bad not in after
    np.testing.assert_array_equal(after[before != bad], before[before != bad])
    rng = np.random.default_rng([3, 0, 0 if name == "photo" else 1])
    order = rng.permutation(np.arange(num) + (70 if name == "sketch" else 0))
    place = int(np.flatnonzero(order == bad)[0])
    assert after[place // per_batch, place % per_batch] == order[(place + num // 2) % num]


def test_streams_are_the_same_with_threads_and_for_any_number_of_processes(spoilt):
  out = streams(spoilt, 10)
  parts = [streams(spoilt, 10, process_index=i, process_count=2, num_threads=2) for i in (0, 1)]
  for step, batch in enumerate(out):
    for name, value in batch.items():
      joined = np.concatenate([part[step][name] for part in parts])
      np.testing.assert_array_equal(joined, value)


def test_a_stream_stops_by_default(spoilt):
  with pytest.raises(UserError, match=r"\.png: .*train without it: --config\.data\.on_error=skip"):
    streams(spoilt, 10, "stop")


# --- other storage, other shapes ------------------------------------------------------------------


def test_bad_bytes_in_a_prepared_set_are_skipped_too(spoilt, capsys):
  files = open_shoes(spoilt)
  rows = [
    {"key": record.key.encode(), "image": path.read_bytes() if path.exists() else b"x"}
    for record, path in ((r, spoilt / r.key) for r in files.records)
  ]
  prepared = TfdsSource("shoe_v2", "train", spoilt, files.records, rows)
  out = batches(resized(prepared, SIZE, on_error="skip"), 12)
  rows = np.concatenate([drawn(batch) for batch in out])
  np.testing.assert_array_equal(rows, expected(spoilt, 12, {PHOTO, SKETCH}))
  assert len(lines_with(capsys, files.records[PHOTO].key)) == 1


def test_the_longest_side_there_may_be_becomes_a_square_in_bounded_memory():
  import tracemalloc

  strip = np.zeros((MAX_SIDE, 1, 3), np.uint8)
  tracemalloc.start()
  squares = [fit_square(strip, 32, fit) for fit in ("stretch", "trim")]
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert [square.shape for square in squares] == [(32, 32, 3)] * 2
  assert (squares[0] == 0).all() and squares[1].min() < 255
  assert peak < 600e6


def test_where_training_skips_the_stored_images_of_an_earlier_run_still_count(spoilt, tmp_path):
  words = {"cache": "disk", "cache_dir": tmp_path / "kept", "on_error": "skip"}
  rows = []
  for _ in range(2):
    source = resized(open_shoes(spoilt), SIZE, **words)
    rows.append(np.concatenate([drawn(batch) for batch in batches(source, 12)]))
    np.testing.assert_array_equal(rows[-1], expected(spoilt, 12, {PHOTO, SKETCH}))

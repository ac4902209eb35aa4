"""PSKD's mains on a set with an image that cannot be read: stopped, skipped, stored."""

from itertools import islice

import numpy as np
import pytest

from pskd import stages
from sbir import cli
from sbir.types import UserError
from tests.pskd_refusals import save_untrained
from tests.pskd_runs import TINY, make_classes, of_data
from tests.pskd_tiny import make_stub

BAD = "photo/cow/1.png"


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
  """A folder with data of which a photo holds nothing, a teacher, and the settings of its student;
  all networks are stubs."""
  root = tmp_path_factory.mktemp("spoilt")
  data = make_classes(root / "data", photos=5, sketches=4)
  (data / BAD).write_bytes(b"")
  with pytest.MonkeyPatch.context() as patch:
    make_net = lambda *_, head, **__: make_stub(head.num_classes)
    patch.setattr(stages, "two_token_net", make_net)
    teacher = save_untrained(root / "teacher", "teacher", of_data(data))
    words = {"teacher": str(teacher), "loss.ila_group": "0", "cache.views": "2"}
    yield root, {**TINY, **of_data(data), **words}


def given_batches(settings, monkeypatch, count=10, **changes):
  """Returns what a student's main would train on."""
  given = {}
  monkeypatch.setattr(stages, "train", lambda task, **rest: given.update(rest, task=task))
  stages._open_part.cache_clear()  # a new process would try every file anew
  words = {**settings, **{key.replace("__", "."): text for key, text in changes.items()}}
  stages.train_stage(cli.load_config("configs/pskd/student.py:sketchy_mini", words), "unwritten")
  return list(islice(given["batches"], count))


def test_a_bad_photo_is_stored_as_nothing_and_never_shown(spoilt, monkeypatch, capfd):
  root, settings = spoilt
  filled = given_batches(settings, monkeypatch, data__on_error="skip")
  assert capfd.readouterr().err.count(f"skipped: {root / 'data' / BAD}") == 1  # by the filling
  found = given_batches(settings, monkeypatch, data__on_error="skip")
  assert capfd.readouterr().err.count(f"skipped: {root / 'data' / BAD}") == 1
  for one, other in zip(filled, found, strict=True):
    assert np.isfinite(one["photo_logits"]).all()
    for name, value in one.items():
      np.testing.assert_array_equal(value, other[name])
  config = cli.load_config("configs/pskd/student.py:sketchy_mini", settings)
  keys = [record.key for record in stages.make_plan(config, "unwritten").source.records]
  shown = {keys[index] for batch in filled for index in batch["photo_index"]}
  assert len(shown) == 19 and BAD not in shown


@pytest.mark.parametrize("views", ["0", "2"], ids=["training", "filling"])
def test_by_default_it_stops_with_the_path(views, spoilt, tmp_path, monkeypatch):
  words = {"cache__views": views, "cache__dir": str(tmp_path)}
  with pytest.raises(UserError, match=r"cow/1\.png: not a readable image .*0 bytes.*on_error=skip"):
    given_batches(spoilt[1], monkeypatch, **words)


def test_only_what_is_trained_on_may_be_skipped(spoilt):
  changes = {"data.validation_classes": "2", "data.on_error": "skip"}
  config = cli.load_config("configs/pskd/student.py:sketchy_mini", {**spoilt[1], **changes})
  assert stages.make_plan(config, "unwritten").source.bad.is_skipping
  for part in ("validation", "test", "seen"):
    assert not stages.open_part(config, part, 16)[0].bad.is_skipping

"""PSKD's mains on a set with an image that cannot be read: stopped, skipped, stored."""

import numpy as np
import pytest

from pskd import stages
from sbir import cli
from sbir.logs import read_metrics
from sbir.types import UserError
from tests.pskd_runs import TINY, make_classes, of_data
from tests.pskd_tiny import make_stub

BAD = "photo/cow/1.png"


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
  """A folder with data of which a photo is cut, and its settings; all networks are stubs."""
  root = tmp_path_factory.mktemp("spoilt")
  data = make_classes(root / "data", photos=5, sketches=4)
  (data / BAD).write_bytes(b"")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(stages, "two_token_net", lambda *_, head, **__: make_stub(head.num_classes))
    yield root, {**TINY, **of_data(data), "log_every": "1", "epochs": "3", "warmup_epochs": "0"}


def train(stage, workdir, settings, **changes):
  stages._open_part.cache_clear()  # a new process would try every file anew
  config = cli.load_config(f"configs/pskd/{stage}.py:sketchy_mini", {**settings, **changes})
  stages.train_stage(config, str(workdir))
  return [row["loss"] for row in read_metrics(workdir)]


def test_teacher_and_student_skip_it_and_what_is_stored_of_it_is_never_used(spoilt, capfd):
  root, settings = spoilt
  settings = {**settings, "data.on_error": "skip"}
  losses = train("teacher", root / "teacher", settings)
  assert np.isfinite(losses).all() and len(losses) > 6
  words = {"teacher": str(root / "teacher"), "loss.ila_group": "0", "cache.views": "2"}
  capfd.readouterr()
  first = train("student", root / "filled", {**settings, **words})
  said = capfd.readouterr().err
  assert said.count(f"skipped: {root / 'data' / BAD}") == 1
  assert "images cannot be read and were skipped" in said
  assert train("student", root / "found", {**settings, **words}) == first
  assert np.isfinite(first).all()
  with pytest.raises(UserError, match=r"cow/1\.png: .*train without it: --config\.data\.on_error"):
    train("student", root / "stopped", {**settings, **words, "data.on_error": "stop"})


def test_by_default_it_stops_with_the_path(spoilt):
  root, settings = spoilt
  with pytest.raises(UserError, match=r"cow/1\.png: not a readable image .*0 bytes"):
    train("teacher", root / "stopped_teacher", settings)


def test_validation_stops_whatever_training_does(spoilt, tmp_path):
  data = make_classes(tmp_path / "data")
  cut_photo = data / "photo/ant/0.png"
  cut_photo.write_bytes(b"")
  changes = {"data.validation_classes": "2", "eval_every": "1", "data.on_error": "skip"}
  settings = {**spoilt[1], **of_data(data), **changes}
  with pytest.raises(UserError, match=r"ant/0\.png: not a readable image") as stopped:
    train("teacher", tmp_path / "run", settings)
  assert "on_error" not in str(stopped.value)

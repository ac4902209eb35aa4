"""Run folders in a store: what a run on a disk leaves and does, one in a store does too."""

import json
import re
import socket

import jax
import numpy as np
import pytest
from PIL import Image

from sbir import checkpoint, given_weights, processes, run_folder, run_lock
from sbir.data.kept_pixels import DiskPixels
from sbir.html_report import Picture, Section, write_html
from sbir.logs import TIMING_FIELDS, MetricLog, read_metrics
from sbir.models import from_pretrained
from sbir.places import cache_of, place
from sbir.plots import rank_histogram
from sbir.run_lock import locked
from sbir.types import UserError
from tests.stores import BUCKET, FakeStore, store, upload
from tests.toy import ToyBatches, toy_train
from tests.xmodal_runs import TINY, make_pairs
from xmodal import pipeline

__all__ = ["store"]
pytestmark = pytest.mark.usefixtures("store")
RUN = f"{BUCKET}/runs/toy"


def numbers(workdir):
  rows = read_metrics(workdir)
  return [{name: row[name] for name in row if name not in TIMING_FIELDS} for row in rows]


class Broken(Exception):
  """What stands for a killed process."""


class BreakingBatches(ToyBatches):
  def __next__(self):
    if self.position == 10:
      raise Broken
    return super().__next__()


def test_a_run_in_a_store_that_was_broken_off_ends_as_one_on_the_disk(tmp_path, store):
  toy_train(tmp_path / "run")
  with pytest.raises(Broken):
    toy_train(RUN, batches=BreakingBatches())
  assert run_folder.saved_steps(RUN) == [4, 8]
  toy_train(RUN)
  assert numbers(RUN) == numbers(tmp_path / "run")
  assert run_folder.saved_steps(RUN) == run_folder.saved_steps(tmp_path / "run")
  jax.tree.map(
    np.testing.assert_array_equal,
    checkpoint.restore_params(RUN),
    checkpoint.restore_params(tmp_path / "run"),
  )
  assert run_folder.read_config(RUN) == run_folder.read_config(tmp_path / "run")
  assert not store.exists(f"{RUN}/lock.json")


def test_a_run_in_a_store_goes_on_on_another_machine(tmp_path, monkeypatch, capfd):
  toy_train(RUN, steps=8, config={"method": "toy"})
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
  toy_train(RUN, steps=14, config={"method": "toy"})
  assert "resumed after step 8" in capfd.readouterr().err
  assert run_folder.latest_step(RUN) == 14


def test_a_step_that_another_machine_has_saved_anew_is_fetched_anew(tmp_path, monkeypatch, store):
  train = lambda where, steps, seed: toy_train(where, steps=steps, seed=seed, config={"seed": 0})
  train(RUN, 4, 0)
  store.rm(RUN, recursive=True)
  with monkeypatch.context() as patch:
    patch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    train(RUN, 4, 1)
  train(RUN, 8, 1)
  train(tmp_path / "run", 8, 1)
  params = [checkpoint.restore_params(where) for where in (RUN, tmp_path / "run")]
  jax.tree.map(np.testing.assert_array_equal, *params)


def test_a_step_whose_copy_was_interrupted_is_none(monkeypatch):
  toy_train(RUN, steps=4, config={"method": "toy"})
  send = FakeStore.put_file

  def break_off(self, here, there, **words):
    if "/8/" in there and "commit" in there:
      raise ConnectionError("gone")
    return send(self, here, there, **words)

  monkeypatch.setattr(FakeStore, "put_file", break_off)
  with pytest.raises(UserError, match=r"checkpoints/8 cannot be saved \(gone\)"):
    toy_train(RUN, steps=8, config={"method": "toy"})
  assert run_folder.saved_steps(RUN) == [4]
  monkeypatch.setattr(FakeStore, "put_file", send)
  toy_train(RUN, steps=8, config={"method": "toy"})
  assert run_folder.saved_steps(RUN) == [4, 8]


def test_several_processes_are_refused_a_run_folder_in_a_store(monkeypatch):
  monkeypatch.setattr(processes, "_joined", processes.Share(0, 2))
  with pytest.raises(UserError, match="is in a store, where one process alone can save, and 2"):
    checkpoint.Checkpoints(RUN)


def test_another_config_is_refused_in_a_store_as_on_the_disk():
  run_folder.open_run(RUN, {"rate": 1})
  run_folder.open_run(RUN, {"rate": 1}, {"path": "p", "file": "f", "sha256": "0"})
  assert run_folder.read_versions(RUN)["init"]["file"] == "f"
  with pytest.raises(UserError, match="rate: 1 there, 2 here"):
    run_folder.check(RUN, {"rate": 2})


def test_metrics_are_added_to_line_by_line_and_cut_where_a_run_goes_on(capfd):
  with MetricLog(RUN) as log:
    log.write(1, {"loss": 1.0})
    assert read_metrics(RUN) == [{"step": 1, "loss": 1.0}]
    log.write(2, {"loss": float("nan")})
  assert "no events for TensorBoard" in capfd.readouterr().err
  with MetricLog(RUN, restored_step=1, tensorboard=False) as log:
    log.write(2, {"loss": 3.0})
  assert read_metrics(RUN) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 3.0}]


def test_a_living_process_holds_a_run_folder_in_a_store_and_a_dead_one_does_not(store):
  with locked(RUN):
    with pytest.raises(UserError, match="workdir s3://bucket/runs/toy is in use"), locked(RUN):
      pass
    assert store.exists(f"{RUN}/lock.json")
  assert not store.exists(f"{RUN}/lock.json")
  owner = {"host": socket.gethostname(), "pid": 2**22 + 1, "started": "1"}
  place(f"{RUN}/lock.json").write_text(json.dumps(owner))
  with locked(RUN):
    pass


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_foreign_lock_in_a_store_holds_as_long_as_it_is_touched(monkeypatch, is_silent):
  place(f"{RUN}/lock.json").write_text(json.dumps({"host": "other", "pid": 1, "started": "1"}))
  if is_silent:
    monkeypatch.setattr(run_lock, "DEAD_SECONDS", -1.0)
    with locked(RUN):
      return
  with pytest.raises(UserError, match="in use by process 1 on other"), locked(RUN):
    pass


def test_pictures_and_pages_are_written_into_a_store():
  path = rank_histogram(f"{RUN}/ranks.png", np.array([1, 2, 2, 5]), 9)
  with path.open("rb") as file:
    assert Image.open(file).format == "PNG"
  page = write_html(f"{RUN}/report.html", "All", [Section("Ranks", [Picture(path)])])
  assert "data:image/png;base64," in page.read_text()


@pytest.mark.parametrize(
  ("ask", "words"),
  [
    (lambda: run_folder.read_config(RUN), f"run folder {RUN} does not exist"),
    (lambda: checkpoint.restore_params(RUN), f"run folder {RUN} does not exist"),
    (lambda: from_pretrained(f"{BUCKET}/model"), f"{BUCKET}/model is not a folder"),
    (
      lambda: DiskPixels(f"{BUCKET}/cache", {"num_images": 1, "image_size": 8}, "key"),
      f"data.cache_dir={BUCKET}/cache must be a local folder",
    ),
    (
      lambda: given_weights.check_init({"kind": "dino", "path": f"{BUCKET}/w.pth"}, ("dino",)),
      f"init.path={BUCKET}/w.pth is not a file or folder",
    ),
    (lambda: run_folder.check("az://bucket/run", {}), "needs adlfs, which is not installed"),
  ],
)
def test_what_is_not_there_or_must_be_local_is_told_in_one_line(ask, words):
  with pytest.raises(UserError, match=re.escape(words)) as caught:
    ask()
  assert "\n" not in str(caught.value)


def test_a_store_that_does_not_answer_is_told_in_one_line(monkeypatch):
  def refuse(*_, **__):
    raise RuntimeError("no credentials\nwere found")

  monkeypatch.setattr(FakeStore, "isdir", refuse)
  for ask in (lambda: run_folder.check(RUN, {}), lambda: run_folder.read_config(RUN)):
    with pytest.raises(UserError, match="no credentials were found") as caught:
      ask()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_whole_pipeline_works_from_data_in_a_store_into_a_folder_in_a_store(
  tmp_path, monkeypatch, store
):
  settings = {**TINY, "steps": "2", "cache.views": "2"}
  settings["data.dir"] = upload(make_pairs(tmp_path / "data"))
  report = pipeline.run("shoe304", f"{BUCKET}/xmodal", settings)
  local = {**settings, "data.dir": str(tmp_path / "data")}
  same = pipeline.run("shoe304", tmp_path / "xmodal", local)
  assert report.metrics == same.metrics
  names = {path.rpartition("/")[2] for path in store.find(f"{BUCKET}/xmodal/evaluation")}
  assert names == {path.name for path in (tmp_path / "xmodal/evaluation").iterdir()}
  assert len(list(cache_of(f"{BUCKET}/xmodal/teacher").iterdir())) > 0
  one, other = (
    from_pretrained(f"{BUCKET}/xmodal/package"),
    from_pretrained(tmp_path / "xmodal/package"),
  )
  jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
  given = given_weights.load(f"{BUCKET}/xmodal/package", "package", None, key="init.path")
  jax.tree.map(np.testing.assert_array_equal, given.converted.params, other.params)

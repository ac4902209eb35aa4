"""Students with their teacher's stored vectors, through their mains: what is shared and skipped."""

import shutil
from itertools import islice

import jax
import pytest

from sbir.data.pipeline import train_batches
from sbir.logs import TIMING_FIELDS, read_metrics
from tests.xmodal_caches import NOTHING_RANDOM, config_of, stored
from tests.xmodal_tiny import quick_jit
from xmodal import stages, train_photo_student, train_sketch_student

pytest_plugins = ["tests.xmodal_caches"]

MAINS = {"photo": train_photo_student, "sketch": train_sketch_student}


def train(modality, workdir, teacher_run, pairs, **changes):
  """Trains a student through its main; returns its logged numbers."""
  config = config_of("student", pairs, teacher=teacher_run, **changes)
  MAINS[modality].main(config, str(workdir))
  return [
    {name: value for name, value in row.items() if name not in TIMING_FIELDS}
    for row in read_metrics(workdir)
  ]


@pytest.mark.slow
@pytest.mark.parametrize("modality", MAINS)
def test_without_augmentation_a_students_numbers_are_those_of_a_running_teacher(
  modality, teacher_run, pairs, tmp_path
):
  runs = [
    train(modality, tmp_path / views, teacher_run, pairs, cache__views=views, **NOTHING_RANDOM)
    for views in ("1", "0")
  ]
  cached, running = runs
  assert [row.keys() for row in cached] == [row.keys() for row in running]
  assert "test_acc@1" in cached[-1]
  for one, other in zip(cached, running, strict=True):
    assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.slow
def test_both_students_share_what_the_first_had_computed(teacher_run, pairs, tmp_path, capfd):
  train("photo", tmp_path / "photo", teacher_run, pairs)
  before = stored(teacher_run)
  assert len({path.parent for path in before if path.suffix == ".npy"}) == 2  # train and test
  capfd.readouterr()
  train("sketch", tmp_path / "sketch", teacher_run, pairs)
  said = capfd.readouterr().err
  assert stored(teacher_run) == before
  for split, rows in (("train", 8 * 16), ("test", 16)):
    assert f"teacher's vectors, {split}: complete, {rows} rows" in said


@pytest.mark.slow
def test_a_cached_student_holds_neither_its_teacher_nor_the_other_modality(
  teacher_run, pairs, tmp_path, monkeypatch
):
  given = {}
  monkeypatch.setattr(stages, "train", lambda task, **rest: given.update(rest, task=task))
  MAINS["sketch"].main(config_of("student", pairs, teacher=teacher_run), str(tmp_path / "run"))
  assert given["task"].frozen(None, None) == {} == given["task"].teacher_params
  batch = next(given["batches"])
  assert "photo" not in batch and batch["target_positive"].shape == (8, 48)


@pytest.mark.slow
@pytest.mark.parametrize("modality", MAINS)
def test_through_the_mains_random_views_cost_no_loss_either(
  modality, teacher_run, pairs, tmp_path, monkeypatch
):
  given = {}
  monkeypatch.setattr(stages, "train", lambda task, **rest: given.update(rest, task=task))
  config = config_of("student", pairs, teacher=teacher_run, seed=5, cache__views=2)
  MAINS[modality].main(config, str(tmp_path / "run"))
  settings = {"image_size": 16, "batch_size": 8, "seed": 5, "num_views": 2}
  whole = train_batches(stages.open_split(config, "train"), **settings)
  beside = stages.make_task(config)  # the teacher runs, on stored views
  params, extra = beside.init(jax.random.key(0), next(whole))

  def loss_of(task):
    frozen = task.frozen(None, None)
    return quick_jit(lambda batch: task.loss(params, extra, frozen, batch, jax.random.key(0))[0])

  whole.set_state({"next_index": 0})
  cached, running = loss_of(given["task"]), loss_of(beside)
  for stored_batch, batch in islice(zip(given["batches"], whole, strict=True), 4):  # both views
    assert float(cached(stored_batch)) == pytest.approx(float(running(batch)), rel=1e-5)


@pytest.mark.slow
def test_a_finished_student_is_skipped_though_nothing_is_stored_any_more(
  teacher_run, pairs, tmp_path, capfd
):
  rows = train("photo", tmp_path / "run", teacher_run, pairs)
  shutil.rmtree(teacher_run / "cache")
  assert train("photo", tmp_path / "run", teacher_run, pairs) == rows
  assert "2 of 2 steps are done; skipped" in capfd.readouterr().err
  assert not (teacher_run / "cache").exists()

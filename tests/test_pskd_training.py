"""PSKD learns by heart what it is given, and what it is not given it does not look at."""

import json

import jax
import numpy as np
import pytest

from pskd import stages
from pskd.networks import load_network
from pskd.stages import load_net, open_part, train_stage
from pskd.validation import CHOOSE_BY
from sbir import cli, run_folder
from sbir.checkpoint import restore_params
from sbir.logs import read_metrics
from sbir.types import UserError
from tests.pskd_runs import RESTART, SEEN, TINY, UNSEEN, VALIDATION, make_classes, of_data
from tests.pskd_tiny import (
  Batching,
  make_batch,
  make_net,
  make_stub,
  published_optimizer,
  run_steps,
  student_task,
  teacher_task,
)

# --- by heart -------------------------------------------------------------------------------------

CLASSES, STEPS = 8, 120
LEAST = -0.9 * np.log(0.9) - 0.1 * np.log(0.1 / (CLASSES - 1))  # all that smoothing leaves of L_CLS


@pytest.fixture(scope="module")
def by_heart():
  """Returns the metrics of every step of a teacher and of its student, both shown two photos
  and two sketches of each class."""
  labels = np.repeat(np.arange(CLASSES, dtype=np.int32), 2)
  batch = make_batch(16, 16) | {"photo_label": labels, "sketch_label": labels}
  quickly = published_optimizer(STEPS, lr=0.03, backbone_lr=1.0, weight_decay_end=0.04)
  teacher = teacher_task(Batching(2, 1), model=make_net(CLASSES))
  state, _, of_teacher = run_steps(teacher, [batch] * STEPS, quickly)
  student = student_task(model=make_stub(CLASSES))._replace(
    teacher=teacher.model, teacher_params=jax.device_get(state.params)
  )
  return of_teacher, run_steps(student, [batch] * STEPS, quickly)[2]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1], ids=["teacher", "student"])
def test_eight_classes_are_learnt_by_heart(by_heart, stage):
  first, last = by_heart[stage][0], by_heart[stage][-1]
  assert first["accuracy"] < 0.5
  assert last["accuracy"] == 1.0
  assert last["loss"] < first["loss"] / 2


@pytest.mark.slow
def test_a_teacher_comes_near_to_the_least_that_smoothing_leaves(by_heart):
  assert LEAST < by_heart[0][-1]["loss"] < LEAST + 0.1


@pytest.mark.slow
def test_a_student_gets_better_at_each_of_its_terms(by_heart):
  first, last = by_heart[1][0], by_heart[1][-1]
  for term in ("skd", "ce", "ila"):
    assert last[term] < first[term] - 0.3, term


# --- what is trained on, and what chooses ---------------------------------------------------------


def config_of(stage, root, **changes):
  settings = {**RESTART, **of_data(root), **changes}
  return cli.load_config(f"configs/pskd/{stage}.py:sketchy_mini", settings)


def test_validation_and_test_classes_are_never_trained_on(tmp_path):
  config = config_of("teacher", make_classes(tmp_path))
  parts = {part: open_part(config, part, 16) for part in ("train", "validation", "test")}
  found = {
    part: tuple(sorted({record.category for record in source.records}))
    for part, (source, _) in parts.items()
  }
  assert found == {"train": SEEN, "validation": VALIDATION, "test": UNSEEN}
  assert parts["train"][1].seen == SEEN


SCORES = {2: 0.2, 4: 0.9, 6: 0.4}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
  """The run folder of a teacher that is a stub and whose validation scores are SCORES."""
  folder, scores = tmp_path_factory.mktemp("chosen"), iter(SCORES.values())
  scorer = lambda *_: lambda params, frozen: {CHOOSE_BY: next(scores)}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(stages, "two_token_net", lambda *_, head, **__: make_stub(head.num_classes))
    patch.setattr(stages, "make_scorer", scorer)
    train_stage(config_of("teacher", make_classes(folder / "data")), str(folder / "run"))
    yield folder / "run"


def test_scores_on_the_validation_classes_are_logged_where_they_were_taken(chosen):
  rows = {row["step"]: row.get(CHOOSE_BY) for row in read_metrics(chosen)}
  assert rows == {step: SCORES.get(step) for step in range(1, 7)}


def test_the_step_that_scored_best_is_kept_beside_the_newest(chosen):
  assert run_folder.saved_steps(chosen) == [4, 6]


@pytest.mark.parametrize(("select", "step"), [("best", 4), ("last", 6)])
def test_an_evaluation_takes_the_best_or_the_last_step(chosen, select, step):
  network = load_network(str(chosen), select)
  assert network.step == step
  expected = restore_params(chosen, step=step)
  jax.tree.map(np.testing.assert_array_equal, network.params, expected)


def test_the_run_folder_says_which_classes_the_labels_stand_for(chosen):
  config = json.loads((chosen / "config.json").read_text())
  assert (config["classes"], config["steps"]) == (list(SEEN), 6)


def test_a_network_that_is_not_finished_is_used_and_said_to_be_so(chosen, capfd):
  config = json.loads((chosen / "config.json").read_text())
  (chosen / "config.json").write_text(json.dumps(config | {"steps": 9}))
  load_net(str(chosen), "teacher")
  (chosen / "config.json").write_text(json.dumps(config))
  expected = f"teacher={chosen} is not finished: used as it is after its last saved step\n"
  assert capfd.readouterr().err == expected


def test_without_scores_there_is_no_best_step(tmp_path, monkeypatch):
  monkeypatch.setattr(stages, "two_token_net", lambda *_, head, **__: make_stub(head.num_classes))
  config = cli.load_config(
    "configs/pskd/teacher.py:sketchy_mini",
    {**TINY, **of_data(make_classes(tmp_path / "data")), "epochs": "1", "warmup_epochs": "0"},
  )
  train_stage(config, str(tmp_path / "run"))
  with pytest.raises(UserError, match=r"no saved step of .+ was measured on validation classes"):
    load_network(str(tmp_path / "run"), "best")


@pytest.mark.parametrize(("std", "is_said"), [("0.02", True), ("0.0", False)])
def test_the_published_recipe_from_random_weights_is_warned_of(tmp_path, capfd, std, is_said):
  config = config_of("teacher", tmp_path, **{"model.head_std": std})
  params = {"head": np.zeros(3)}
  assert stages._begin(config, params, 3) == (params, {})
  assert ("hardly learns from random weights" in capfd.readouterr().err) == is_said


def test_the_rate_grows_with_the_batch(tmp_path):
  config = config_of("teacher", tmp_path, **{"optimizer.lr": "0.5"})
  assert stages.scaled_rate(config) == pytest.approx(0.5 * 4 / 256)


def test_the_stages_of_one_process_share_what_they_have_read(tmp_path):
  root = make_classes(tmp_path)
  teacher, student = config_of("teacher", root), config_of("student", root)
  assert open_part(teacher, "train", 16)[0] is open_part(student, "train", 16)[0]
  assert open_part(teacher, "train", 16)[0] is not open_part(student, "test", 16)[0]

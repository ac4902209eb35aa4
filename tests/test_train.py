import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sbir import checkpoint, mesh, run_folder
from sbir.logs import read_metrics
from sbir.step import init_state, make_train_step
from sbir.types import UserError
from tests.toy import ToyBatches, ToyTask, toy_train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("finished")
  return workdir, jax.device_get(toy_train(workdir, steps=6).params)


def start(task, optimizer):
  batch = mesh.put_batch(next(ToyBatches()), mesh.make_mesh())
  frozen = mesh.put_replicated(task.frozen(None, batch), mesh.make_mesh())
  return init_state(task, optimizer, jax.random.key(0), batch), frozen, batch


def test_a_step_is_the_gradient_step_it_says_it_is():
  task, optimizer = ToyTask(), optax.sgd(0.1)
  state, frozen, batch = start(task, optimizer)
  key = jax.random.fold_in(state.key, 0)
  grads = jax.grad(lambda p: task.loss(p, state.extra, frozen, batch, key)[0])(state.params)
  expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
  after, metrics = make_train_step(task, optimizer)(state, frozen, batch)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after.params, expected)
  assert int(after.step) == 1
  assert set(metrics) == {"loss", "grad_norm", "finite", "mean_guess"}


def test_the_state_is_donated_and_the_teacher_is_not():
  task, optimizer = ToyTask(), optax.adam(0.1)
  state, frozen, batch = start(task, optimizer)
  make_train_step(task, optimizer)(state, frozen, batch)
  assert state.params["head"]["kernel"].is_deleted()
  assert not frozen["kernel"].is_deleted()


def test_each_step_draws_its_own_noise_from_one_key():
  task, optimizer = ToyTask(), optax.sgd(0.0)
  state, frozen, batch = start(task, optimizer)
  step = make_train_step(task, optimizer)
  state, first = step(state, frozen, batch)
  _, second = step(state, frozen, batch)
  assert float(first["loss"]) != float(second["loss"])


def test_training_approaches_the_teacher(tmp_path):
  toy_train(tmp_path, steps=60)
  losses = [row["loss"] for row in read_metrics(tmp_path)]
  assert losses[-1] < 0.05 * losses[0]


def test_the_run_folder_says_what_it_is_before_the_first_step(tmp_path):
  seen = []

  class Watching(ToyTask):
    def loss(self, *arguments):
      seen.append({path.name for path in tmp_path.iterdir()})
      return super().loss(*arguments)

  toy_train(tmp_path, steps=1, task=Watching())
  assert {"config.json", "versions.json", "metrics.jsonl"} <= seen[0]
  assert json.loads((tmp_path / "config.json").read_text())["method"] == "toy"
  assert json.loads((tmp_path / "versions.json").read_text())["packages"]["jax"] == jax.__version__


def test_a_finished_run_is_skipped_and_left_alone(finished, capfd):
  workdir, params = finished

  class Untouchable(ToyTask):
    def frozen(self, key, batch):
      raise AssertionError("a finished run needs no teacher")

  before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
  state = toy_train(workdir, steps=6, task=Untouchable())
  assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()} == before
  assert int(state.step) == 6
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params), params)
  assert "6 of 6 steps are done; skipped" in capfd.readouterr().err


def test_more_steps_go_on_from_the_last(tmp_path):
  toy_train(tmp_path, steps=4)
  state = toy_train(tmp_path, steps=8)
  straight = toy_train(tmp_path / "straight", steps=8)
  jax.tree.map(np.testing.assert_array_equal, state.params, straight.params)


def test_only_the_newest_checkpoints_are_kept(tmp_path):
  toy_train(tmp_path, steps=14, keep=2)
  assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["12", "14"]


def test_scores_join_the_line_of_their_step(finished):
  workdir, params = finished
  rows = read_metrics(workdir)
  assert [row["step"] for row in rows] == [2, 4, 6]
  assert ["sum" in row for row in rows] == [False, False, True]
  assert rows[-1]["sum"] == pytest.approx(float(params["head"]["kernel"].sum()))


def test_a_line_cut_short_by_a_kill_is_dropped_on_resume(tmp_path):
  toy_train(tmp_path, steps=4)
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 6, "lo')
  toy_train(tmp_path, steps=8)
  assert [row["step"] for row in read_metrics(tmp_path)] == [2, 4, 6, 8]


def test_a_loss_that_is_not_finite_names_its_step_and_the_last_good_one(tmp_path):
  with pytest.raises(UserError, match=r"not finite at step 7, the last finite loss was \d"):
    toy_train(tmp_path, steps=14, log_every=5, batches=ToyBatches(poison_at=[7]))
  assert run_folder.latest_step(tmp_path) == 4
  assert [row["step"] for row in read_metrics(tmp_path)] == [5, 6]


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_is_saved(tmp_path):
  class Rooted(ToyTask):
    def loss(self, params, *arguments):
      loss, out = super().loss(params, *arguments)
      return loss + jnp.sqrt(0 * jnp.sum(params["head"]["kernel"] ** 2)), out  # 0, with slope nan

  with pytest.raises(UserError, match="not finite at step 1"):
    toy_train(tmp_path, steps=4, task=Rooted())
  assert run_folder.latest_step(tmp_path) is None


def test_what_fails_before_the_first_step_leaves_no_folder(tmp_path):
  class WithoutTeacher(ToyTask):
    def frozen(self, key, batch):
      raise UserError("teacher=nowhere does not exist")

  with pytest.raises(UserError, match="teacher=nowhere"):
    toy_train(tmp_path / "run", task=WithoutTeacher())
  assert not (tmp_path / "run").exists()


def test_a_workdir_below_a_file_is_refused(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"workdir .*run cannot be made: .*file is a file"):
    toy_train(tmp_path / "file" / "run")


def test_a_workdir_of_another_config_is_refused_with_the_differences(finished):
  workdir, _ = finished
  with pytest.raises(UserError, match=r"holds another run \(rate: 0\.1 there, 0\.2 here\)"):
    toy_train(workdir, rate=0.2)


def test_a_checkpoint_of_another_architecture_is_refused_with_the_shapes(finished):
  workdir, _ = finished
  with pytest.raises(UserError, match=r"head/kernel: \(4, 3\) saved, \(4, 5\) expected"):
    toy_train(workdir, steps=8, task=ToyTask(width=5))


def test_parameters_are_read_without_knowing_the_optimiser(finished):
  workdir, params = finished
  restored = checkpoint.restore_params(workdir, expected=params)
  jax.tree.map(np.testing.assert_array_equal, restored, params)
  assert isinstance(restored["head"]["kernel"], np.ndarray)


def test_all_misfits_of_a_checkpoint_are_listed_at_once(finished):
  workdir, _ = finished
  expected = {"head": {"kernel": np.ones((2, 3)), "bias": np.ones(3)}}
  with pytest.raises(
    UserError, match=r"2 arrays differ \(head/bias: missing; head/kernel: \(4, 3\)"
  ):
    checkpoint.restore_params(workdir, expected=expected)


@pytest.mark.parametrize(
  ("files", "message"),
  [
    (None, "does not exist"),
    ({}, "is not a run folder: it has no config.json"),
    ({"config.json": "{}"}, "has no checkpoint yet"),
    ({"config.json": "{"}, "cannot be read"),
  ],
)
def test_a_folder_that_holds_no_run_is_named(tmp_path, files, message):
  workdir = tmp_path / "run"
  if files is not None:
    workdir.mkdir()
    for name, text in files.items():
      (workdir / name).write_text(text)
  with pytest.raises(UserError, match=message):
    checkpoint.restore_params(workdir)


def test_fresh_parameters_can_come_from_elsewhere_once(tmp_path):
  calls = []

  def warm_start(params):
    calls.append(1)
    return jax.tree.map(jnp.ones_like, params), {"file": "ones.npz"}

  toy_train(tmp_path, steps=4, warm_start=warm_start, rate=1e-9)
  state = toy_train(tmp_path, steps=6, warm_start=warm_start, rate=1e-9)
  np.testing.assert_allclose(state.params["head"]["kernel"], 1.0, atol=1e-4)
  assert len(calls) == 1
  assert run_folder.read_versions(tmp_path)["init"] == {"file": "ones.npz"}  # after resuming, too


def test_text_is_written_whole_readable_by_others_and_nothing_is_left_beside_it(tmp_path):
  path = tmp_path / "config.json"
  (tmp_path / "plain").write_text("")
  run_folder.write_text(path, "{}")
  assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
  (tmp_path / "taken").mkdir()
  with pytest.raises(OSError):
    run_folder.write_text(tmp_path / "taken", "{}")
  assert {found.name for found in tmp_path.iterdir()} == {"config.json", "plain", "taken"}

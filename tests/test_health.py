"""A step that is not finite: what is said of it, and what becomes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir import health, run_folder, trees
from sbir.logs import read_metrics
from sbir.types import UserError
from tests.toy import ToyBatches, ToyTask, toy_train

PARAMS = {"encoder": {"a": {"kernel": 1.0, "bias": 1.0}, "b": {"kernel": 1.0}}, "head": 1.0}
NAMES = set(trees.flatten(PARAMS))


class TwoHeads(ToyTask):
  """A toy with a second group of parameters, whose gradient alone is not finite from step 3 on."""

  def init(self, key, batch):
    params, extra = super().init(key, batch)
    return params | {"tail": {"scale": jnp.ones(2), "bias": jnp.zeros(2)}}, extra

  def loss(self, params, extra, frozen, batch, key):
    loss, out = super().loss(params, extra, frozen, batch, key)
    is_late = extra["queue"][1, 0] != 0  # the queue is filled by one a step
    zero = jnp.where(is_late, 0.0, 1.0)
    return loss + jnp.sum(jnp.sqrt(zero * params["tail"]["scale"] ** 2)), out


def test_the_groups_whose_gradient_is_not_finite_are_named(tmp_path):
  with pytest.raises(UserError) as error:
    toy_train(tmp_path, steps=8, task=TwoHeads(), log_every=1)
  message = str(error.value)
  assert "not finite at step 3, the last finite loss was" in message
  assert "not finite: gradients of tail;" in message
  assert "--config.skip_nonfinite=N" in message


@pytest.mark.parametrize(
  ("bad", "expected"),
  [
    ({"encoder/a/bias"}, "encoder/a"),
    ({"encoder/a/bias", "encoder/a/kernel", "head"}, "encoder/a, head"),
    (NAMES, "all 3 groups of parameters"),
    (set(), ""),
  ],
)
def test_groups_are_names_without_their_last_part(bad, expected):
  finite = [name not in bad for name in trees.flatten(PARAMS)]
  assert health.bad_groups(PARAMS, finite) == expected


def test_of_many_groups_the_first_are_named_and_the_rest_counted():
  params = {f"block_{i}": {"kernel": 0.0} for i in range(10)} | {"head": {"kernel": 0.0}}
  text = health.bad_groups(params, [False] * 10 + [True])
  assert text.startswith("block_0, block_1,") and text.endswith(" and 4 more")


def test_so_many_bad_steps_in_a_row_are_left_out(tmp_path):
  bad = ToyBatches(poison_at=[3, 4, 8])
  state = toy_train(tmp_path / "skipping", steps=10, batches=bad, skip_nonfinite=2, log_every=1)
  rows = read_metrics(tmp_path / "skipping")
  assert [row["skipped_steps"] for row in rows] == [0, 0, 1, 2, 2, 2, 2, 3, 3, 3]
  assert [row["loss"] is None for row in rows] == [row["step"] in (3, 4, 8) for row in rows]
  assert int(state.step) == 10
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_a_step_left_out_changes_nothing(tmp_path):
  before = toy_train(tmp_path / "run", steps=2)
  kept = jax.device_get((before.params, before.opt_state, before.extra))
  bad = ToyBatches(poison_at=[3])
  after = toy_train(tmp_path / "run", steps=3, batches=bad, skip_nonfinite=1)
  found = jax.device_get((after.params, after.opt_state, after.extra))
  jax.tree.map(np.testing.assert_array_equal, found, kept)


def test_one_bad_step_more_in_a_row_stops_the_run(tmp_path):
  bad = ToyBatches(poison_at=[5, 6, 7])
  with pytest.raises(UserError, match="not finite at step 7, 3 steps in a row"):
    toy_train(tmp_path, steps=14, batches=bad, skip_nonfinite=2, log_every=1)
  assert run_folder.latest_step(tmp_path) == 4

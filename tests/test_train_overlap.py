"""The host makes and sends the next batch while the devices still compute: training never waits for
a copy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir import pace, train
from sbir.task import LossOut
from tests.toy import ToyBatches, toy_train

WIDTH, STEPS = 700, 8


class Busy:
  """A linear model whose step multiplies large matrices for a while."""

  def init(self, key, batch):
    return {"head": {"kernel": jax.random.normal(key, (4, 3))}}, {}

  def frozen(self, key, batch):
    return {"matrix": np.eye(WIDTH, dtype=np.float32)}

  def loss(self, params, extra, frozen, batch, key):
    start = jnp.full((WIDTH, WIDTH), jnp.mean(batch["photo"]))
    busy = jax.lax.fori_loop(0, 30, lambda _, x: x @ frozen["matrix"], start)
    loss = jnp.mean((batch["photo"] @ params["head"]["kernel"]) ** 2) + 1e-9 * busy.mean()
    return loss, LossOut(extra, {})


class Watched(ToyBatches):
  """Notes, of every batch, whether the step before it was still under way when it was asked for."""

  def __init__(self):
    super().__init__()
    self.losses, self.unfinished = [], []

  def __next__(self):
    self.unfinished.append([not loss.is_ready() for loss in self.losses])
    return super().__next__()


@pytest.fixture
def watched(monkeypatch):
  """Returns batches that see the losses of the loop, and which steps run when one is on its way."""
  batches, sent = Watched(), []
  make, put = train.make_train_step, train.put_batch

  def make_watched(*arguments, **words):
    step = make(*arguments, **words)

    def watched_step(state, frozen, batch):
      state, metrics = step(state, frozen, batch)
      batches.losses.append(metrics["loss"])
      return state, metrics

    return watched_step

  def put_watched(batch, mesh):
    on_device = put(batch, mesh)
    sent.append([not loss.is_ready() for loss in batches.losses])
    return on_device

  monkeypatch.setattr(train, "make_train_step", make_watched)
  for module in (train, pace):
    monkeypatch.setattr(module, "put_batch", put_watched)
  return batches, sent


def test_a_batch_is_made_and_sent_while_the_step_before_it_computes(watched, tmp_path):
  batches, sent = watched
  rare = {"log_every": 0, "save_every": 0, "eval_every": 0, "evaluate": None}
  toy_train(tmp_path, steps=STEPS, task=Busy(), batches=batches, **rare)
  # The first batch is for the shapes; the step after it compiles and is waited for.
  asked, arrived = batches.unfinished[2:], sent[2:]
  assert len(asked) == STEPS - 2
  assert all(steps[-1] for steps in asked) and all(steps[-1] for steps in arrived)
  assert max(map(sum, asked)) <= train.STEPS_IN_FLIGHT

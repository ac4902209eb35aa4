"""The smallest task that has everything: extra state, a teacher, a key; and a main to kill.

python -m tests.toy WORKDIR --steps 14 [--kill-at 11] [--batch-size 8] [--fsdp 2] [--delay 0.1]
"""

import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np

from sbir import cli, mesh, optim, processes
from sbir.task import LossOut
from sbir.train import train

NUM_INPUTS = 4


class ToyTask:
  """A linear model that imitates a linear teacher; noise and a queue leave their mark on it."""

  def __init__(self, width=3):
    self.width = width

  def init(self, key, batch):
    shape = (batch["photo"].shape[-1], self.width)
    return {"head": {"kernel": jax.random.normal(key, shape)}}, {"queue": jnp.zeros((8, 2))}

  def frozen(self, key, batch):
    return {"kernel": np.ones((NUM_INPUTS, self.width), np.float32)}

  def loss(self, params, extra, frozen, batch, key):
    guess = batch["photo"] @ params["head"]["kernel"]
    noise = 0.01 * jax.random.normal(key, guess.shape)
    loss = jnp.mean((guess - batch["photo"] @ frozen["kernel"] + noise) ** 2)
    loss += 0.01 * jnp.mean((guess[:, :2] - extra["queue"].mean(axis=0)) ** 2)
    queue = jnp.roll(extra["queue"], 1, axis=0).at[0].set(guess[0, :2])
    return loss, LossOut({"queue": queue}, {"mean_guess": guess.mean()})

  def embed(self, params, batch):
    return {"photo": batch["photo"] @ params["head"]["kernel"]}


class ToyBatches:
  """Batch n is drawn from seed n; the position is all its state."""

  def __init__(self, kill_at=0, batch_size=8, poison_at=(), delay=0.0):
    self.position, self.kill_at, self.poison_at = 0, kill_at, poison_at
    self.batch_size, self.delay = batch_size, delay

  def __next__(self):
    self.position += 1
    if self.position == self.kill_at:
      os.kill(os.getpid(), signal.SIGKILL)
    draw = np.random.default_rng(self.position)
    photo = draw.normal(size=(self.batch_size, NUM_INPUTS)).astype(np.float32)
    if self.position in self.poison_at:
      photo[0, 0] = np.inf
    time.sleep(self.delay)
    index, count = processes.share()
    own = slice(index * self.batch_size // count, (index + 1) * self.batch_size // count)
    return {"photo": photo[own], "id": np.arange(self.batch_size, dtype=np.int32)[own]}

  def get_state(self):
    return {"position": self.position}

  def set_state(self, state):
    self.position = state["position"]


def toy_train(workdir, *, steps=14, task=None, batches=None, rate=0.1, **changes):
  """Runs the real loop on the toy; `changes` replace arguments of `train`."""
  arguments = {
    "optimizer": optim.make_optimizer(
      "adamw", learning_rate=rate, weight_decay=1e-4, steps=100, schedule="cosine", warmup_steps=5
    ),
    "batches": ToyBatches() if batches is None else batches,
    "mesh": mesh.make_mesh(),
    "workdir": workdir,
    "config": {"method": "toy", "rate": rate, "steps": steps},
    "steps": steps,
    "seed": 0,
    "save_every": 4,
    "log_every": 2,
    "eval_every": 6,
    "evaluate": lambda params, frozen: {"sum": float(params["head"]["kernel"].sum())},
    "log_tensorboard": False,
  }
  return train(task or ToyTask(), **(arguments | changes))


def main(arguments):
  """Trains the toy in a process of its own."""
  parser = cli.parser(__doc__)
  parser.add_argument("workdir")
  parser.add_argument("--steps", type=int, default=14)
  parser.add_argument("--kill-at", type=int, default=0)
  parser.add_argument("--batch-size", type=int, default=8)
  parser.add_argument("--width", type=int, default=3)
  parser.add_argument("--fsdp", type=int, default=1)
  parser.add_argument("--delay", type=float, default=0.0)
  options = parser.parse_args(arguments)
  batches = ToyBatches(options.kill_at, options.batch_size, delay=options.delay)
  everywhere = mesh.make_mesh(fsdp=options.fsdp)
  task = ToyTask(options.width)
  toy_train(options.workdir, steps=options.steps, batches=batches, mesh=everywhere, task=task)


if __name__ == "__main__":
  cli.tool(main)

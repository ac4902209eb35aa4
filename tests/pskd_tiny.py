"""PSKD's tasks as published, on networks that compile in a moment, for images of 16 px; and a main.

python -m tests.pskd_tiny OUT.npz            what two steps of a student of the real kind come to
"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.pskd import student as student_config
from pskd.model import Head, TwoTokenNet, TwoTokenViT
from pskd.optimizer import make_optimizer
from pskd.stages import make_recipe
from pskd.tasks import Batching, StudentTask, TeacherTask, init_net
from sbir import mesh, trees
from sbir.step import TrainState, make_train_step
from tests.xmodal_tiny import quick_jit

WIDTH, IMAGE, PATCH, CLASSES = 24, 16, 8, 5
PUBLISHED = student_config.get_config("sketchy21")
AS_IT_IS = {"crop": (1.0, 1.0), "flip": 0, "jitter": 0, "gray": 0, "blur": 0, "solarise": 0}


def recipe(**changes):
  """Returns the published recipe but for `changes`."""
  return make_recipe(PUBLISHED.augment.to_dict() | changes)


PLAIN = recipe(**AS_IT_IS)
WHOLE = Batching()


def make_net(num_classes=CLASSES, depth=1, dtype=jnp.float32, **changes):
  """Returns a network as published, but for its size and `changes` of the backbone."""
  return TwoTokenNet(
    TwoTokenViT(WIDTH, depth, 2, PATCH, dtype, **changes), Head(num_classes, 16, 12, dtype)
  )


class Pooled(nn.Module):
  """Returns two tokens of an image's sixteen regions: all that a task asks of a backbone."""

  num_heads: int = 1

  @nn.compact
  def __call__(self, images):
    b = len(images)
    regions = images.reshape(b, 4, IMAGE // 4, 4, IMAGE // 4, 3).mean((2, 4)).reshape(b, -1)
    tokens = jnp.tanh(nn.Dense(2 * WIDTH, name="both")(regions))
    self.sow("intermediates", "weights", jnp.full((b, 1, 2, 2 + 16), 1 / 18))
    return tokens[:, :WIDTH], tokens[:, WIDTH:]


def make_stub(num_classes=CLASSES):
  """Returns a network whose backbone is next to nothing, for tests of what is done with it."""
  return TwoTokenNet(Pooled(), Head(num_classes, 16, 12))


def teacher_task(batching=WHOLE, recipe=PLAIN, model=None):
  """Returns the published teacher task on a stub; its images are not changed."""
  return TeacherTask(model or make_stub(), recipe, IMAGE, batching, PUBLISHED.loss.smoothing)


def student_task(batching=WHOLE, recipe=PLAIN, model=None, **changes):
  """Returns the published student task but for `changes`, ILA over whole micro-batches."""
  loss = PUBLISHED.loss.to_dict() | {"ila_group": 0} | changes
  model = model or make_stub()
  teacher = random_params(model, seed=7)
  return StudentTask(model, model, teacher, recipe, IMAGE, batching=batching, **loss)


def random_params(model, seed=0):
  """Returns random parameters, all of them; compiles nothing."""
  draw = np.random.default_rng(seed)
  shapes = jax.eval_shape(lambda key: init_net(model, key, IMAGE), jax.random.key(0))
  random = lambda leaf: draw.normal(0, 0.2, leaf.shape).astype(leaf.dtype)
  return trees.mask(shapes, lambda name, leaf: random(leaf) + name.endswith("scale"))


def make_batch(photos=8, sketches=4, seed=0, side=IMAGE, num_classes=CLASSES):
  """Returns random images and labels."""
  draw = np.random.default_rng(seed)
  batch = {}
  for name, num in (("photo", photos), ("sketch", sketches)):
    batch[name] = draw.integers(0, 256, (num, side, side, 3)).astype(np.uint8)
    batch[f"{name}_label"] = draw.integers(0, num_classes, num).astype(np.int32)
  return batch


def published_optimizer(steps, **changes):
  """Returns the published optimiser for `steps` updates but for `changes`."""
  settings = PUBLISHED.optimizer.to_dict() | {"warmup_steps": 0} | changes
  return make_optimizer(steps=steps, **settings)


def run_steps(task, batches, optimizer=None):
  """Returns the state after one update for each batch on all devices there are, `frozen`, and the
  metrics of each."""
  everywhere, rows = mesh.make_mesh(), []
  optimizer = optimizer or published_optimizer(len(batches))
  params = random_params(task.model, seed=1)
  state = TrainState(np.int32(0), params, optimizer.init(params), {}, jax.random.key(1))
  state = mesh.put_replicated(state, everywhere)
  frozen = mesh.put_replicated(task.frozen(jax.random.key(0), batches[0]), everywhere)
  train_step = make_train_step(task, optimizer, everywhere)
  for batch in batches:
    state, metrics = train_step(state, frozen, mesh.put_batch(batch, everywhere))
    rows.append({name: float(x) for name, x in metrics.items() if name != "finite"})
  return state, frozen, rows


def outcome(task, batch):
  """Returns the loss and its gradient; the step's key must not matter."""
  run = quick_jit(jax.value_and_grad(lambda p, f, k: task.loss(p, {}, f, batch, k)[0]))
  frozen = task.frozen(jax.random.key(0), batch)
  loss, grads = run(random_params(task.model, seed=1), frozen, jax.random.key(2))
  other, _ = run(random_params(task.model, seed=1), frozen, jax.random.key(3))
  assert other == loss
  return float(loss), grads


def two_steps():
  """Returns the named numbers that two steps of a student with a real network come to."""
  views = recipe(**AS_IT_IS | {"flip": 0.5})
  task = student_task(Batching(4, 2), views, make_net(), ila_group=2)
  # Plain descent: Adam would make something of gradients that are zero but for rounding.
  state, _, rows = run_steps(task, [make_batch(16, 8, seed) for seed in range(2)], optax.sgd(0.05))
  named = {name: np.asarray(leaf) for name, leaf in trees.flatten(state.params).items()}
  named |= {name: np.array([row[name] for row in rows]) for name in rows[0]}
  return named | {"num_devices": np.array(jax.device_count())}


if __name__ == "__main__":
  np.savez(sys.argv[1], **two_steps())

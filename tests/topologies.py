"""Five steps of each of the four tasks, on whatever devices and processes there are.

python -m tests.topologies OUT.npz [--fsdp N] [--coordinator HOST:PORT ...]
"""

import functools

import jax
import numpy as np
import optax

from pskd.tasks import Batching
from sbir import cli, mesh, processes, trees
from sbir.layout import layout_of
from sbir.step import TrainState, make_train_step
from tests import pskd_tiny, xmodal_tiny
from xmodal.views import Recipe

STEPS = 5
MIN_SIZE = 256  # of arrays that are cut: these networks are small


def tasks():
  """Returns {name: (task, a function from the step's number to its whole batch)}."""
  flipped = Recipe(flip=0.5)
  views = pskd_tiny.recipe(**pskd_tiny.AS_IT_IS | {"flip": 0.5})
  micro = {"batching": Batching(2, 2), "recipe": views}
  of_classes = functools.partial(pskd_tiny.make_batch, 32, 16)
  teacher = xmodal_tiny.start(xmodal_tiny.teacher_task())[0]
  return {
    "xmodal teacher": (
      xmodal_tiny.teacher_task(recipe=flipped, symmetric=True, photo_drop=0.5),
      xmodal_tiny.make_batch,
    ),
    "xmodal student": (
      xmodal_tiny.student_task(teacher, "photo", flipped, both_sketches=True),
      xmodal_tiny.make_batch,
    ),
    "pskd teacher": (pskd_tiny.teacher_task(**micro), lambda seed: of_classes(seed=seed)),
    "pskd student": (
      pskd_tiny.student_task(**micro, model=pskd_tiny.make_net(), ila_group=4),
      lambda seed: of_classes(seed=seed),
    ),
  }


def five_steps(task, batch_of, everywhere):
  """Returns the parameters after five steps of plain descent, whole, and the losses: Adam would
  make a whole step of gradients that are zero but for rounding."""
  if hasattr(task, "queue_size"):
    params, extra = xmodal_tiny.start(task, seed=1)
  else:
    params, extra = pskd_tiny.random_params(task.model, seed=1), {}
  optimizer, losses = optax.sgd(0.05, momentum=0.9), []
  state = TrainState(np.int32(0), params, optimizer.init(params), extra, jax.random.key(1))
  layout = layout_of(state, everywhere, min_size=MIN_SIZE)
  state = mesh.put(state, layout)
  frozen = task.frozen(jax.random.key(0), batch_of(0))
  frozen = mesh.put(frozen, layout_of(frozen, everywhere, min_size=MIN_SIZE))
  is_cut = everywhere.shape["fsdp"] > 1
  train_step = make_train_step(task, optimizer, everywhere, layout=layout if is_cut else None)
  for step in range(STEPS):
    batch = {name: own_rows(rows) for name, rows in batch_of(step).items()}
    state, metrics = train_step(state, frozen, mesh.put_batch(batch, everywhere))
    losses.append(float(metrics["loss"]))
  return mesh.put_replicated(state.params, everywhere), np.array(losses)


def own_rows(rows):
  """Returns this process's part of a batch."""
  index, count = processes.share()
  length = len(rows) // count
  return rows[index * length : (index + 1) * length]


def main(arguments):
  """Runs all tasks and writes down what they come to."""
  flags = cli.parser(__doc__)
  flags.add_argument("out")
  flags.add_argument("--fsdp", type=int, default=1)
  options = flags.parse_args(arguments)
  everywhere = mesh.make_mesh(fsdp=options.fsdp)
  found = {"shape": np.array(list(everywhere.shape.values()))}
  for name, (task, batch_of) in tasks().items():
    params, losses = five_steps(task, batch_of, everywhere)
    found[f"{name}/losses"] = losses
    for leaf, value in trees.flatten(params).items():
      found[f"{name}/{leaf}"] = np.asarray(value)
  if processes.is_first():
    np.savez(options.out, **found)


if __name__ == "__main__":
  cli.tool(main)

"""XModalViT's tasks as published, on networks of width 24 and images of 16 px; and a main.

python -m tests.xmodal_tiny OUT.npz         what two steps of the teacher and a student come to
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.xmodal import student as student_config
from configs.xmodal import teacher as teacher_config
from sbir import mesh, trees
from sbir.nn.vit import ViT
from sbir.step import TrainState, make_train_step
from xmodal import queue
from xmodal.fusion import Fusion, Student, Teacher
from xmodal.tasks import StudentTask, TeacherTask
from xmodal.views import Recipe

# For what runs once or twice: compiled in less than half the time, to slower programs.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
WIDTH, IMAGE, PATCH, BATCH, QUEUE = 24, 16, 8, 8, 12


def make_teacher(order="parallel", dtype=np.float32):
  encoders = [ViT(WIDTH, 1, 2, PATCH, dtype) for _ in range(2)]
  return Teacher(*encoders, Fusion(1, 3, order, dtype))


def make_student(dtype=np.float32):
  return Student(ViT(12, 1, 2, PATCH, dtype), WIDTH)


def teacher_task(model=None, recipe=None, **changes):
  """Returns the published teacher task but for `changes`; the networks are tiny."""
  loss = {**teacher_config.get_config("shoe_v2").loss, "queue_size": QUEUE, **changes}
  return TeacherTask(make_teacher() if model is None else model, recipe or Recipe(), **loss)


def student_task(teacher_params, modality="sketch", recipe=None, **changes):
  """Returns the published student task but for `changes`; the networks are tiny."""
  loss = {**student_config.get_config("shoe_v2").loss, "queue_size": QUEUE, **changes}
  return StudentTask(
    modality, make_student(), make_teacher(), teacher_params, recipe or Recipe(), **loss
  )


def make_batch(seed=0, dtype=np.uint8):
  """Returns random images; floats lie in [0, 1] and can be differentiated."""
  draw = np.random.default_rng(seed)
  names = ("photo", "sketch", "sketch_positive")
  shape = (BATCH, IMAGE, IMAGE, 3)
  images = {name: draw.integers(0, 256, shape).astype(np.uint8) for name in names}
  if dtype != np.uint8:
    images = {name: (pixels / 255).astype(dtype) for name, pixels in images.items()}
  return images | {"id": np.arange(BATCH, dtype=np.int32) + BATCH * seed}


def start(task, seed=0):
  """Returns random parameters, all of them, and random extra state; compiles nothing."""
  draw = np.random.default_rng(seed)
  params, extra = jax.eval_shape(task.init, jax.random.key(0), make_batch())
  random = lambda leaf: draw.normal(0, 0.2, leaf.shape).astype(leaf.dtype)
  params = trees.mask(params, lambda name, leaf: random(leaf) + name.endswith("scale"))
  return params, {name: start_queue(random(fresh.keys)) for name, fresh in extra.items()}


def start_queue(keys):
  """Returns a queue of these vectors, made unit vectors of no instance."""
  return queue.Queue(jnp.asarray(unit(keys)), jnp.full(len(keys), -1), jnp.int32(0))


def unit(vectors):
  return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def run_steps(task, steps):
  """Returns the state after `steps` updates on all devices there are, `frozen`, and the losses."""
  everywhere, optimizer, losses = mesh.make_mesh(), optax.sgd(0.05), []
  params, extra = start(task, seed=1)
  state = TrainState(np.int32(0), params, optimizer.init(params), extra, jax.random.key(1))
  state = mesh.put_replicated(state, everywhere)
  frozen = mesh.put_replicated(task.frozen(jax.random.key(0), make_batch()), everywhere)
  train_step = make_train_step(task, optimizer, everywhere)
  for step in range(steps):
    state, metrics = train_step(state, frozen, mesh.put_batch(make_batch(step), everywhere))
    losses.append(metrics["loss"])
  return state, frozen, np.array(losses)


def two_steps_of_both():
  """Returns the named numbers that two steps of the teacher, then of a student, come to."""
  named = {"num_devices": np.array(jax.device_count())}
  tasks = {
    "teacher": teacher_task(recipe=Recipe(flip=0.5), symmetric=True, photo_drop=0.5),
    "student": student_task(start(teacher_task())[0]),
  }
  for name, task in tasks.items():
    state, _, losses = run_steps(task, 2)
    tree = {"params": state.params, "queues": {n: q._asdict() for n, q in state.extra.items()}}
    named |= {f"{name}/{leaf}": np.asarray(x) for leaf, x in trees.flatten(tree).items()}
    named[f"{name}/losses"] = losses
  return named


if __name__ == "__main__":
  np.savez(sys.argv[1], **two_steps_of_both())

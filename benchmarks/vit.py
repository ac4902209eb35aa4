"""Plain ViTs under an optimiser or not, and the same in PyTorch: what both vit benchmarks run."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.options import Options, batch_size, compute_dtypes

NUM_CLASSES, LEARNING_RATE, WEIGHT_DECAY = 100, 1e-4, 0.05
SAME_WITHIN = 1e-4  # of an output's largest entry, or of a loss
STEPS_COMPARED = 3  # the loss of the third has seen two updates


class Shape(NamedTuple):
  """A published network and how many images it is given at once."""

  name: str
  size: str
  patch: int
  image_size: int
  batch: int


def shapes(options: Options) -> list[Shape]:
  """Returns what is measured; on the CPU in batches that a step finishes in a second or two."""
  if options.rehearse:
    batch = batch_size(options, cpu=2, accelerator=2)
    return [Shape("rehearsal/16", "nano", 16, 32, batch)]
  networks = [("Ti/16", "tiny", 16, 16, 512), ("S/16", "small", 16, 8, 256)]
  networks.append(("S/8", "small", 8, 2, 64))
  return [
    Shape(name, size, patch, 224, batch_size(options, cpu=on_cpu, accelerator=on_accelerator))
    for name, size, patch, on_cpu, on_accelerator in networks
  ]


class Case(NamedTuple):
  """One network in one dtype, and what it is given."""

  name: str  # what the way is called
  shape: Shape
  dtype: str
  task: "ClassifierTask"
  batch: dict[str, Any]


class ClassifierTask(NamedTuple):
  """A task of the training loop: a linear layer on the class token, and cross-entropy."""

  model: Any

  def init(self, key, batch):
    import jax
    import jax.numpy as jnp

    encoder_key, head_key = jax.random.split(key)
    encoder = self.model.init(encoder_key, jnp.zeros((1, *batch["image"].shape[1:])))["params"]
    head = 0.02 * jax.random.normal(head_key, (self.model.width, NUM_CLASSES))
    return {"encoder": encoder, "head": {"kernel": head, "bias": jnp.zeros(NUM_CLASSES)}}, {}

  def frozen(self, key, batch):
    return {}

  def loss(self, params, extra, frozen, batch, key):
    import jax
    import jax.numpy as jnp

    from sbir.task import LossOut

    tokens = self.model.apply({"params": params["encoder"]}, batch["image"])
    logits = tokens[:, 0] @ params["head"]["kernel"] + params["head"]["bias"]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["label"][:, None], axis=1)
    return -jnp.mean(chosen), LossOut({}, {})

  def embed(self, params, batch):
    return {}


def make_batch(shape: Shape) -> dict[str, Any]:
  """Returns images as a network sees them, about -1 to 1, with labels; the same every time."""
  import numpy as np

  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, (shape.batch, shape.image_size, shape.image_size, 3))
  return {
    "image": images.astype(np.float32),
    "label": rng.integers(0, NUM_CLASSES, shape.batch).astype(np.int32),
  }


def make_task(shape: Shape, dtype: str) -> ClassifierTask:
  """Returns the task of a network that computes in `dtype`."""
  import jax.numpy as jnp

  from sbir.nn.vit import vit

  return ClassifierTask(vit(shape.size, shape.patch, jnp.dtype(dtype)))


def make_optimizer() -> Any:
  """Returns AdamW, decay on everything but vectors."""
  from sbir.optim import make_optimizer

  settings = {"learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
  return make_optimizer("adamw", steps=1000, **settings)


def each(options: Options) -> Iterator[Case]:
  """Yields every shape in every dtype."""
  for shape in shapes(options):
    for dtype in compute_dtypes(options):
      name = f"{shape.name} b{shape.batch} {dtype}"
      yield Case(name, shape, dtype, make_task(shape, dtype), make_batch(shape))


def described(options: Options) -> list[dict[str, Any]]:
  """Returns the shapes as plain values."""
  return [shape._asdict() for shape in shapes(options)]

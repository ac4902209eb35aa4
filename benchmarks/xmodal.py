"""XModalViT's networks, batches and tasks as published, for its benchmarks."""

from typing import Any, NamedTuple

from benchmarks.options import Options, batch_size

SAME_WITHIN = 1e-4  # relatively, of losses of two forms of one step
STUDENT_BATCH_ACCELERATOR, TEACHER_BATCH_ACCELERATOR = 128, 32


class Shape(NamedTuple):
  """Sizes of both networks, and how many pairs they are given at once."""

  teacher: str
  student: str
  image_size: int
  fusion_depth: int
  batch: int


def shape(options: Options, accelerator: int) -> Shape:
  """Returns the published shape; its batch by device."""
  batch = batch_size(options, cpu=16, accelerator=accelerator)
  if options.rehearse:
    size = "nano"
    return Shape(size, size, 32, 1, max(batch, 3))  # an angle needs three
  return Shape("base", "tiny", 224, 3, batch)


def make_batch(shape: Shape) -> dict[str, Any]:
  """Returns a photo and two sketches a row, of noise; the same every time."""
  import numpy as np

  rng = np.random.default_rng(0)
  size = (shape.batch, shape.image_size, shape.image_size, 3)
  names = ("photo", "sketch", "sketch_positive")
  images = {name: rng.integers(0, 256, size, dtype=np.uint8) for name in names}
  return {**images, "id": np.arange(shape.batch, dtype=np.int32)}


def make_teacher(shape: Shape, dtype: str) -> Any:
  """Returns the teacher's network."""
  import jax.numpy as jnp

  from sbir.nn.vit import vit
  from xmodal.fusion import Fusion, Teacher

  encoders = [vit(shape.teacher, 16, jnp.dtype(dtype)) for _ in range(2)]
  return Teacher(*encoders, Fusion(shape.fusion_depth, 3, "parallel", jnp.dtype(dtype)))


def teacher_task(shape: Shape, dtype: str, *, both_sketches: bool) -> Any:
  """Returns the published task; with `both_sketches` each sketch is anchor and positive in turn."""
  from xmodal.tasks import TeacherTask
  from xmodal.views import Recipe

  return TeacherTask(
    model=make_teacher(shape, dtype),
    recipe=Recipe(),
    queue_size=128,
    temperature=0.07,
    in_batch=False,
    normalise_query=True,
    symmetric=False,
    both_sketches=both_sketches,
    photo_drop=0.0,
    sketch_drop=0.0,
  )


def student_task(shape: Shape, modality: str, dtype: str) -> Any:
  """Returns the published task of a student; the teacher's parameters are given as `frozen`."""
  import jax.numpy as jnp

  from sbir.nn.vit import vit
  from xmodal.fusion import Student
  from xmodal.tasks import StudentTask
  from xmodal.views import Recipe

  teacher = make_teacher(shape, dtype)
  return StudentTask(
    modality=modality,
    model=Student(vit(shape.student, 16, jnp.dtype(dtype)), teacher.photo_encoder.width),
    teacher=teacher,
    teacher_params={},
    recipe=Recipe(),
    queue_size=256,
    temperature=0.07,
    in_batch=False,
    target="own",
    both_sketches=False,
    xaqc=1.0,
    distance=1.0,
    angle=1.0,
  )


def init_teacher(shape: Shape) -> Any:
  """Returns a teacher's random parameters."""
  import jax
  import jax.numpy as jnp

  images = jnp.zeros((1, shape.image_size, shape.image_size, 3))
  init = make_teacher(shape, "float32").init
  return jax.jit(lambda key: init(key, images, images)["params"])(jax.random.key(1))


def make_optimizer(*, learning_rate: float, weight_decay: float) -> Any:
  """Returns the published Adam."""
  from sbir.optim import make_optimizer

  settings = {"learning_rate": learning_rate, "weight_decay": weight_decay}
  return make_optimizer("adam_l2", steps=1000, **settings)


def check_same(losses: dict[str, float]) -> None:
  """Raises AssertionError unless all forms of a step begin with the same loss."""
  values = list(losses.values())
  if max(values) - min(values) > SAME_WITHIN * abs(values[0]):
    raise AssertionError(f"not the same loss: {losses}")

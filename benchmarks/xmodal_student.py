"""XModalViT's student step in three ways: the teacher cached, in the step, and run as released.

As released the teacher makes three passes a step: of the anchor's pairs for the contrast, of the
same again for the distances, and of the positive's for the angles; each encodes the photo anew.
"""

from typing import Any

MODALITIES = ("photo", "sketch")


def build(shape: Any, modality: str, dtype: str, teacher_params: Any) -> dict[str, Any]:
  """Returns {way: Way}: "cached", and if there are the teacher's parameters "in the step" (once, as
  with cache.views=0) and "as released"; and under "losses" their first losses."""
  import jax

  from benchmarks import xmodal
  from benchmarks.steps import Training, Way

  task, batch = xmodal.student_task(shape, modality, dtype), xmodal.make_batch(shape)
  adam = xmodal.make_optimizer(learning_rate=1e-5, weight_decay=1e-5)
  way = lambda call, work: Way(call, shape.batch, work, dtype)
  ask = _teacher(task, teacher_params, batch)
  known = _cached_batch(task, batch, ask)
  cached = Training(task, adam, known)
  losses = {"cached": cached.first_loss()}
  ways = {"cached": way(cached, cached.flops)}
  if teacher_params is not None:
    in_step = Training(task, adam, batch, frozen=teacher_params)
    released = Training(task, adam, known)
    losses["in the step"] = in_step.first_loss()
    ways["in the step"] = way(in_step, in_step.flops)

    def three_passes() -> Any:
      contrast, _, angles = ask("sketch"), ask("sketch"), ask("sketch_positive")
      found = {"target": contrast}
      if modality == "sketch":
        found["target_positive"] = angles
      jax.block_until_ready((_, angles))
      return released(**found)

    losses["as released"] = float(three_passes()["loss"])
    ways["as released"] = way(three_passes, 3 * ask.flops + released.flops)
  return {"ways": ways, "losses": losses}


class _Teacher:
  """One pass of the teacher over pairs."""

  def __init__(self, task: Any, params: Any, batch: dict):
    import jax

    from benchmarks import flops
    from xmodal.views import plain_view

    self._branch = MODALITIES.index(task.modality)
    self._params, self._batch = jax.device_put(params), jax.device_put(batch)
    view = lambda images: plain_view(images, task.recipe)
    apply = lambda params, photo, sketch: task.teacher.apply(
      {"params": params}, view(photo), view(sketch)
    )
    images = self._batch["photo"], self._batch["sketch"]
    self._program = jax.jit(apply).lower(self._params, *images).compile()
    self.flops = flops.of_function(apply, self._params, *images)

  def __call__(self, sketch: str) -> Any:
    """Returns the student's targets from the photos with these sketches."""
    images = self._batch["photo"], self._batch[sketch]
    return self._program(self._params, *images)[self._branch]


def _teacher(task: Any, params: Any, batch: dict) -> Any:
  """Returns what gives the targets of the pairs with a sketch by name: the teacher, or without one
  noise of the same shape."""
  if params is not None:
    return _Teacher(task, params, batch)
  import numpy as np

  width = task.model.embed_dim
  return lambda sketch: np.random.default_rng(len(sketch)).normal(size=(len(batch["id"]), width))


def _cached_batch(task: Any, batch: dict, ask: Any) -> dict[str, Any]:
  """Returns what a student's step is given with the cache: its own images, and the targets."""
  import numpy as np

  from xmodal.tasks import OWN_IMAGES, PAIRED_SKETCHES, TARGETS

  own = {name: batch[name] for name in ("id", *OWN_IMAGES[task.modality])}
  sketches = PAIRED_SKETCHES[task.modality]
  return {**own, **{TARGETS[name]: np.asarray(ask(name), np.float32) for name in sketches}}


def described(result: dict, name: str) -> str:
  """Returns the head of a result's text."""
  shape = result["shape"]
  return (
    f"{name}: ViT-{shape['teacher']}/16 teacher, ViT-{shape['student']}/16 student at "
    f"{shape['image_size']} px, batch {shape['batch']}; an image is a pair"
  )

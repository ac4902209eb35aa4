"""XModalViT's teacher step, ViT-B/16: the photo encoded once, against twice as released.

With the published loss no gradient reaches the positive sketch's pass; with both sketches, each is
anchor and positive in turn, and all passes are differentiated. In the form as released each of the
two pairs is encoded by itself, the photo twice.
"""

from typing import Any, NamedTuple

from benchmarks.options import Options

TARGET = 1.3
LOSSES = {"published": False, "both_sketches": True}


class EncodesTwice(NamedTuple):
  """A `TeacherTask` whose two pairs share nothing. The batch has the photos twice, under two names:
  otherwise XLA would see that they are the same, and encode them once."""

  task: Any

  def init(self, key, batch):
    return self.task.init(key, batch)

  def frozen(self, key, batch):
    return {}

  def loss(self, params, extra, frozen, batch, key):
    from sbir.nn.losses import l2_normalise
    from sbir.task import LossOut
    from xmodal import queue
    from xmodal.views import plain_view

    view = lambda name: plain_view(batch[name], self.task.recipe)
    fused = lambda photo, sketch: self.task.model.apply(
      {"params": params}, view(photo), view(sketch)
    )
    of_anchor, of_positive = fused("photo", "sketch"), fused("photo_again", "sketch_positive")
    loss = self.task._contrast(of_anchor[0], of_positive[1], batch, extra)
    if self.task.both_sketches:
      loss = (loss + self.task._contrast(of_positive[0], of_anchor[1], batch, extra)) / 2
    keys = l2_normalise(of_positive[1])
    pushed = queue.push(extra["sketch_queue"], keys, batch["id"])
    return loss, LossOut({"sketch_queue": pushed}, {})

  def embed(self, params, batch):
    return {}


def run(options: Options) -> dict[str, Any]:
  """Returns images/s of both forms, for both losses, after checking that their losses agree."""
  from benchmarks import xmodal

  shape = xmodal.shape(options, xmodal.TEACHER_BATCH_ACCELERATOR)
  # One loss after the other: two teachers and their moments at once are memory enough.
  found = {name: _compare(shape, options, both) for name, both in LOSSES.items()}
  parity = {name: result.pop("parity") for name, result in found.items()}
  return {"shape": shape._asdict(), "losses": found, "parity": parity, "target": TARGET}


def as_text(result: dict) -> str:
  """Returns the result in words, with the target."""
  from benchmarks.steps import faster_line, parity_lines, way_lines

  shape = result["shape"]
  lines = [
    f"xmodal_teacher: ViT-{shape['teacher']}/16 at {shape['image_size']} px, batch {shape['batch']}"
  ]
  for name, found in result["losses"].items():
    lines += [f" loss: {name.replace('_', ' ')}", *way_lines(found)]
    lines += [faster_line(found, pair, result["target"]) for pair in found["times_faster"]]
  return "\n".join(lines + parity_lines(result))


def _compare(shape: Any, options: Options, both_sketches: bool) -> dict[str, Any]:
  from benchmarks import xmodal
  from benchmarks.options import compute_dtypes
  from benchmarks.steps import Training, Way, measure, parity

  ways, pairs, first = {}, {}, {}
  batch = xmodal.make_batch(shape)
  for dtype in compute_dtypes(options):
    once = xmodal.teacher_task(shape, dtype, both_sketches=both_sketches)
    forms = {"once": (once, batch)}
    if dtype == "float32":
      forms["twice"] = (EncodesTwice(once), {**batch, "photo_again": batch["photo"]})
    losses = {}
    for form, (task, seen) in forms.items():
      adam = xmodal.make_optimizer(learning_rate=3e-6, weight_decay=1e-4)
      training = Training(task, adam, seen)
      losses[form] = training.first_loss()
      ways[f"{form} {dtype}"] = Way(training, shape.batch, training.flops, dtype)
    xmodal.check_same(losses)
    first[dtype] = losses["once"]
  pairs["the photo once, not twice"] = ("once float32", "twice float32")
  return {**measure(ways, options, pairs), "parity": parity(first)}

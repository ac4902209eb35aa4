"""PSKD's student step, ViT-S/8 at 224 px as published: in micro-batches, teacher and student alike.

A step is one micro-batch of photos and one of sketches, of a published step's 32 and 16; the
teacher in the step, and with its logits stored (cache.views). The views are drawn anew in both.
"""

from typing import Any

from benchmarks.options import Options

NUM_CLASSES = 104  # Sketchy's seen classes
IMAGE_SIZES, REHEARSED_SIZES = (256, 224), (40, 32)  # read, seen
AUGMENT = {"crop": (0.14, 1.0), "flip": 0.5, "jitter": 0.8, "gray": 0.2, "blur": 0.1}
LOOKS = {"solarise": 0.2, "gradients": False, "mean": (0.485, 0.456, 0.406)}
RECIPE = {**AUGMENT, **LOOKS, "std": (0.229, 0.224, 0.225)}
NOT_REHEARSED = {"jitter": 0.0, "gray": 0.0, "blur": 0.0, "solarise": 0.0}  # slow to compile


def run(options: Options) -> dict[str, Any]:
  """Returns images/s, photos and sketches together, with the teacher in the step and without."""
  import jax

  from benchmarks.options import batch_size, compute_dtypes
  from benchmarks.steps import Training, Way, measure, parity
  from pskd.tasks import init_net

  half = max(batch_size(options, cpu=4, accelerator=128) // 2, 1)
  ways, losses = {}, {"in the step": {}, "stored": {}}
  for dtype in compute_dtypes(options):
    task = _task(options, half, dtype)
    teacher = jax.jit(lambda key, t=task: init_net(t.teacher, key, t.image_size))(jax.random.key(1))
    for way, is_stored in (("in the step", False), ("stored", True)):
      frozen = {} if is_stored else teacher
      batch = _make_batch(options, half, with_logits=is_stored)
      training = Training(task, _optimizer(), batch, frozen=frozen)
      losses[way][dtype] = training.first_loss()
      # The micro-batches are a loop of two, and XLA counts its body once.
      ways[f"teacher {way} {dtype}"] = Way(training, 2 * half, 2 * training.flops, dtype)
  pairs = {"logits stored": ("teacher stored float32", "teacher in the step float32")}
  return {
    "network": "rehearsal/16" if options.rehearse else "S/8",
    "image_size": _sizes(options)[1],
    "micro_batch": half,
    **measure(ways, options, pairs),
    "parity": {f"teacher {way}": parity(found) for way, found in losses.items()},
  }


def as_text(result: dict) -> str:
  """Returns the result in words."""
  from benchmarks.steps import faster_line, parity_lines, way_lines

  head = (
    f"pskd_student: ViT-{result['network']} at {result['image_size']} px, micro-batches of "
    f"{result['micro_batch']} photos and as many sketches"
  )
  lines = [head, *way_lines(result), faster_line(result, "logits stored")]
  return "\n".join(lines + parity_lines(result))


def _sizes(options: Options) -> tuple[int, int]:
  return REHEARSED_SIZES if options.rehearse else IMAGE_SIZES


def _task(options: Options, half: int, dtype: str) -> Any:
  """Returns the published task for one micro-batch of either stream."""
  import jax.numpy as jnp

  from pskd.model import Head, two_token_net
  from pskd.tasks import Batching, StudentTask
  from pskd.views import Recipe

  size, patch = ("nano", 16) if options.rehearse else ("small", 8)
  kind = jnp.dtype(dtype)
  head = Head(NUM_CLASSES, dtype=kind)
  words = {"position_std": 0.02, "resample_positions": False, "head": head}
  net = two_token_net(size, patch, dtype=kind, **words)
  return StudentTask(
    model=net,
    teacher=net,
    teacher_params={},
    recipe=Recipe(**RECIPE | (NOT_REHEARSED if options.rehearse else {})),
    image_size=_sizes(options)[1],
    batching=Batching(accumulation=1, skt_factor=1),
    smoothing=0.1,
    ila_group=8 if half % 8 == 0 else 0,  # 0: all of a smaller micro-batch
    correlation=True,
    clip_negative=False,
    skd=1.0,
    ce=1.0,
    ila=1.0,
  )


def _make_batch(options: Options, half: int, *, with_logits: bool) -> dict[str, Any]:
  """Returns `half` photos and as many sketches, of noise; the same every time."""
  import numpy as np

  rng, side = np.random.default_rng(0), _sizes(options)[0]
  batch = {}
  for name in ("photo", "sketch"):
    batch[name] = rng.integers(0, 256, (half, side, side, 3), dtype=np.uint8)
    batch[f"{name}_label"] = rng.integers(0, NUM_CLASSES, half).astype(np.int32)
    logits = rng.normal(size=(half, NUM_CLASSES)).astype(np.float32)
    if with_logits:
      batch[f"{name}_logits"] = logits
  return batch


def _optimizer() -> Any:
  """Returns the published AdamW."""
  from pskd.optimizer import make_optimizer

  rates = {"lr": 5e-4, "min_lr": 1e-6, "backbone_lr": 0.1}
  decays = {"weight_decay": 0.04, "weight_decay_end": 0.4}
  return make_optimizer(steps=1000, warmup_steps=100, **rates, **decays, clip_grad=3.0)

"""Embedding JPEG files by ViT-Ti/16 at 224 px: host and device at once, against one by one.

Serial: a batch is decoded, then computed, then fetched. Overlapped, as every evaluation here runs:
threads decode the next batches while the device computes one. On a CPU both are the same cores.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

NUM_PAIRS, SIDE, IMAGE_SIZE, BATCH = 48, 256, 224, 16
NUM_PAIRS_ACCELERATOR, BATCH_ACCELERATOR = 1024, 128
SIZE, PATCH = "tiny", 16


def run(options) -> dict[str, object]:
  """Returns images per second both ways, after checking that both give the same vectors."""
  import jax

  from benchmarks.timing import interleaved

  if options.rehearse:
    small = {"num_pairs": 3, "batch": 4, "size": "nano", "image_size": 32}
    with tempfile.TemporaryDirectory() as folder:
      return measure(Path(folder), lambda ways: interleaved(ways, options.repeats), **small)
  is_cpu = jax.default_backend() == "cpu"
  num_pairs, batch = (NUM_PAIRS, BATCH) if is_cpu else (NUM_PAIRS_ACCELERATOR, BATCH_ACCELERATOR)
  with tempfile.TemporaryDirectory() as folder:
    timer = lambda ways: interleaved(ways, options.repeats)
    types = ("float32",) if is_cpu else ("float32", "bfloat16")
    return measure(Path(folder), timer, num_pairs=num_pairs, batch=batch, compute_dtypes=types)


def measure(
  folder: Path,
  interleaved: Callable,
  *,
  num_pairs: int,
  batch: int,
  size: str = SIZE,
  image_size: int = IMAGE_SIZE,
  compute_dtypes: tuple[str, ...] = ("float32",),
) -> dict[str, object]:
  """Returns the result of `run`, made of files in `folder`."""
  import numpy as np

  from benchmarks.input_pipeline import rate
  from benchmarks.jpegs import write_pairs
  from sbir.data.resized import resized
  from sbir.data.sources import open_source

  num_files, _ = write_pairs(folder, num_pairs=num_pairs, side=SIDE)
  source = resized(open_source("folder", "shoe_v2", folder, "train"), image_size, cache="none")
  ways = {}
  for dtype in compute_dtypes:
    embed = _encoder(size, image_size, dtype)
    for name, is_overlapped in (("serial", False), ("overlapped", True)):
      ways[f"{name}_{dtype}"] = _pass(embed, source, batch, is_overlapped)
    np.testing.assert_array_equal(ways[f"serial_{dtype}"](), ways[f"overlapped_{dtype}"]())
  timings = interleaved(ways)
  return {
    "files": num_files,
    "network": f"ViT-{size}/{PATCH}",
    "image_size": image_size,
    "batch": batch,
    "compute_dtypes": list(compute_dtypes),
    "images_per_second": {name: rate(timings[name], num_files) for name in ways},
  }


def as_text(result: dict) -> str:
  """Returns the result in words."""
  rates, lines = result["images_per_second"], []
  for dtype in result["compute_dtypes"]:
    serial, both = rates[f"serial_{dtype}"], rates[f"overlapped_{dtype}"]
    lines.append(
      f"  {dtype}: {both['median']:.0f} images/s ({both['low']:.0f} to {both['high']:.0f}), serial "
      f"{serial['median']:.0f} ({serial['low']:.0f} to {serial['high']:.0f}): "
      f"{both['median'] / serial['median']:.2f} times"
    )
  head = (
    f"embed: {result['files']} JPEG files of {SIDE} px, {result['network']} at "
    f"{result['image_size']} px, batch {result['batch']}, decoding included"
  )
  return "\n".join([head, *lines])


def _encoder(size: str, image_size: int, dtype: str) -> Callable:
  """Returns a jitted encoder with random weights: uint8 images to unit vectors."""
  import jax
  import jax.numpy as jnp

  from sbir.nn.losses import l2_normalise
  from sbir.nn.vit import vit

  model = vit(size, PATCH, jnp.dtype(dtype))
  images = jnp.zeros((1, image_size, image_size, 3))
  params = jax.jit(model.init)(jax.random.key(0), images)
  apply = jax.jit(lambda params, x: l2_normalise(model.apply(params, x / 255.0)[:, 0]))
  return lambda batch: apply(params, batch["image"])


def _pass(embed: Callable, source, batch: int, is_overlapped: bool) -> Callable:
  """Returns what embeds all images of the source once, and returns their vectors."""
  import numpy as np

  from sbir.data.padding import NUM_THREADS, padded
  from sbir.overlap import overlapped

  rows = np.arange(len(source.records), dtype=np.int32)
  in_flight, num_threads = (2, NUM_THREADS) if is_overlapped else (1, 0)

  def all_vectors() -> np.ndarray:
    load = lambda part: {"image": source.images(part)}
    batches = padded(rows, batch, load, num_threads=num_threads)
    found = overlapped(embed, batches, in_flight=in_flight)
    return np.concatenate([vectors[made["mask"]] for vectors, made in found])

  return all_vectors

"""Training batches from 256 px JPEG files: decoded, resized to 224 px, cached, without a network.

Three ways through the same files: decoded every time (data.cache=none, also the first epoch of any
other), from the memory-mapped file of data.cache=disk, from memory. And one large photo, decoded at
the scale it is wanted at against a full decode. Files are in the system's page cache throughout.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

NUM_PAIRS, SIDE, IMAGE_SIZE, BATCH = 256, 256, 224, 32
LARGE_SIDE, LARGE_TIMES = 3000, 4
TARGETS = {"decoded": 500.0}


def run(options) -> dict[str, object]:
  """Returns images per second of each way."""
  from benchmarks.timing import interleaved

  small = {"num_pairs": 4, "batch": 2, "large_side": 1400} if options.rehearse else {}
  with tempfile.TemporaryDirectory() as folder:
    return measure(Path(folder), lambda ways: interleaved(ways, options.repeats), **small)


def measure(
  folder: Path,
  interleaved: Callable,
  *,
  num_pairs: int = NUM_PAIRS,
  batch: int = BATCH,
  large_side: int = LARGE_SIDE,
) -> dict[str, object]:
  """Returns the result of `run`, made of files in `folder`."""
  from benchmarks.jpegs import write_large, write_pairs
  from sbir.data.sources import open_source

  num_files, mean_bytes = write_pairs(folder / "pairs", num_pairs=num_pairs, side=SIDE)
  write_large(folder / "large.jpg", large_side)
  source = open_source("folder", "shoe_v2", folder / "pairs", "train")
  steps = num_pairs // batch
  ways = {
    "decoded": _epoch(source, batch, steps, cache="none"),
    "disk": _epoch(source, batch, steps, cache="disk", cache_dir=folder / "kept"),
    "memory": _epoch(source, batch, steps, cache="memory"),
    "large_scaled": lambda: _decode_large(folder / "large.jpg", scaled=True),
    "large_full": lambda: _decode_large(folder / "large.jpg", scaled=False),
  }
  timings = interleaved(ways)
  images = dict.fromkeys(ways, 3 * batch * steps) | dict.fromkeys(
    ("large_scaled", "large_full"), LARGE_TIMES
  )
  return {
    "files": num_files,
    "mean_bytes": mean_bytes,
    "side": SIDE,
    "image_size": IMAGE_SIZE,
    "batch": batch,
    "large_side": large_side,
    "images_per_second": {name: rate(timings[name], images[name]) for name in ways},
    "targets": TARGETS,
  }


def rate(timing, num: int) -> dict[str, float]:
  """Returns what is done in a second, of `num` things that took the time."""
  return {"median": num / timing.median, "low": num / timing.high, "high": num / timing.low}


def as_text(result: dict) -> str:
  """Returns the result in words, with the target beside its figure."""
  rates = result["images_per_second"]
  line = lambda name: (
    f"{rates[name]['median']:.0f} images/s ({rates[name]['low']:.0f} to {rates[name]['high']:.0f})"
  )
  gain = rates["large_scaled"]["median"] / rates["large_full"]["median"]
  return (
    f"input_pipeline: {result['files']} JPEG files of {result['side']} px "
    f"({result['mean_bytes'] / 1000:.0f} kB each) to batches of 3 x {result['batch']} at "
    f"{result['image_size']} px\n"
    f"  decoded every time: {line('decoded')} (target: {result['targets']['decoded']:.0f})\n"
    f"  data.cache=disk, after the first epoch: {line('disk')}\n"
    f"  data.cache=memory, after the first epoch: {line('memory')}\n"
    f"  a photo of {result['large_side']} px: {line('large_scaled')}, decoded in full "
    f"{line('large_full')}: {gain:.1f} times"
  )


def _epoch(source, batch: int, steps: int, **cache) -> Callable[[], None]:
  """Returns what takes one epoch of batches; the first call fills the cache."""
  from sbir.data.pipeline import train_batches
  from sbir.data.resized import resized

  images = resized(source, IMAGE_SIZE, **cache)

  def epoch() -> None:
    # A new iterator each time: none has batches waiting that it made while others were measured.
    batches = train_batches(images, image_size=IMAGE_SIZE, batch_size=batch, seed=0)
    for _ in range(steps):
      next(batches)

  return epoch


def _decode_large(path: Path, *, scaled: bool) -> None:
  from sbir.data.fit import fit_square, least_side
  from sbir.data.images import decode

  least = least_side(IMAGE_SIZE, "stretch") if scaled else 0
  for _ in range(LARGE_TIMES):
    fit_square(decode(path, at_least=least), IMAGE_SIZE, "stretch")

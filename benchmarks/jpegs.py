"""Photos and sketches as JPEG files, for the benchmarks that read images."""

from pathlib import Path

import numpy as np

QUALITY, GRAIN = 90, 6.0  # the noise of a camera makes a photo's file as large as a real one's
NUM_DRAWN = 24  # pairs that are rendered; the others are the same with noise of their own


def write_pairs(root: Path, *, num_pairs: int, side: int) -> tuple[int, float]:
  """Writes ShoeV2's training layout, a sketch for each photo, `side` x `side` pixels.

  Returns how many files, and their mean size in bytes.
  """
  from sbir.data.records import PHOTO, SKETCH
  from sbir.data.synthetic import open_synthetic

  source = open_synthetic("train", num_train=NUM_DRAWN, num_sketches=1, size=side)
  drawn: dict[str, list[np.ndarray]] = {PHOTO: [], SKETCH: []}
  for i, record in enumerate(source.records):
    drawn[record.modality].append(source.image(i))
  sizes = []
  for pair in range(num_pairs):
    photo, sketch = (drawn[side][pair % NUM_DRAWN] for side in (PHOTO, SKETCH))
    sizes.append(write_jpeg(root / "trainB" / f"{pair}.jpg", _grainy(photo, pair)))
    sizes.append(write_jpeg(root / "trainA" / f"{pair}_1.jpg", sketch))
  return len(sizes), float(np.mean(sizes))


def write_large(path: Path, side: int) -> None:
  """Writes one photo as a camera would have it."""
  from sbir.data.images import resize
  from sbir.data.synthetic import open_synthetic

  photo = open_synthetic("train", num_train=1, num_sketches=1, size=256).image(0)
  write_jpeg(path, _grainy(resize(photo, side), 0))


def write_jpeg(path: Path, image: np.ndarray) -> int:
  """Writes the image and returns the size of the file."""
  from PIL import Image

  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image).save(path, quality=QUALITY)
  return path.stat().st_size


def _grainy(image: np.ndarray, seed: int) -> np.ndarray:
  grain = GRAIN * np.random.default_rng(seed).standard_normal(image.shape, np.float32)
  return np.clip(image + grain, 0, 255).astype(np.uint8)

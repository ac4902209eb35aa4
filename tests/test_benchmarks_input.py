"""The benchmarks that read images: on a few small files, they measure what they say."""

import time
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from benchmarks import embed, input_pipeline, jpegs


class Timing(NamedTuple):
  median: float
  low: float
  high: float


@pytest.fixture
def once():
  """Runs each way twice and remembers which there were."""

  def interleaved(ways):
    interleaved.ways = list(ways)
    timings = {}
    for name, way in ways.items():
      way()
      begun = time.perf_counter()
      way()
      took = time.perf_counter() - begun
      timings[name] = Timing(took, took / 2, took * 2)
    return timings

  return interleaved


def test_the_files_are_pairs_that_differ_and_the_same_every_time(tmp_path):
  for folder in ("a", "b"):
    num, size = jpegs.write_pairs(tmp_path / folder, num_pairs=25, side=32)
  assert num == 50 and 100 < size < 5000
  read = lambda path: np.asarray(Image.open(tmp_path / path))
  np.testing.assert_array_equal(read("a/trainB/3.jpg"), read("b/trainB/3.jpg"))
  assert not np.array_equal(read("a/trainB/0.jpg"), read("a/trainB/24.jpg"))
  assert read("a/trainA/24_1.jpg").shape == (32, 32, 3)


def test_every_way_of_reading_is_measured_and_told(tmp_path, once):
  result = input_pipeline.measure(tmp_path, once, num_pairs=4, batch=2, large_side=1400)
  rates = result["images_per_second"]
  assert set(rates) == {"decoded", "disk", "memory", "large_scaled", "large_full"}
  assert all(0 < r["low"] < r["median"] < r["high"] for r in rates.values())
  text = input_pipeline.as_text(result)
  assert "8 JPEG files of 256 px" in text and "(target: 500)" in text
  assert f"{rates['disk']['median']:.0f} images/s" in text


def test_the_second_epoch_of_a_cache_decodes_nothing(tmp_path):
  from sbir.data.sources import open_source

  jpegs.write_pairs(tmp_path / "pairs", num_pairs=4, side=32)
  source = open_source("folder", "shoe_v2", tmp_path / "pairs", "train")
  epochs = {
    cache: input_pipeline._epoch(source, 2, 2, cache=cache, cache_dir=tmp_path / "kept")
    for cache in ("none", "disk", "memory")
  }
  for epoch in epochs.values():
    epoch()
  for path in (tmp_path / "pairs").rglob("*.jpg"):
    path.unlink()
  epochs["disk"](), epochs["memory"]()
  with pytest.raises(ValueError, match="cannot be read"):
    epochs["none"]()


def test_the_rate_is_of_the_time():
  assert input_pipeline.rate(Timing(2.0, 1.0, 4.0), 8) == {"median": 4.0, "low": 2.0, "high": 8.0}


def test_embedding_is_measured_overlapped_and_not(tmp_path, once):
  result = embed.measure(
    tmp_path, once, num_pairs=3, batch=4, size="micro", image_size=32, compute_dtypes=("float32",)
  )
  assert once.ways == ["serial_float32", "overlapped_float32"]
  text = embed.as_text(result)
  assert "6 JPEG files" in text and "ViT-micro/16 at 32 px" in text and "times" in text

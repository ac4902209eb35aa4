"""Patterns for the photos: what lies behind the objects and on them.

Each pattern is a function of (generator, x, y), with x and y the coordinates of every pixel, -1..1,
turned and scaled at random; it returns values in 0..1. To add one, list it in `PATTERNS`.
"""

import numpy as np
from jaxtyping import Float

from sbir.data.synthetic_raster import enlarged

Field = Float[np.ndarray, "size size"]


def grid(size: int) -> tuple[Field, Field]:
  """Returns x and y of every pixel's centre, -1..1."""
  steps = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
  x, y = np.meshgrid(steps, steps)
  return x, y


def clouds(rng: np.random.Generator, x: Field, y: Field) -> Field:
  octaves = [enlarged(rng.random((n, n)), len(x)) / n**0.5 for n in (4, 8, 16)]
  return np.clip(sum(octaves) / 1.1, 0, 1)


def speckle(rng: np.random.Generator, x: Field, y: Field) -> Field:
  return (enlarged(rng.random((24, 24)), len(x)) > rng.uniform(0.6, 0.9)).astype(np.float32)


def ramp(rng: np.random.Generator, x: Field, y: Field) -> Field:
  return np.clip(0.5 + 0.5 * x, 0, 1)


def stripes(rng: np.random.Generator, x: Field, y: Field) -> Field:
  return 0.5 + 0.5 * np.sin(rng.uniform(4, 25) * x)


def checks(rng: np.random.Generator, x: Field, y: Field) -> Field:
  return (np.floor(rng.uniform(1, 5) * x) + np.floor(rng.uniform(1, 5) * y)) % 2


def weave(rng: np.random.Generator, x: Field, y: Field) -> Field:
  pitch = rng.uniform(12, 30)
  return 0.5 + 0.25 * (np.sin(pitch * x) + np.sin(pitch * y))


def planks(rng: np.random.Generator, x: Field, y: Field) -> Field:
  tone = rng.random(16).astype(np.float32)
  place = rng.uniform(1.5, 5) * x + 8
  seam = np.abs(place - np.round(place)) > 0.03
  return tone[np.round(place).astype(int) % 16] * seam


def lights(rng: np.random.Generator, x: Field, y: Field) -> Field:
  glow = np.zeros_like(x)
  for _ in range(rng.integers(4, 12)):
    far = (x - rng.uniform(-1.3, 1.3)) ** 2 + (y - rng.uniform(-1.3, 1.3)) ** 2
    glow += rng.uniform(0.2, 0.6) / (
      1 + np.exp(np.clip((far - rng.uniform(0.02, 0.2)) * 60, -9, 9))
    )
  return np.clip(glow, 0, 1)


PATTERNS = (clouds, speckle, ramp, stripes, checks, weave, planks, lights)


def pattern(rng: np.random.Generator, size: int) -> Field:
  """Returns a random pattern, turned at random, in 0..1."""
  x, y = grid(size)
  angle = np.float32(rng.uniform(0, 2 * np.pi))
  draw = PATTERNS[rng.integers(len(PATTERNS))]
  turned_x, turned_y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
  return draw(rng, turned_x, turned_y).astype(np.float32)

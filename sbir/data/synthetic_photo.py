"""The photo of an object: lit, coloured, textured, on one of many backgrounds.

Colours, light, texture and background come from the photo's own generator and never from the shape:
what a photo shares with its sketches is geometry alone.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from sbir.data.synthetic_parts import Part, tube
from sbir.data.synthetic_raster import blurred, coverage
from sbir.data.synthetic_textures import Field, grid, pattern

Picture = Float[np.ndarray, "size size 3"]  # 0..1
Colour = Float[np.ndarray, "3"]

CREASE_WIDTH = 0.035  # of inner lines; a pixel of a 64-pixel photo is 0.031 wide


@dataclass(frozen=True)
class Look:
  """What the photographer chose, once per photo."""

  paints: dict[str, Colour]  # by the `paint` of a part
  light: tuple[float, float]  # direction towards the light, in the plane of the picture
  contrast: float  # how strongly the light models the surfaces
  gloss: float
  texture: Field  # multiplies the object's colours; about 1


def render_photo(
  parts: list[Part], rng: np.random.Generator, size: int
) -> UInt8[np.ndarray, "size size 3"]:
  """Returns the photo of the object in a style drawn from `rng`."""
  lightness = rng.uniform(0.62, 0.9)  # of the backdrop
  picture = backdrop(rng, size, lightness)
  look = draw_look(rng, size, lightness)
  picture = with_shadow(picture, parts, look, strength=rng.uniform(0.2, 0.6))
  for part in parts:
    picture = with_part(picture, part, look)
  return developed(picture, rng)


def backdrop(rng: np.random.Generator, size: int, lightness: float) -> Picture:
  """Returns an empty scene of about the given lightness: a patterned wall, often with a floor."""
  wall = patterned(rng, size, lightness)
  if rng.random() < 0.5:
    return wall
  floor = patterned(rng, size, lightness + rng.uniform(-0.12, 0.12))
  _, y = grid(size)
  return np.where((y > rng.uniform(0.1, 0.8))[..., None], floor, wall)


def patterned(rng: np.random.Generator, size: int, lightness: float) -> Picture:
  """Returns two colours of nearly the given lightness, mixed by a pattern."""
  spread = rng.uniform(0, 0.1)
  one, other = (colour(rng, lightness + s, vivid=0.5) for s in (-spread, spread))
  return one + pattern(rng, size)[..., None] * (other - one)


def colour(rng: np.random.Generator, lightness: float, *, vivid: float = 0.85) -> Colour:
  """Returns a colour of the lightness (clipped to 0.05..0.95), of any hue, from grey to `vivid`."""
  lightness = min(max(lightness, 0.05), 0.95)
  return np.array(colorsys.hls_to_rgb(rng.random(), lightness, rng.uniform(0, vivid)), np.float32)


def draw_look(rng: np.random.Generator, size: int, backdrop_lightness: float) -> Look:
  """Returns a random look; the body is always darker than the backdrop, as on a studio table."""
  lightness = rng.uniform(0.15, backdrop_lightness - 0.25)
  body = colour(rng, lightness)
  towards = rng.uniform(-np.pi, 0)  # the light comes from above
  return Look(
    paints={
      "body": body,
      "accent": colour(rng, apart(lightness, rng.uniform(0.1, 0.25))),
      "trim": colour(rng, apart(lightness, rng.uniform(0.1, 0.25))),
      "dark": colour(rng, rng.uniform(0.06, 0.2)),
      "glass": colour(rng, rng.uniform(0.6, 0.9)),
      "hollow": body * rng.uniform(0.3, 0.6),
      "crease": colour(rng, apart(lightness, rng.uniform(0.25, 0.35))),
    },
    light=(np.cos(towards), np.sin(towards)),
    contrast=rng.uniform(0.25, 0.6),
    gloss=rng.uniform(0, 0.5),
    texture=1 + rng.uniform(0, 0.5) * (pattern(rng, size) - 0.5),
  )


def apart(lightness: float, gap: float) -> float:
  """Returns a lightness that stands off from the given one: darker if that leaves any light."""
  return lightness - gap if lightness - gap > 0.05 else lightness + gap


def with_shadow(picture: Picture, parts: list[Part], look: Look, *, strength: float) -> Picture:
  """Returns the scene with the object's soft shadow, thrown away from the light."""
  away = -0.12 * np.array(look.light)
  shadow = coverage([part.path + away for part in parts if part.is_surface], len(picture))
  return picture * (1 - strength * blurred(shadow, 0.08))[..., None]


def with_part(picture: Picture, part: Part, look: Look) -> Picture:
  """Returns the picture with one more part laid on, darkening what it touches."""
  path = part.path if part.is_surface else tube(part.path, CREASE_WIDTH)
  mask = coverage([path], len(picture))
  if part.is_surface:
    picture = picture * (1 - 0.3 * blurred(mask, 0.04))[..., None]
  light, shine = lighting(mask, part, look)
  paint = look.paints[part.paint] * (light * look.texture)[..., None] + shine[..., None]
  return picture + mask[..., None] * (paint - picture)


def lighting(mask: Field, part: Part, look: Look) -> tuple[Field, Field]:
  """Returns by how much the light multiplies the part's colour, and the gleam it adds."""
  slope_x, slope_y = slopes(mask, part)
  facing = slope_x * look.light[0] + slope_y * look.light[1]
  steepness = slope_x**2 + slope_y**2
  light = 1 + look.contrast * (facing - 0.5 * steepness)
  gleam = look.gloss * np.exp(-(((facing - 0.5) / 0.15) ** 2))
  return light, gleam if part.shade == "round" else 0.4 * gleam


def slopes(mask: Field, part: Part) -> tuple[Field, Field]:
  """Returns how far the surface leans to the right and down at each pixel, about -1..1."""
  x, y = grid(len(mask))
  (left, top), (right, low) = part.path.min(axis=0), part.path.max(axis=0)
  if part.shade == "round":
    across = (2 * x - left - right) / max(right - left, 0.05)
    return np.clip(across, -1, 1), np.zeros_like(y)
  if part.shade == "flat":
    return 0.3 * (2 * x - left - right), 0.3 * (2 * y - top - low)
  swell = 0.1
  fall_y, fall_x = np.gradient(blurred(mask, swell), 2 / len(mask))
  return -2.5 * swell * fall_x, -2.5 * swell * fall_y


def developed(picture: Picture, rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
  """Returns the picture as a camera keeps it: exposure, darker corners, grain, 8 bits."""
  x, y = grid(len(picture))
  exposure = rng.uniform(0.9, 1.1) * (1 - rng.uniform(0, 0.12) * (x**2 + y**2))
  grain = rng.normal(0, rng.uniform(0.005, 0.03), picture.shape)
  return np.clip(255 * (picture * exposure[..., None] + grain), 0, 255).astype(np.uint8)

"""What a made-up object is drawn from: parts with outlines, and the pens that make the outlines.

Coordinates are x to the right, y down, in any unit the object likes; `fitted` brings the finished
object into the picture, where both run from -1 to 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

Draw = Callable[[float, float], float]  # u(low, high): the next number, evenly between the two
Path = Float[np.ndarray, "n 2"]
Pair = tuple[float, float]


@dataclass(frozen=True)
class Part:
  """One surface or inner line of an object. A list of parts is painted back to front."""

  path: Path
  is_surface: bool = True  # False: an open line on the surface below it
  paint: str = "body"  # a colour name of `synthetic_photo.PAINTS`
  shade: str = "soft"  # "soft" swells from its edge, "round" turns like a cylinder, "flat" does not
  is_minor: bool = False  # a sketcher may forget it

  def reflected(self) -> "Part":
    """Returns the part's mirror image in the y axis."""
    return replace(self, path=mirrored(self.path))


def surface(
  path: Path, paint: str = "body", shade: str = "soft", *, is_minor: bool = False
) -> Part:
  """Returns a filled part: the photo shades its inside, the sketch draws its outline."""
  return Part(path, True, paint, shade, is_minor)


def line(path: Path, *, is_minor: bool = True) -> Part:
  """Returns an inner line: a crease in the photo, a stroke in the sketch."""
  return Part(path, False, "crease", "flat", is_minor)


def polygon(*corners: Pair) -> Path:
  """Returns the corners as a path, straight between them."""
  return np.array(corners, dtype=float)


def box(x: float, half_width: float, top: float, low: float) -> Path:
  """Returns an upright rectangle centred on x."""
  left, right = x - half_width, x + half_width
  return polygon((left, top), (right, top), (right, low), (left, low))


def curve(*knots: Pair, closed: bool = False, per_span: int = 10) -> Path:
  """Returns a smooth path through the knots (Catmull-Rom), round the whole loop if closed.

  Three knots or more of an open path set out and arrive on parabolas; two give a straight line.
  """
  points = np.array(knots, dtype=float)
  if closed:
    points = np.concatenate([points[-1:], points, points[:2]])
  else:
    points = np.stack([beyond(*points[2::-1]), *points, beyond(*points[-3:])])
  before, start, stop, after = (points[i : len(points) - 3 + i, None] for i in range(4))
  t = (np.arange(per_span) / per_span)[:, None]
  spans = start + 0.5 * t * (
    (stop - before)
    + t * (2 * before - 5 * start + 4 * stop - after)
    + t**2 * (3 * (start - stop) + after - before)
  )
  path = spans.reshape(-1, 2)
  return path if closed else np.concatenate([path, points[-2:-1]])


def beyond(*last: Path) -> Path:
  """Returns the point that continues the last three points as a parabola, two as a line."""
  return last[-1] + (last[-1] - last[-2]) if len(last) == 2 else last[0] + 3 * (last[2] - last[1])


def loop(*knots: Pair) -> Path:
  """Returns a smooth closed path through the knots."""
  return curve(*knots, closed=True)


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0, stop: float = 360) -> Path:
  """Returns the arc from `start` to `stop` degrees, clockwise on the page from three o'clock."""
  angle = np.radians(np.linspace(start, stop, max(4, int(abs(stop - start) / 8))))
  return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def disc(x: float, y: float, rx: float, ry: float | None = None) -> Path:
  """Returns a closed ellipse, a circle if `ry` is not given."""
  return ellipse(x, y, rx, rx if ry is None else ry)[:-1]


def join(*paths: Path) -> Path:
  """Returns the paths one after the other, as one path."""
  return np.concatenate(paths)


def mirrored(path: Path) -> Path:
  """Returns the path's reflection in the y axis, walked backwards, so that it can be joined."""
  return path[::-1] * (-1, 1)


def both_sides(path: Path) -> Path:
  """Returns the path followed by its reflection in the y axis: the outline of a symmetric thing."""
  return join(path, mirrored(path))


def bar(start: Pair, stop: Pair, width: float) -> Path:
  """Returns the outline of a straight band."""
  return tube(polygon(start, stop), width)


def tube(spine: Path, width: float | np.ndarray, end_width: float | None = None) -> Path:
  """Returns the outline of a band along the spine, its width going evenly to `end_width`.

  `width` may also be one width per point of the spine.
  """
  if end_width is not None:
    width = np.linspace(width, end_width, len(spine))
  along = np.gradient(spine, axis=0)
  along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
  across = np.stack([-along[:, 1], along[:, 0]], axis=1) * np.reshape(width, (-1, 1)) / 2
  return np.concatenate([spine + across, (spine - across)[::-1]])


# Things turned on a lathe (mugs, bottles, lamps) are a profile, seen slightly from above: `profile`
# runs top to bottom through (radius, y), and every circle shows as an ellipse `sag` times as high.


def turned(profile: Path, sag: float) -> Path:
  """Returns the outline of the solid whose right-hand side is `profile`."""
  (top, top_y), (base, base_y) = profile[0], profile[-1]
  front = ellipse(0, base_y, base, sag * base, 0, 180)
  back = ellipse(0, top_y, top, sag * top, 180, 360)
  return join(profile, front[1:-1], mirrored(profile), back[1:-1])


def mouth(profile: Path, sag: float) -> Path:
  """Returns the open circle at the top of a turned solid."""
  radius, y = profile[0]
  return disc(0, y, radius, sag * radius)


def hoop(profile: Path, y: float, sag: float) -> Path:
  """Returns the visible front half of the circle round a turned solid at height y."""
  radius = radius_at(profile, y)
  return ellipse(0, y, radius, sag * radius, 0, 180)


def between(start: Pair, stop: Pair, share: float) -> Pair:
  """Returns the point that lies `share` of the way from start to stop."""
  return start[0] + share * (stop[0] - start[0]), start[1] + share * (stop[1] - start[1])


def y_at(path: Path, x: float) -> float:
  """Returns the height at x of a path that runs left to right."""
  return float(np.interp(x, path[:, 0], path[:, 1]))


def radius_at(profile: Path, y: float) -> float:
  """Returns the profile's radius at height y."""
  return float(np.interp(y, profile[:, 1], profile[:, 0]))


def fitted(parts: list[Part], *, extent: float, tilt: float) -> list[Part]:
  """Returns the object turned by `tilt` degrees, centred, its longer side 2 * extent long."""
  cos, sin = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
  turned_paths = [part.path @ np.array([[cos, sin], [-sin, cos]]) for part in parts]
  everything = np.concatenate(turned_paths)
  low, high = everything.min(axis=0), everything.max(axis=0)
  scale = 2 * extent / (high - low).max()
  return [
    replace(part, path=(path - (low + high) / 2) * scale)
    for part, path in zip(parts, turned_paths, strict=True)
  ]

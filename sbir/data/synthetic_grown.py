"""The grown things: each function turns continuous draws into the parts of one individual.

Parts stand back to front, in units of the kind's own; see `synthetic_objects`.
"""

import numpy as np

from sbir.data import synthetic_parts as p
from sbir.data.synthetic_parts import (
  Draw,
  Part,
  between,
  curve,
  disc,
  join,
  line,
  loop,
  mirrored,
  polygon,
  surface,
  tube,
)


def butterfly(u: Draw) -> list[Part]:
  reach, lift, waist, spot = u(0.6, 1.2), u(0.4, 1.1), u(0.1, 0.35), u(0.07, 0.17)
  low_reach, drop = u(0.35, 1.0), u(0.4, 1.1)
  upper = loop((0.05, 0), (reach / 2, -lift * u(0.5, 1)), (reach, -lift), (reach * 0.9, -waist / 2))
  lower = loop((0.05, 0), (low_reach, waist), (low_reach * u(0.7, 1.1), drop * 0.7), (0.25, drop))
  eye = disc(reach * u(0.5, 0.75), -lift * u(0.4, 0.7), spot)
  feeler = curve((0.02, -0.3), (u(0.08, 0.2), -0.6), (u(0.15, 0.5), -u(0.7, 1.0)))
  right = [surface(lower, "accent"), surface(upper), surface(eye, "trim"), line(feeler)]
  return [
    *right,
    *(part.reflected() for part in right),
    surface(disc(0, 0.05, u(0.05, 0.1), u(0.35, 0.55)), "dark"),
  ]


def cactus(u: Draw) -> list[Part]:
  height, width, pot, sag = u(1.0, 1.9), u(0.2, 0.42), u(0.35, 0.6), u(0.1, 0.2)
  side = curve((width, 0.2), (width, -height * 0.7), (0, -height))
  rib = curve((width / 3, 0), (width * u(0.3, 0.5), -height * 0.5), (width * 0.2, -height * 0.9))
  arms = []
  for hand in (-1, 1):
    root, reach, rise = -height * u(0.2, 0.75), hand * (width + u(0.2, 0.5)), u(0.25, 0.8)
    spine = curve((0, root), (reach * 0.8, root), (reach, root - 0.2), (reach, root - rise))
    arms.append(surface(tube(spine, u(0.14, 0.26))))
  pot_side = curve((pot, 0), (pot * u(0.6, 1.0), u(0.45, 0.8)))
  rim = curve((pot * 1.12, -0.08), (pot * 1.12, u(0.08, 0.2)))
  return [
    *arms,
    surface(p.both_sides(side), shade="round"),
    line(rib),
    line(mirrored(rib)),
    surface(p.turned(pot_side, sag), "accent", "round"),
    surface(p.turned(rim, sag), "trim", "round"),
  ]


def fish(u: Draw) -> list[Part]:
  stalk, hump = u(0.06, 0.14), u(-0.55, 0.1)
  back = curve((-1, u(-0.08, 0.12)), (hump, -u(0.25, 0.7)), (0.8, -stalk))
  belly = curve((-1, 0.12), (u(-0.5, 0.1), u(0.2, 0.65)), (0.8, stalk))
  tip, fork, notch = u(1.1, 1.5), u(0.25, 0.65), u(0.9, 1.15)
  tail = curve((0.75, -stalk), (tip, -fork), (notch, 0), (tip * u(0.9, 1.1), fork), (0.75, stalk))
  fin_start, fin_stop = u(-0.5, -0.1), u(0.1, 0.6)
  peak = (u(fin_start, fin_stop + 0.15), p.y_at(back, hump) - u(0.1, 0.45))
  fin_ends = [(x, p.y_at(back, x) + 0.1) for x in (fin_start, fin_stop)]
  keel = u(-0.3, 0.3)
  low = p.y_at(belly, keel) - 0.08
  pelvic = polygon((keel, low), (keel + u(0.1, 0.4), low + u(0.2, 0.4)), (keel + 0.2, low))
  gill, bow = u(-0.65, -0.4), u(0.08, 0.18)
  high, deep = 0.8 * p.y_at(back, gill), 0.8 * p.y_at(belly, gill)
  hand = [(gill + u(0.35, 0.6), u(0.0, 0.1)), (gill + u(0.3, 0.5), u(0.2, 0.35))]
  return [
    surface(tail, "accent"),
    surface(curve(fin_ends[0], peak, fin_ends[1]), "accent"),
    surface(pelvic, "accent", is_minor=True),
    surface(join(back, belly[::-1])),
    line(curve((gill, high), (gill + bow, 0.05), (gill, deep))),
    surface(loop((gill + 0.2, 0.1), *hand), "accent", is_minor=True),
    surface(disc(u(-0.85, -0.72), u(-0.08, 0.02), u(0.035, 0.08)), "dark"),
  ]


def leaf(u: Draw) -> list[Part]:
  bend, width, widest, tip = u(-0.4, 0.4), u(0.4, 1.0), u(0.3, 0.6), u(0.8, 1.6)
  teeth, depth, veins = u(4, 9), max(0.0, u(-0.15, 0.25)), int(u(3, 7))
  spine = curve((0, 1), (bend * 0.8, 0), (bend * u(-0.5, 1.0), -1), per_span=40)
  along = np.linspace(0, 1, len(spine))  # 0 at the stalk, 1 at the tip
  bow = along ** (tip * widest / (1 - widest)) * (1 - along) ** tip
  notched = 1 + depth * (1 - 2 * (along * teeth % 1))
  blade = tube(spine, 2 * width * bow / bow.max() * notched)
  slant, reach = u(0.05, 0.25), u(0.5, 0.8)
  parts = [surface(tube(curve((u(-0.3, 0.3), 1.5), (0, 1.2), (0, 0.95)), 0.09), "accent")]
  parts += [surface(blade), line(spine)]
  for share in np.linspace(0.12, 0.7, veins):
    root, end = int(share * len(spine)), int(min(share + slant, 0.95) * len(spine))
    for edge in (blade[end], blade[-1 - end]):
      parts.append(line(polygon(spine[root], between(spine[end], edge, reach))))
  return parts


def mushroom(u: Draw) -> list[Part]:
  half, dome, brim, peak = u(0.55, 1.1), u(0.35, 1.1), u(0.05, 0.3), u(-0.25, 0.25)
  left, right = half * u(-0.95, -0.7), half * u(0.7, 0.95)
  crown = [(-half, 0), (left, -dome * 0.6), (peak, -dome), (right, -dome * 0.6), (half, 0)]
  cap = join(curve(*crown), p.ellipse(0, 0, half, brim, 0, 180)[1:-1])
  neck, foot, height, lean = u(0.12, 0.3), u(0.15, 0.45), u(0.6, 1.4), u(-0.3, 0.3)
  stem = tube(curve((0, 0), (lean * u(0, 1), height / 2), (lean, height)), 2 * neck, 2 * foot)
  skirt = height * u(0.25, 0.5)
  ring = polygon((neck, skirt - 0.1), (neck * 1.7, skirt + 0.1))
  west, north, east = (u(-0.6, -0.35), u(0.15, 0.35)), (u(-0.1, 0.2), 0.6), (u(0.35, 0.6), 0.25)
  spots = [disc(x * half, -y * dome, u(0.06, 0.15)) for x, y in (west, north, east)]
  return [
    surface(stem, "trim", "round"),
    surface(p.both_sides(ring), "trim", is_minor=True),
    surface(cap),
    line(p.ellipse(0, 0, half, brim * 0.4, 0, 180), is_minor=False),
    *(surface(spot, "accent", is_minor=True) for spot in spots),
  ]

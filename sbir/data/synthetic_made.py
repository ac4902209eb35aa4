"""The made things: each function turns continuous draws into the parts of one individual.

Parts stand back to front, in units of the kind's own; see `synthetic_objects`.
"""

from itertools import pairwise

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
  mirrored,
  polygon,
  surface,
  tube,
)


def bottle(u: Draw) -> list[Part]:
  width, shoulder, neck, sag = u(0.3, 0.7), u(0.45, 1.1), u(0.08, 0.2), u(0.1, 0.25)
  neck_end, waist, foot = shoulder - u(0.15, 0.45), width * u(0.75, 1.1), width * u(0.7, 1.1)
  side = curve((neck, 0), (neck, neck_end), (width, shoulder), (waist, 1.5), (foot, 2.1))
  cap = curve((neck * 1.4, -u(0.12, 0.35)), (neck * 1.4, 0.05))
  label_top, label_low = u(shoulder + 0.1, 1.4), u(1.55, 1.9)
  label = join(p.hoop(side, label_top, sag), p.hoop(side, label_low, sag)[::-1])
  return [
    surface(p.turned(side, sag), shade="round"),
    surface(label, "trim", "round"),
    surface(p.turned(cap, sag), "accent", "round"),
  ]


def car(u: Draw) -> list[Part]:
  nose, tail, belt, roof = u(-1.2, -0.95), u(0.9, 1.2), u(-0.25, -0.1), u(-0.9, -0.5)
  front, back, rake, hatch = u(-0.75, -0.3), u(0.45, 0.9), u(0.1, 0.4), u(0.05, 0.35)
  hood, boot = belt + u(0.0, 0.2), belt + u(0.0, 0.12)
  screen, rear = (front + rake, roof), (back - hatch, roof)
  shell = [(nose, 0.3), (nose, hood), (front, belt), screen, rear, (back, belt), (tail, boot)]
  post, sill, top = between(screen, rear, u(0.3, 0.7))[0], belt + 0.02, roof + 0.1
  near = [(front + 0.16, sill), (front + rake + 0.06, top), (post - 0.04, top), (post - 0.04, sill)]
  far = [(post + 0.04, sill), (post + 0.04, top), (rear[0] - 0.04, top), (back - 0.14, sill)]
  wheel, axles = u(0.17, 0.32), (u(-0.8, -0.6), u(0.5, 0.75))
  return [
    surface(polygon(*shell, (tail, 0.3))),
    surface(polygon(*near), "glass", "flat"),
    surface(polygon(*far), "glass", "flat"),
    line(polygon((post, sill), (post, 0.22))),
    surface(disc(nose + 0.1, hood + 0.15, u(0.04, 0.08)), "trim", is_minor=True),
    *(surface(disc(x, 0.3, wheel), "dark") for x in axles),
    *(surface(disc(x, 0.3, wheel / 2), "trim") for x in axles),
  ]


def chair(u: Draw) -> list[Part]:
  half, depth, skew, rise = u(0.45, 0.8), u(0.2, 0.4), u(-0.3, 0.3), u(0.7, 1.6)
  legs, leg, splay, lean = u(0.6, 1.2), u(0.08, 0.15), u(0.0, 0.2), u(-0.12, 0.2)
  left, right = (skew - half, -depth), (skew + half, -depth)
  high_left, high_right = (left[0] - lean, -depth - rise), (right[0] + lean, -depth - rise)
  crest = curve(high_left, (skew, -depth - rise - u(-0.1, 0.3)), high_right)
  gap, shares = u(0.05, 0.5), np.linspace(0, 1, int(u(2, 7)))[1:-1]
  low_left, low_right = between(left, high_left, gap), between(right, high_right, gap)
  slats = [(between(high_left, high_right, s), between(low_left, low_right, s)) for s in shares]
  seat = [left, right, (half, depth), (-half, depth)]
  feet = [(x + splay * side, y + legs) for side, (x, y) in zip((-1, 1, 1, -1), seat, strict=True)]
  return [
    *(surface(p.bar(*ends, leg), "accent") for ends in zip(seat, feet, strict=True)),
    *(surface(p.bar(*ends, leg), "accent") for ends in ((left, low_left), (right, low_right))),
    surface(join(crest, polygon(low_right, low_left))),
    *(line(polygon(*ends)) for ends in slats),
    surface(polygon(*seat), "trim"),
    surface(p.box(0, half, depth, depth + u(0.06, 0.2)), "trim"),
  ]


def handbag(u: Draw) -> list[Part]:
  top, mid, base, height = u(0.45, 0.95), u(0.7, 1.0), u(0.55, 1.1), u(0.7, 1.4)
  side = curve((top, 0), (mid, height * u(0.5, 0.8)), (base, height))
  grip, rise = top * u(0.4, 0.9), u(0.25, 1.0)
  handle = curve((grip, 0.1), (grip * u(0.7, 1.15), -rise * 0.6), (0, -rise))
  drop, flare = height * u(0.25, 0.75), top * u(0.6, 1.0)
  flap = curve((top, 0), (flare, drop * u(0.5, 0.9)), (0, drop))
  seam = height * u(0.8, 0.92)
  return [
    surface(tube(join(handle, mirrored(handle)[1:]), u(0.06, 0.13)), "accent"),
    surface(p.both_sides(side)),
    line(polygon((-base * 0.85, seam), (base * 0.85, seam))),
    surface(p.both_sides(flap), "trim"),
    surface(disc(0, drop - 0.06, u(0.05, 0.12)), "accent"),
  ]


def house(u: Draw) -> list[Part]:
  half, wall, pitch, eaves = u(0.5, 1.0), u(0.5, 1.2), u(0.3, 1.0), u(0.05, 0.25)
  ridge, flue, flue_half = half * u(-0.35, 0.35), half * u(-0.7, 0.7), u(0.06, 0.14)
  door, door_half, door_top = half * u(-0.6, 0.6), u(0.1, 0.2), wall * u(0.35, 0.7)
  side = -1 if door > 0 else 1
  pane, pane_half = (door + side * half) / 2 + side * 0.06, u(0.08, 0.17)
  pane_top, flue_top = wall * u(0.2, 0.4), -pitch * u(0.75, 1.2)
  pane_low = pane_top + u(0.18, 0.35)
  return [
    surface(p.box(flue, flue_half, flue_top, 0), "trim"),
    surface(p.box(0, half, 0, wall), "body", "flat"),
    surface(polygon((-half - eaves, 0), (ridge, -pitch), (half + eaves, 0)), "accent"),
    surface(p.box(door, door_half, wall - door_top, wall), "trim"),
    surface(p.box(pane, pane_half, pane_top, pane_low), "glass", "flat"),
    line(polygon((pane, pane_top), (pane, pane_low))),
    surface(disc(ridge, -pitch * 0.38, u(0.06, 0.14)), "glass", "flat", is_minor=True),
  ]


def lamp(u: Draw) -> list[Part]:
  crown, hem, drop, sag = u(0.15, 0.6), u(0.55, 1.0), u(0.5, 1.0), u(0.08, 0.22)
  shade = curve((crown, 0), (between((crown, 0), (hem, 0), u(0.3, 0.6))[0], drop / 2), (hem, drop))
  stem, belly, foot, end = u(0.05, 0.12), u(0.06, 0.4), u(0.3, 0.65), drop + u(0.6, 1.3)
  swell = drop + (end - drop) * u(0.35, 0.75)
  post = curve((stem, drop - 0.2), (stem, drop), (belly, swell), (stem, end))
  plate = curve((foot * u(0.6, 0.95), end - 0.03), (foot, end + u(0.06, 0.14)))
  trim = u(0.1, 0.3) * drop
  return [
    surface(p.turned(plate, sag), "accent", "round"),
    surface(p.turned(post, sag), "accent", "round"),
    surface(p.turned(shade, sag), shade="round"),
    surface(p.mouth(shade, sag), "hollow", "flat"),
    line(p.hoop(shade, trim, sag)),
    line(p.hoop(shade, drop - trim, sag)),
  ]


def mug(u: Draw) -> list[Part]:
  height, sag = u(0.8, 1.8), u(0.1, 0.28)
  side = curve((u(0.45, 0.8), 0), (u(0.45, 0.9), height / 2), (u(0.3, 0.8), height))
  high, low, reach = height * u(0.1, 0.3), height * u(0.6, 0.9), u(0.25, 0.65)
  top_x, low_x = p.radius_at(side, high) - 0.05, p.radius_at(side, low) - 0.05
  elbow = max(top_x, low_x) + reach
  upper, lower = (elbow, high * u(0.8, 1.3)), (elbow * u(0.85, 1.0), low)
  handle = curve((top_x, high), upper, lower, (low_x, low))
  return [
    surface(tube(handle, u(0.09, 0.18)), "accent"),
    surface(p.turned(side, sag), shade="round"),
    surface(p.mouth(side, sag), "hollow", "flat"),
    line(p.hoop(side, height * u(0.2, 0.45), sag)),
    line(p.hoop(side, height * u(0.55, 0.9), sag)),
  ]


def shoe(u: Draw) -> list[Part]:
  heel, ankle, opening, toe = u(0.0, 0.55), u(0.35, 1.3), u(0.45, 0.75), u(0.18, 0.4)
  tip, slope, block, sole = u(0.9, 1.2), u(-0.05, 0.35), u(0.15, 0.5), u(0.05, 0.2)
  ground = curve((-0.9, -heel), (-0.35, -heel * u(0.7, 1.0)), (0.3, 0), (tip, 0))
  collar = (opening - 0.95, -heel - ankle * u(0.8, 1.0))
  bridge = (0.1, -toe - heel / 2 - slope)
  instep = curve(collar, bridge, (0.6, -toe), (tip + 0.02, -toe / 2), (tip, 0))
  quarter = curve((-0.9, -heel), (-0.95 - u(-0.05, 0.1), -heel - ankle / 2), (-0.95, -heel - ankle))
  stack = [(-0.95, -heel), (-0.9 + block, -heel), (-0.9 + block * u(0.5, 1.0), sole), (-0.9, sole)]
  cap, lace, laces = u(0.45, 0.75), u(0.1, 0.25), int(u(0, 4))
  eyes = [(x, p.y_at(instep, x)) for x in np.linspace(collar[0] + 0.1, 0.35, laces)]
  return [
    surface(polygon(*stack), "trim"),
    surface(join(ground, np.add(ground[::-1], (0, sole))), "trim"),
    surface(join(quarter, instep, ground[::-1][1:-1])),
    line(curve((cap, p.y_at(instep, cap)), (cap - u(0.1, 0.3), -toe / 2), (cap - 0.1, 0))),
    *(line(polygon((x, y), (x - lace, y + lace * 1.2))) for x, y in eyes),
  ]


def teapot(u: Draw) -> list[Part]:
  lip, belly, foot, height = u(0.25, 0.5), u(0.6, 1.0), u(0.3, 0.65), u(0.8, 1.5)
  side = curve((lip, 0), (belly, height * u(0.35, 0.65)), (foot, height))
  root = height * u(0.45, 0.75)
  base, tip = (0.1 - p.radius_at(side, root), root), (-belly - u(0.25, 0.7), u(-0.3, 0.2))
  spout = curve(base, (between(base, tip, u(0.4, 0.8))[0], root * 0.7), tip)
  high, low, reach = height * u(0.1, 0.3), height * u(0.6, 0.85), belly + u(0.2, 0.6)
  top_x, low_x = p.radius_at(side, high) - 0.05, p.radius_at(side, low) - 0.05
  upper, lower = (reach, high * u(0.5, 1.5)), (reach * u(0.85, 1.0), low * 0.9)
  handle = curve((top_x, high), upper, lower, (low_x, low))
  rise, knob = u(0.1, 0.4), u(0.06, 0.14)
  lid = curve((0, -rise), (lip * u(0.6, 0.9), -rise * 0.7), (lip * 1.05, 0.02))
  return [
    surface(tube(spout, u(0.25, 0.4), u(0.08, 0.14)), "accent"),
    surface(tube(handle, u(0.08, 0.15)), "accent"),
    surface(p.turned(side, 0.12), shade="round"),
    surface(disc(0, -rise - knob * 0.7, knob), "trim"),
    surface(p.turned(lid, 0.12), "trim", "round"),
    line(p.hoop(side, height * u(0.3, 0.8), 0.12)),
  ]


def umbrella(u: Draw) -> list[Part]:
  half, rise, peak, scallop = u(0.7, 1.1), u(0.35, 1.0), u(-0.2, 0.2), u(0.05, 0.2)
  panels, shaft, hook = int(u(3, 7)), u(0.8, 1.5), u(0.1, 0.25)
  left, right = (-half * 0.65, -rise * u(0.6, 0.85)), (half * 0.65, -rise * u(0.6, 0.85))
  dome = curve((-half, 0), left, (peak, -rise), right, (half, 0))
  corners = half * np.sin(np.linspace(np.pi / 2, -np.pi / 2, panels + 1))
  hem = [p.ellipse((a + b) / 2, 0, (a - b) / 2, scallop, 0, -180) for a, b in pairwise(corners)]
  crook = join(polygon((0, -0.1), (0, shaft)), p.ellipse(hook, shaft, hook, hook, 180, u(0, 60)))
  ribs = [curve((x, 0), (0.7 * x + 0.3 * peak, -rise * 0.55), (peak, -rise)) for x in corners[1:-1]]
  return [
    surface(tube(crook, u(0.06, 0.12)), "trim"),
    surface(p.box(peak, 0.04, -rise - u(0.05, 0.25), 0.1 - rise), "trim", is_minor=True),
    surface(join(dome, *hem)),
    *map(line, ribs),
  ]


def vase(u: Draw) -> list[Part]:
  lip, neck, belly, foot, sag = u(0.2, 0.65), u(0.12, 0.4), u(0.4, 0.9), u(0.2, 0.6), u(0.1, 0.25)
  neck_y, belly_y = u(0.25, 0.6), u(0.9, 1.4)
  side = curve((lip, 0), (neck, neck_y), (belly, belly_y), (foot, 2))
  bend = curve((neck, neck_y), (neck + u(0.2, 0.5), neck_y), (belly * 0.8, belly_y - 0.15))
  ear = surface(tube(bend, u(0.08, 0.14)), "accent")
  return [
    *((ear, ear.reflected()) if u(0, 1) > 0.5 else ()),
    surface(p.turned(side, sag), shade="round"),
    surface(p.mouth(side, sag), "hollow", "flat"),
    line(p.hoop(side, belly_y + u(-0.3, 0.0), sag)),
    line(p.hoop(side, belly_y + u(0.1, 0.45), sag)),
  ]

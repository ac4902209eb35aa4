"""Strategies of bytes: files of any form with what happens to files, and numbers at the edges."""

import struct

from hypothesis import strategies as st

EDGES = sorted(
  {0, 1, 2, 3, 7, 255, 4300, 2**53, 10**30}
  | {2**bits + off for bits in (7, 8, 15, 16, 24, 28, 31, 32, 62, 63, 64) for off in (-1, 0, 1)}
)
WIDTHS = {1: "B", 2: "H", 4: "I", 8: "Q"}
TOKENS = (b"\0", b"\xff", b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY", b"{", b'"')

numbers = st.one_of(st.integers(-3, 300), st.sampled_from(EDGES))


@st.composite
def damaged(draw, bases, changes=6):
  """Draws one of `bases`, whole files, with up to `changes` changes made to it."""
  data = bytearray(draw(st.sampled_from(bases)))
  for _ in range(min(changes, draw(st.sampled_from((0, 1, 1, 1, 2, 2, 4, 6))))):
    draw(st.sampled_from(CHANGES))(draw, data, bases)
  return bytes(data)


def _place(draw, data):
  """Draws a place in the data; counted from its end too, where zips have their directory."""
  return draw(st.integers(-len(data), len(data))) % (len(data) + 1)


def _range(draw, data):
  start = _place(draw, data)
  return slice(start, start + draw(st.sampled_from((1, 2, 4, 8, 30, 200, 4000))))


def _flip_bit(draw, data, bases):
  if data:
    data[_place(draw, data) % len(data)] ^= 1 << draw(st.integers(0, 7))


def _cut_off(draw, data, bases):
  del data[_place(draw, data) :]


def _drop(draw, data, bases):
  del data[_range(draw, data)]


def _zero(draw, data, bases):
  where = _range(draw, data)
  data[where] = bytes(len(data[where]))


def _repeat(draw, data, bases):
  where = _range(draw, data)
  data[where] = data[where] * draw(st.integers(2, 50))


def _splice(draw, data, bases):
  other = draw(st.sampled_from(bases))
  data[_place(draw, data) :] = other[_place(draw, other) :]


def _number(draw, data, bases):
  width, order = draw(st.sampled_from(tuple(WIDTHS))), draw(st.sampled_from("<>"))
  where = _place(draw, data)
  number = draw(st.sampled_from(EDGES)) % 2 ** (8 * width)
  data[where : where + width] = struct.pack(order + WIDTHS[width], number)


def _token(draw, data, bases):
  where = _place(draw, data)
  data[where:where] = draw(st.sampled_from(TOKENS))


CHANGES = (_flip_bit, _cut_off, _drop, _zero, _repeat, _splice, _number, _token)


@st.composite
def lists_of_parts(draw, parts, *, max_size=40, join=b""):
  """Draws bytes that are made of `parts`, each as often as it comes."""
  return join.join(draw(st.lists(parts, max_size=max_size)))

"""Zips written byte by byte, whose directories may lie."""

import functools
import struct
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from hypothesis import strategies as st

from tests.fuzz_inputs import numbers

LOCAL, CENTRAL, END = (struct.Struct(form) for form in ("<4s5H3I2H", "<4s6H3I5H2I", "<4s4H2IH"))


class Entry(NamedTuple):
  """A member of a zip; `lies` are what its directory says otherwise than it is."""

  name: bytes
  data: bytes
  lies: Mapping[str, int] = MappingProxyType({})
  method: int = 0
  is_twin: bool = False  # its bytes are those of the entry before it


def make_zip(entries, *, end=None):
  """Returns the bytes of a zip; `end` says otherwise how many entries there are, and where."""
  out, directory, place = bytearray(), bytearray(), 0
  for entry in entries:
    packed = _deflated(entry.data) if entry.method == 8 else entry.data
    if not entry.is_twin:
      place = len(out)
    said = {
      "flags": 0,
      "method": entry.method,
      "crc": zlib.crc32(entry.data),
      "packed": len(packed),
      "size": len(entry.data),
      "name": len(entry.name),
      "extra": 0,
      "place": place,
    } | dict(entry.lies)
    said = {key: value % 2 ** (16 if key in SHORT else 32) for key, value in said.items()}
    if not entry.is_twin:
      out += _local(said, entry.name) + packed
    directory += _central(said, entry.name)
  said = {"num": len(entries), "size": len(directory), "start": len(out)} | (end or {})
  said = {key: value % 2 ** (16 if key == "num" else 32) for key, value in said.items()}
  last = END.pack(b"PK\5\6", 0, 0, said["num"], said["num"], said["size"], said["start"], 0)
  return bytes(out + directory + last)


@functools.lru_cache(maxsize=4)
def _deflated(data):
  return zlib.compress(data, 1)[2:-4]


SHORT = ("flags", "method", "name", "extra")


def _local(said, name):
  sizes = said["crc"], said["packed"], said["size"], said["name"], said["extra"]
  return LOCAL.pack(b"PK\3\4", 20, said["flags"], said["method"], 0, 0, *sizes) + name


def _central(said, name):
  sizes = said["crc"], said["packed"], said["size"], said["name"], said["extra"]
  how = said["flags"], said["method"]
  return CENTRAL.pack(b"PK\1\2", 20, 20, *how, 0, 0, *sizes, 0, 0, 0, 0, said["place"]) + name


LIES = st.dictionaries(
  st.sampled_from(("flags", "method", "crc", "packed", "size", "name", "extra", "place")),
  numbers,
  max_size=2,
)


@st.composite
def zips(draw, members):
  """Draws a zip of some of `members`, a strategy of (name, data), of which some are lied about."""
  entries = []
  for name, data in draw(st.lists(members, max_size=5)):
    lies = draw(LIES) if draw(st.booleans()) else {}
    method = draw(st.sampled_from((0, 0, 8, 12, 14)))
    entries.append(Entry(name, data, lies, method, bool(entries) and draw(st.integers(0, 9)) == 0))
  ends = st.dictionaries(st.sampled_from(("num", "size", "start")), numbers, max_size=1)
  return make_zip(entries, end=draw(ends) if draw(st.integers(0, 9)) == 0 else None)

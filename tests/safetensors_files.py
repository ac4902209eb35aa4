"""Writes files in the form of safetensors byte by byte, right or wrong."""

import json
import struct


def tensor(dtype, shape, begin, end):
  """Returns what a header says of one tensor."""
  return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def make(header, data=b"", *, length=None):
  """Returns the bytes of a file; `length` is what is said of the header, if not the truth."""
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  return struct.pack("<Q", len(text) if length is None else length) + text + data

"""Strategies of .npz files: whole ones damaged, headers that lie, bombs."""

import io
import struct

import numpy as np
from hypothesis import strategies as st

from tests.fuzz_inputs import damaged, numbers
from tests.fuzz_zips import Entry, make_zip, zips

VALUES = np.arange(12, dtype=np.float32)


def npz(**arrays):
  """Returns the bytes of an .npz."""
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  return buffer.getvalue()


def npy(header, data=b"", version=(1, 0)):
  """Returns the bytes of an .npy whose header is the text given."""
  text = header.encode("utf-8", "surrogatepass")
  width = "<H" if version[0] == 1 else "<I"
  length = struct.pack(width, len(text) % 2 ** (8 * struct.calcsize(width)))
  return b"\x93NUMPY" + bytes(version) + length + text + data


DESCRS = [repr(word) for word in ("<f4", "<f8", "|u1", "<i8", "|b1", "<U3", "|S2", "|O", "<U0")]
DESCRS += ["'|V0'", "'<c8'", "'>f4'"]
DESCRS += ["'<M8[s]'", "'(2,2)f4'", "'(1 2)f4'", "'f4,i4'", "[('a','<f4')]", "('<f4',(2,))", "'é'"]
DESCRS += ["[('a','<f4'),('a','<f4')]", "'V9999999'", "None", "[]", "[[]]", "{}", "b'<f4'", "(1,)"]
ODD_HEADERS = (
  *("", "{", "'''", "\0", "{[]: 1}", "(" * 300, "-" * 5000 + "1", "1" * 5000, "[" * 90 + "]" * 90),
  *("  x\n y", "{'descr': '<f4'}", "1+" * 3000 + "1", "{1: 2, **{}}", "'<f4'.x", "lambda: 0"),
)


@st.composite
def _headers(draw):
  """Draws the header of an .npy: right in form, or not a header at all."""
  if draw(st.integers(0, 4)) == 0:
    return draw(st.sampled_from(ODD_HEADERS))
  shape = tuple(draw(st.lists(numbers, max_size=3)))
  order = draw(st.sampled_from(("False", "False", "True", "0", "None")))
  return f"{{'descr': {draw(st.sampled_from(DESCRS))}, 'fortran_order': {order}, 'shape': {shape}}}"


NPY = st.builds(
  npy,
  _headers(),
  st.one_of(st.just(b""), st.just(bytes(24)), st.binary(max_size=64)),
  st.sampled_from(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9))),
)
WEIGHTS_BASES = (
  npz(kernel=VALUES.reshape(3, 4), bias=np.zeros(4, np.float32)),
  npz(**{"a/b": np.ones((2, 2), np.float64), "n": np.int32(3)}),
)
EMBEDDING_NAMES = ("query", "gallery", "query_label", "gallery_label")
LABELS = np.array(["ant", "bee"])
EMBEDDING_BASES = (
  npz(query=VALUES.reshape(2, 6), gallery=VALUES.reshape(2, 6), query_label=LABELS,
      gallery_label=LABELS),
  npz(query=VALUES.reshape(2, 6), gallery=VALUES.reshape(2, 6), query_id=[1, 2], gallery_id=[2, 3],
      more=LABELS),
)  # fmt: skip


def npz_inputs(bases, names):
  """Returns the strategy of .npz files of arrays called `names`: `bases` damaged, and made up."""
  files = st.sampled_from([f"{name}.npy".encode() for name in names])
  good = npy(GOOD, bytes(48))
  members = st.tuples(files, st.one_of(NPY, st.just(good), damaged((good,))))
  return st.one_of(damaged(bases), zips(members))


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 6)}"


def npz_bombs(*names):
  """Returns small .npz files that would take much."""
  zeros = bytes(10**8)
  big = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000, 100000)}"
  packed = npy(big, zeros)
  claims = GOOD.replace("(2, 6)", f"(2, {2**33})")
  return (
    make_zip([Entry(f"{name}.npy".encode(), packed, {}, 8) for name in names]),
    make_zip([Entry(f"{name}.npy".encode(), npy(claims, bytes(48))) for name in names]),
  )

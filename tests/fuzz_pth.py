"""Strategies of .pth files: whole ones damaged, tensors that lie, pickles of odd opcodes, bombs."""

import argparse
import collections
import io
import struct
import zipfile
import zlib

import numpy as np
from hypothesis import strategies as st

from tests.fuzz_inputs import damaged, lists_of_parts, numbers
from tests.fuzz_zips import Entry, make_zip, zips
from tests.torch_files import View, save_torch

VALUES = np.arange(12, dtype=np.float32)
STORAGE = VALUES.tobytes()


def saved(value, **options):
  """Returns the bytes that torch.save would write of `value`."""
  buffer = io.BytesIO()
  save_torch(buffer, value, **options)
  return buffer.getvalue()


def of_pickle(code, storage=STORAGE):
  """Returns a checkpoint whose data.pkl is `code`, with one storage of 12 float32."""
  return make_zip([Entry(b"a/data.pkl", code), Entry(b"a/data/0", storage)])


PTH_BASES = (
  saved({"x": VALUES.reshape(3, 4), "epoch": 3, "names": ["a", ("b", None)]}),
  saved({"model": {"w": np.ones((2, 3), np.float16), "n": np.int64([1, 2])}, "lr": 0.1}),
  saved([View(VALUES, 4, (2, 2), (4, 1)), View(VALUES, 0, (), ())]),
)
PERSISTENT = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpuK\x0ctQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + PERSISTENT + b"K\0K\x0c\x85K\1\x85\x89}tR"
OPCODES = (
  *(bytes([code]) for code in b"}])(.tuaseb0R12\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x94NQ\x92o"),
  b"K\1",
  b"X\1\0\0\0a",
  b"q\0",
  b"q\1",
  b"h\0",
  b"h\1",
  b"\x80\2",
  b"ctorch._utils\n_rebuild_parameter\n",
  b"ccollections\nOrderedDict\n",
  b"cargparse\nNamespace\n",
  b"cbuiltins\neval\n",
  PERSISTENT,
  TENSOR,
)


@st.composite
def _long_opcode(draw):
  """Draws an opcode that says how much follows it, or where to put what is on the stack."""
  wide = draw(st.booleans())
  code = bytes([draw(st.sampled_from(b"\x8d\x8e\x96\x95" if wide else b"rj\x8bBX"))])
  number = draw(numbers)
  packed = struct.pack("<Q" if wide else "<I", number % 2 ** (64 if wide else 32))
  return code + packed + draw(st.sampled_from((b"", b"abc")))


@st.composite
def _views(draw):
  """Draws a checkpoint with one tensor that need not fit its storage."""
  shape = draw(st.lists(numbers, max_size=4))
  stride = draw(st.lists(numbers, min_size=len(shape), max_size=len(shape)))
  num = draw(st.one_of(st.just(12), numbers))
  return saved({"x": View(VALUES, draw(numbers), tuple(shape), tuple(stride), num=num)})


OPCODE_LISTS = lists_of_parts(st.one_of(st.sampled_from(OPCODES), _long_opcode()))
PICKLES = OPCODE_LISTS.map(lambda code: b"\x80\2" + code + b".")
PICKLE_BASES = tuple(
  zipfile.ZipFile(io.BytesIO(whole)).read("archive/data.pkl") for whole in PTH_BASES
)
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9))
VALUE_TREES = st.recursive(
  st.one_of(plain, st.just(VALUES), st.just(np.int64([3])), st.just(VALUES[:0])),
  lambda inner: st.one_of(
    st.lists(inner, max_size=4),
    st.lists(inner, max_size=4).map(tuple),
    st.dictionaries(st.one_of(st.text(max_size=9), st.integers()), inner, max_size=4),
    st.dictionaries(st.text(max_size=9), inner, max_size=4).map(collections.OrderedDict),
    st.builds(argparse.Namespace, a=inner, b=inner),
  ),
  max_leaves=12,
)
PTH_NAMES = (b"a/data.pkl", b"a/data/0", b"a/byteorder", b"../x", b"b/data.pkl", b"a/data/1")
ONE_TENSOR = b"\x80\2}X\1\0\0\0x" + TENSOR + b"s."
PTH_MEMBERS = st.tuples(
  st.sampled_from(PTH_NAMES), st.one_of(st.just(ONE_TENSOR), st.just(STORAGE), PICKLES)
)
PTH = st.one_of(
  damaged(PTH_BASES),
  damaged((*PICKLE_BASES, ONE_TENSOR)).map(of_pickle),  # with the checksum of the damaged pickle
  PICKLES.map(of_pickle),
  VALUE_TREES.map(saved),
  _views(),
  zips(PTH_MEMBERS),
)


def laughs(depth=60):
  """Returns a pickle of tuples that each hold the one before it twice: 2^depth, seen as a tree."""
  return b"\x80\2]q\0" + b"".join(b"0(h%ch%ctq%c" % (i, i, i + 1) for i in range(depth)) + b"."


def copies(num=20_000):
  """Returns a pickle that makes an OrderedDict of one long list, as many times as that is long."""
  pairs = b"".join(b"M" + struct.pack("<H", i) + b"N\x86" for i in range(num))
  names = b"ccollections\nOrderedDict\nq\1](" + pairs + b"eq\2"
  return b"\x80\2" + names + b"00(" + b"h\1h\2\x85R" * num + b"t."


def short_storage():
  """Returns a checkpoint with 8 bytes that are said to be four million: what lies behind them in
  memory is not ours to read."""
  lies = {"size": 4 * MILLION, "packed": 8, "crc": zlib.crc32(bytes(8))}
  storage = Entry(b"a/data/0", bytes(8), lies)
  nothing = {"size": 0, "packed": 0}  # so that the file is as large as its members say
  filler = Entry(b"a/more", bytes(4 * MILLION), nothing)
  return make_zip([Entry(b"a/data.pkl", b"\x80\2" + LARGE_TENSOR + b"."), storage, filler])


MILLION = 10**6
LARGE_TENSOR = TENSOR.replace(b"K\x0c", b"J\x40\x42\x0f\0")  # a million values


def pth_bombs():
  """Returns checkpoints that are small and would take much: time, memory, or the stack."""
  many = b"\x80\2(" + LARGE_TENSOR + b"q\1" + b"h\1" * 4000 + b"t."
  return (
    of_pickle(laughs()),
    of_pickle(many, bytes(4 * MILLION)),
    of_pickle(copies()),
    of_pickle(b"\x80\2Nr\xff\xff\xff\x0f."),  # a memo of 2^28 places
    of_pickle(b"\x80\2" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    of_pickle(b"\x80\5\x96" + struct.pack("<Q", 2**31) + b"abc."),
    short_storage(),
  )

"""Strategies of what people write and programs leave: tables, lists, overrides, paths, JSON."""

import json
import struct

from hypothesis import strategies as st

from tests.fuzz_inputs import damaged, lists_of_parts, numbers
from tests.safetensors_files import make, tensor

DEEP = 100_000  # brackets, one in the other


def encoded(text):
  """Returns text as bytes; half a surrogate stays, as it does in a damaged file."""
  return text.encode("utf-8", "surrogatepass")


words = st.text(max_size=12)
odd_words = st.sampled_from(
  (
    "",
    " ",
    "..",
    "~",
    "~nobody/x",
    "\0",
    "a\0b",
    "\ufeff",
    "\u2028",
    "x" * 300,
    "x/" * 30_000,
    "-1",
  )
)


# --- manifests, lists of classes ------------------------------------------------------------------

COLUMNS = ("path", "modality", "instance", "category", "split", " path ", "Path", "", '"path', "é")
CELLS = (
  *("photo/1.png", "sketch/1_1.png", "photo", "sketch", "train", "test", "1", "shoe", ""),
  *("../outside.png", "photo/../../outside.png", "/etc/passwd", "C:/x.png", "..\\outside.png"),
  *(
    "//host/x",
    "photo",
    "photo/1.png/",
    "./photo/1.png",
    '"a\nb"',
    '"',
    "'",
    "~/x",
    "out/side.png",
  ),
)
cells = st.one_of(st.sampled_from(CELLS), words, odd_words)
GOOD_ROWS = ("photo/1.png,photo,1,shoe,train", "sketch/1_1.png,sketch,1,shoe,train")
HEADER = "path,modality,instance,category,split"
MANIFESTS = tuple(
  encoded("\n".join(rows))
  for rows in (
    (HEADER, *GOOD_ROWS),
    (HEADER, *(row.replace("train", "test") for row in GOOD_ROWS)),
    ("path,modality,category", "photo/1.png,photo,shoe", "sketch/1_1.png,sketch,shoe"),
    ("path,modality,instance", "photo/1.png,photo,1", "sketch/1_1.png,sketch,1"),
  )
)


@st.composite
def _rows(draw):
  """Draws a row that is right, or has one cell that may not be."""
  row = draw(st.sampled_from(GOOD_ROWS)).split(",")
  if draw(st.booleans()):
    row[draw(st.integers(0, len(row) - 1))] = draw(cells)
  return ",".join(row)


@st.composite
def _tables(draw):
  """Draws a table; each row has about as many cells as there are columns."""
  names = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=6))
  header = draw(st.sampled_from((HEADER, ",".join(names))))
  row = st.lists(cells, min_size=3, max_size=7).map(",".join)
  rows = draw(st.lists(st.one_of(row, _rows()), max_size=6))
  return encoded(draw(st.sampled_from("\n\r")).join([header, *rows]))


def manifest_bombs():
  """Returns tables of absurd paths, cells and lengths."""
  rows = [f"photo/{i}.png,photo,{i},shoe,train" for i in range(5000)]
  return (
    encoded(f"{HEADER}\n{'x' * 5000},photo,1,shoe,train\n"),
    encoded(f'{HEADER}\n"{"x" * 10**6}",photo,1,shoe,train\n'),
    encoded("\n".join([HEADER, *rows])),
    encoded("path," * 10**5 + "modality\n"),
  )


MANIFEST = st.one_of(damaged(MANIFESTS), _tables())
CLASS_LISTS = (
  encoded("# unseen\nant\nbee  # a comment\n\ncow\n"),
  encoded("\ufeffhot-dog\r\npipe"),
)
LINES = (
  "ant",
  "bee",
  "ANT",
  "a n-t",
  "_ant_",
  "# x",
  "ant # x",
  "#",
  "_",
  "-",
  "İ",
  "ΑΣ",
  "é",
  "é",
)
CLASSES = st.one_of(
  damaged(CLASS_LISTS),
  st.lists(st.one_of(st.sampled_from(LINES), words, odd_words)).map("\n".join).map(encoded),
)


# --- overrides, paths -----------------------------------------------------------------------------

KEYS = ("steps", "optimizer.learning_rate", "data.dir", "data", "remat", "init.path", "seed", "x")
VALUES = (
  *(
    "1",
    "0.5",
    "true",
    "None",
    "1e400",
    "nan",
    "9" * 400,
    "9" * 5000,
    "(1,2)",
    "[" * 300,
    "{[]: 1}",
  ),
  *(
    "-" * 9000 + "1",
    "1" + "+1" * 5000,
    "(" * 99 + ")" * 99,
    "'",
    "__import__('os')",
    "\\N{x}",
    "{}",
  ),
  *(
    "1j",
    "b'x'",
    "...",
    "0x1f",
    "1_000",
    "{1,2}",
    "True",
    "1\n2",
    "f'{1}'",
    "-0",
    "--1",
    "1" * 60_000,
  ),
)
values = st.one_of(st.sampled_from(VALUES), words, odd_words, numbers.map(str))
arguments = st.one_of(
  st.builds("--config.{}={}".format, st.sampled_from(KEYS), values),
  st.builds("-config.{}={}".format, words, values),
  st.builds("--config.{}".format, st.sampled_from(KEYS)),
  values,
)
SPECS = ("configs/xmodal/teacher.py:demo", "configs/pskd/teacher.py:demo")
ODD_SPECS = (
  "configs/xmodal/teacher.py",
  "configs/xmodal/teacher.py:nobody",
  "README.md:x",
  ":",
  ".",
)
specs = st.one_of(st.sampled_from(SPECS), st.sampled_from(ODD_SPECS), words, odd_words)
OVERRIDES = st.tuples(
  st.one_of(st.sampled_from(SPECS), specs), st.lists(arguments, max_size=4)
).map(lambda drawn: encoded("\x1f".join((drawn[0], *drawn[1]))))  # \x1f: between the arguments
PATHS = st.one_of(words, odd_words, st.lists(odd_words, max_size=3).map("/".join)).map(encoded)


# --- JSON, safetensors ----------------------------------------------------------------------------

leaves = st.one_of(st.none(), st.booleans(), numbers, st.floats(), words, odd_words)
json_values = st.recursive(
  leaves,
  lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
  max_leaves=12,
)
DEEP_JSON = (b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP)


@st.composite
def _changed(draw, documents):
  """Draws one of the documents with one of its values, at any depth, made another."""
  document = json.loads(draw(st.sampled_from(documents)))
  inner = document
  while isinstance(inner, dict | list) and inner:
    key = draw(st.sampled_from(list(inner) if isinstance(inner, dict) else range(len(inner))))
    if draw(st.booleans()) or not isinstance(inner[key], dict | list) or not inner[key]:
      inner[key] = draw(json_values)
      break
    inner = inner[key]
  return json.dumps(document).encode()


def json_inputs(documents):
  """Returns the strategy of JSON files: `documents` damaged, changed in a value, or any JSON."""
  return st.one_of(
    damaged(documents),
    _changed(documents),
    json_values.map(lambda value: json.dumps(value).encode()),
  )


def parts(*strategies):
  """Returns the strategy of several files in one, one of each strategy; \\x1e is between them."""
  return st.tuples(*strategies).map(b"\x1e".join)


HEADERS = (
  make({"a": tensor("F32", [2, 3], 0, 24), "b": tensor("I64", [], 24, 32)}, bytes(32)),
  make({"w": tensor("BF16", [4], 0, 8), "m": tensor("BOOL", [2], 8, 10)}, bytes(range(10))),
  make({"__metadata__": {"format": "pt"}, "a": tensor("U8", [0, 5], 0, 0)}),
)
DTYPES = ("F32", "BF16", "F16", "BOOL", "I64", "U8", "F8_E4M3", "F4", "C64", "F8_E8M0", "", "f32")
tensors = st.builds(
  tensor, st.sampled_from(DTYPES), st.lists(numbers, max_size=4), numbers, numbers
)
fitting = st.tuples(
  st.sampled_from(DTYPES), st.lists(st.sampled_from((0, 1, 2, 2**63)), max_size=4)
)
empty = fitting.map(lambda drawn: tensor(drawn[0], [*drawn[1], 0], 0, 0))
SAFETENSORS = st.one_of(
  damaged(HEADERS),
  st.builds(
    make,
    st.dictionaries(words, st.one_of(tensors, empty, json_values), max_size=3),
    st.binary(max_size=40),
    length=st.one_of(st.none(), numbers.map(lambda number: number % 2**64)),
  ),
  st.builds(make, lists_of_parts(st.sampled_from((b"{", b"}", b"[", b'"a"', b":", b",", b"1")))),
)


def safetensors_bombs():
  """Returns files whose headers claim much, or nest deeply."""
  huge = make({"x": tensor("F32", [2**31], 0, 2**33)}, bytes(16))
  return huge, *(make(text) for text in DEEP_JSON), struct.pack("<Q", 2**63) + b"{}"

"""Reads and writes .safetensors: a length, a header of JSON, then the bytes of every array.

The safetensors library checks that a header fits its file. What it lets pass and we do not: names
given twice, of which it would silently take one.
"""

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
from jaxtyping import Shaped
from safetensors import SafetensorError, TensorSpec, deserialize, serialize

from sbir import run_folder
from sbir.types import UserError

MAX_HEADER = 10_000_000  # bytes; that of ViT-B has 20 kB. As JSON it takes up to 24 times as much
LENGTH = struct.Struct("<Q")
DTYPES = {
  "F64": "<f8",
  "F32": "<f4",
  "F16": "<f2",
  "BF16": ml_dtypes.bfloat16,
  "I64": "<i8",
  "I32": "<i4",
  "I16": "<i2",
  "I8": "|i1",
  "U64": "<u8",
  "U32": "<u4",
  "U16": "<u2",
  "U8": "|u1",
  "BOOL": "?",
}
WRITABLE = frozenset(np.dtype(dtype).name for dtype in DTYPES.values())


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, Shaped[np.ndarray, "..."]]:
  """Returns the arrays of a .safetensors file by name, each its own; bfloat16 as float32.

  Takes memory of three times the file's size at most, whatever the header says of its arrays.

  Raises: UserError naming the file if it is missing, cut short, damaged, of another form, or holds
    nothing, or a dtype that DTYPES has not (float8).
  """
  path = Path(path)
  try:
    with open(path, "rb") as file:
      _check_header(file, os.fstat(file.fileno()).st_size)
      file.seek(0)
      entries = deserialize(file.read())
    if not entries:
      raise ValueError("it holds no arrays")
    return {name: _array(name, entry) for name, entry in entries}
  except OSError as error:
    raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None
  except (SafetensorError, ValueError, RecursionError, OverflowError) as error:
    reason = _printable(str(error).removeprefix("Error while deserializing: "))
    raise UserError(f"{path} is refused as .safetensors ({reason}); fetch it again") from None


def _printable(text: str) -> str:
  """Returns one line of at most 200 characters; it may quote a name that would rule a terminal."""
  return "".join(c if c.isprintable() else "?" for c in " ".join(text.split())[:200])


def _check_header(file: BinaryIO, size: int) -> None:
  """Raises ValueError if no header can be there, or it names something twice.

  Reads no more than the header, so that a large file of another form is not read at all.
  """
  start = file.read(LENGTH.size)
  if len(start) < LENGTH.size:
    raise ValueError(f"it has {size} bytes, too few for a header")
  (length,) = LENGTH.unpack(start)
  if length > min(MAX_HEADER, size - LENGTH.size):
    raise ValueError(
      f"its header would have {length} bytes, expected at most {MAX_HEADER} within the file's"
      f" {size}: it is cut short or another kind of file"
    )
  json.loads(file.read(length), object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found: dict[str, Any] = {}
  for name, value in pairs:
    if name in found:
      raise ValueError(f"its header names {name[:60]!r} twice")
    found[name] = value
  return found


def _array(name: str, entry: Mapping[str, Any]) -> Shaped[np.ndarray, "..."]:
  if entry["dtype"] not in DTYPES:
    raise ValueError(f"{name!r} is {entry['dtype']}, expected one of {', '.join(DTYPES)}")
  dtype = np.dtype(DTYPES[entry["dtype"]])
  is_bool = dtype == np.bool_  # any byte but 0 and 1 would make a bool that is neither
  values = np.frombuffer(entry["data"], np.uint8 if is_bool else dtype).reshape(entry["shape"])
  if is_bool:
    return values != 0
  return values.astype(np.float32) if dtype == ml_dtypes.bfloat16 else values


def write_safetensors(
  path: str | os.PathLike[str],
  arrays: Mapping[str, Shaped[np.ndarray, "..."]],
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes arrays as .safetensors, whole or not at all; the same arrays give the same bytes.

  `metadata` is at most one entry, such as {"format": "pt"}, which timm and transformers ask for:
  the library writes several in an order that changes from call to call.

  Raises: UserError if the file cannot be written; ValueError for what the format cannot hold.
  """
  if not arrays or "__metadata__" in arrays:
    raise ValueError("expected arrays, none of them named __metadata__")
  if metadata and len(metadata) > 1:
    raise ValueError(f"metadata has {len(metadata)} entries, expected at most one")
  plain = {name: _little_endian(name, array) for name, array in arrays.items()}
  specs = {
    name: TensorSpec(
      dtype=array.dtype.name,
      shape=array.shape,
      data_ptr=array.ctypes.data,
      data_len=array.nbytes,
    )
    for name, array in plain.items()
  }
  data = serialize(specs, metadata=dict(metadata) if metadata else None)  # reads from `plain`
  try:
    run_folder.write_bytes(Path(path), data)
  except OSError as error:
    raise UserError(f"{path} cannot be written ({error.strerror}); choose another place") from None


def _little_endian(name: str, array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
  array = np.asarray(array)
  if array.dtype.name not in WRITABLE:
    raise ValueError(f"{name} is {array.dtype}, expected one of {', '.join(sorted(WRITABLE))}")
  # Not np.ascontiguousarray, which gives a number one axis.
  return np.asarray(array, array.dtype.newbyteorder("<"), order="C")

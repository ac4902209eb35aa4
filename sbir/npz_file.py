"""Reads .npz files of weights; pickled objects and bombs are refused."""

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from sbir.types import UserError

# Weights hardly compress (float32 by a tenth), zeros by a thousand: more is no file of weights.
MOST_COMPRESSED = 50
_UNREADABLE = (
  OSError,
  ValueError,
  EOFError,
  NotImplementedError,
  MemoryError,
  zipfile.BadZipFile,
  zlib.error,
)


def read_npz(path: str | os.PathLike[str]) -> dict[str, Shaped[np.ndarray, "..."]]:
  """Returns the arrays of a .npz, all of them read.

  Takes memory of at most MOST_COMPRESSED times the file's size.

  Raises: UserError naming the file if it is missing, cut short, larger than its size allows, or
    holds anything but arrays of numbers.
  """
  if not Path(path).is_file():
    raise UserError(f"{path} is not a file; give the path of a ViT .npz")
  try:
    with open(path, "rb") as file:
      _check_archive(file, os.fstat(file.fileno()).st_size)
      members = np.load(file, allow_pickle=False)
      arrays = {name: members[name] for name in members.files}
    if strangers := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
      raise ValueError(f"its member {strangers[0]} is no array")
    return arrays
  except _UNREADABLE as error:
    reason = f"{error or type(error).__name__}".splitlines()[0]
    raise UserError(f"{path} cannot be read as .npz ({reason}); fetch it again") from error


def _check_archive(file, size: int) -> None:
  if not zipfile.is_zipfile(file):
    raise ValueError("it is another kind of file, or cut short")
  file.seek(0)
  with zipfile.ZipFile(file) as archive:
    unpacked = sum(info.file_size for info in archive.infolist())
  if unpacked > MOST_COMPRESSED * size:
    raise ValueError(f"it unpacks to {unpacked} bytes of {size}, which weights do not")
  file.seek(0)

"""Reads .npz files of weights; pickled objects, bombs, and headers that lie are refused."""

import math
import os
import zipfile

import numpy as np
from jaxtyping import Shaped

from sbir.types import UserError

# Weights hardly compress (float32 by a tenth), zeros by a thousand: more is no file of weights.
MOST_COMPRESSED = 50
NUMBERS = "fiub"  # dtype kinds
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what numpy writes
HEADERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: str | os.PathLike[str]) -> dict[str, Shaped[np.ndarray, "..."]]:
  """Returns the arrays of a .npz, all of them read.

  Takes memory of at most MOST_COMPRESSED times the file's size.

  Raises: UserError naming the file if it is missing, cut short, larger than its size allows, or
    holds anything but arrays of numbers.
  """
  if not os.path.isfile(path):  # false for a name that is too long, too
    raise UserError(f"{path} is not a file; give the path of a ViT .npz")
  try:
    with open(path, "rb") as file:
      if not zipfile.is_zipfile(file):
        raise ValueError("it is another kind of file, or cut short")
      file.seek(0)
      with np.load(file, allow_pickle=False) as members:
        check_archive(members.zip, os.fstat(file.fileno()).st_size)
        infos = members.zip.infolist()
        return {info.filename.removesuffix(".npy"): _read(members, info) for info in infos}
  except Exception as error:  # numpy and zipfile let nearly anything out
    reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
    raise UserError(f"{path} cannot be read as .npz ({reason}); fetch it again") from None


def check_archive(archive: zipfile.ZipFile, size: int, *, allowed: int = 0) -> None:
  """Raises ValueError unless a file of `size` bytes could be of arrays: no name twice, nothing
  packed as numpy never does, all together not much larger than the file, or than `allowed`."""
  infos = archive.infolist()
  if len({info.filename for info in infos}) < len(infos):
    raise ValueError("two of its members have one name")
  if odd := [info.filename for info in infos if info.compress_type not in METHODS]:
    raise ValueError(f"its member {odd[0][:60]!r} is packed as numpy never does")
  unpacked = sum(info.file_size for info in infos)
  if unpacked > max(allowed, MOST_COMPRESSED * size):
    raise ValueError(f"it unpacks to {unpacked} bytes of {size}, which numbers do not")


def check_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
  """Raises ValueError if a member is no array, or its header speaks of more than it holds, for
  which numpy would take the memory before it looks. Objects are left to numpy to refuse."""
  with archive.open(info) as member:
    version = np.lib.format.read_magic(member)
    if version not in HEADERS:
      raise ValueError(f"its member {info.filename[:60]!r} is of version {version}")
    shape, _, dtype = HEADERS[version](member)
    told = member.tell() + math.prod(shape) * dtype.itemsize
  if not dtype.hasobject and (told > info.file_size or min(shape, default=0) < 0):
    raise ValueError(
      f"its member {info.filename[:60]!r} has {info.file_size} bytes, its header speaks of {told}"
    )


def _read(members: np.lib.npyio.NpzFile, info: zipfile.ZipInfo) -> Shaped[np.ndarray, "..."]:
  check_member(members.zip, info)
  array = members[info.filename]
  if not isinstance(array, np.ndarray) or array.dtype.kind not in NUMBERS:
    kind = getattr(array, "dtype", type(array).__name__)
    raise ValueError(f"its member {info.filename[:60]!r} is {kind}, no array of numbers")
  return array

"""Weights of any kind of file, told apart by what is in it: a suffix is only a name."""

import hashlib
import os
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Shaped

from sbir.npz_file import read_npz
from sbir.safetensors_file import LENGTH, MAX_HEADER, read_safetensors
from sbir.torch_file import read_torch, state_dict_of
from sbir.types import UserError

READ = "a .safetensors, a .npz or a .pth of torch.save"
ZIP = b"PK\x03\x04"
PICKLE = b"\x80"  # PyTorch's form of before 1.6 begins so
STRANGERS = {
  b"version https://git-lfs": "a pointer of git-lfs, not the file; fetch that with git lfs pull",
  b"<": "a web page, not weights; download the file itself, after logging in where that is needed",
  b"\x93NUMPY": "a single array, not named ones; write it with np.savez",
  b"\x89HDF": f"HDF5 (Keras), which is not read; convert it to {READ}",
  b"\x1f\x8b": "packed with gzip; unpack it first",
}


def read_weights(path: str | os.PathLike[str], *names: str) -> dict[str, Shaped[np.ndarray, "..."]]:
  """Returns the named arrays of a .safetensors, .npz or PyTorch file.

  `names` are the entries under which a PyTorch checkpoint may keep its state dict, the first that
  it has is taken; without any, the checkpoint itself is the state dict.

  Raises: UserError naming the file if it is missing, damaged, cut short or of another kind.
  """
  path = Path(path)
  start = _start_of(path)
  if start.startswith(ZIP):
    return _read_zip(path, names)
  # Before the pickles: a header of 128 bytes makes a length that begins as they do.
  if start[LENGTH.size :].startswith(b"{") and LENGTH.unpack_from(start)[0] <= MAX_HEADER:
    return read_safetensors(path)
  if start.startswith(PICKLE):
    return dict(state_dict_of(read_torch(path), f"{path}", *names))
  text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
  kind = next((what for begin, what in STRANGERS.items() if text.startswith(begin)), None)
  raise UserError(f"{path} is {kind or f'of no kind that is read; expected {READ}'}")


def _start_of(path: Path) -> bytes:
  """Returns how a file begins. Raises: UserError if it is missing, no file, or empty."""
  if os.path.isdir(path):
    files = sorted(entry.name for entry in path.iterdir() if entry.is_file())
    there = ", ".join(files[:6]) or "no file"
    raise UserError(f"{path} is a folder, expected {READ}; name a file (it holds {there})")
  if not os.path.isfile(path):  # false for a name that is too long, too
    raise UserError(f"{path} is not a file; give the path of {READ}")
  try:
    with open(path, "rb") as file:
      start = file.read(256)
  except OSError as error:
    raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
  if not start:
    raise UserError(f"{path} is empty: its download was stopped; fetch it again")
  return start


def _read_zip(path: Path, names: tuple[str, ...]) -> dict[str, Shaped[np.ndarray, "..."]]:
  try:
    with zipfile.ZipFile(path) as archive:
      members = [PurePosixPath(name) for name in archive.namelist()]
  except Exception as error:  # zipfile lets nearly anything out
    raise UserError(
      f"{path} is cut short or damaged ({' '.join(str(error).split())}); fetch it again"
    ) from None
  if any(member.name == "data.pkl" for member in members):
    return dict(state_dict_of(read_torch(path), f"{path}", *names))
  if members and all(member.suffix == ".npy" for member in members):
    return read_npz(path)
  held = ", ".join(str(member)[:40] for member in members[:4]) or "nothing"
  raise UserError(f"{path} is a zip of something else ({held!r}), expected {READ}; unpack it first")


def sha256(path: str | os.PathLike[str]) -> str:
  """Returns the SHA-256 of a file in hexadecimal; reads it piece by piece.

  Raises: UserError naming the file if it cannot be read.
  """
  try:
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  except OSError as error:
    raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None

"""Reads what torch.save wrote, without PyTorch and without running anything that is in the file.

A checkpoint is a zip with one pickle, data.pkl, which `torch_pickle` reads, and a file of raw bytes
for each storage.
"""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from sbir.torch_pickle import Settings, Storage, Tensor, read_pickle
from sbir.types import UserError

MAX_PICKLE = 4_000_000  # bytes; that of ViT-B has 60 kB. Read, it takes up to 220 times as much
# How many times the size of the file all arrays may have together: one for the storages, two where
# they are bfloat16, and some for tied weights.
MOST_COPIES = 4
MOST_READ = 64  # times the size of the file, where storages with many views take turns
SMALL = 2**20  # bytes that any file may take
PLAIN = (bool, int, float, str, bytes, set, frozenset)
RESAVE = (
  "save it again with torch.save(torch.load(FILE, map_location='cpu', weights_only=True), FILE)"
)


def read_torch(path: str | os.PathLike[str]) -> Any:
  """Returns what is in a .pth, .pt or .bin file: dicts, lists and values as they were, tensors as
  arrays of their own, bfloat16 as float32, an argparse.Namespace as a dict.

  What the file holds in two places is one thing in the result too.

  Raises: UserError naming the file if it is missing, cut short, in the form of before PyTorch 1.6,
    holds anything but tensors and plain values, or would take many times its size.
  """
  path = Path(path)
  try:
    with open(path, "rb") as file:
      start = file.read(4)
      if start[:1] == b"\x80":
        raise UserError(f"{path} is in PyTorch's form of before 1.6, which is not read; {RESAVE}")
      size = os.fstat(file.fileno()).st_size
      with zipfile.ZipFile(file) as archive:
        members = _check_members(archive, size)
        return _Resolver(_Storages(archive, members, size)).resolve(_described(archive, members))
  except UserError:
    raise
  except OSError as error:
    raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None
  except Exception as error:  # zipfile lets nearly anything out
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    raise UserError(
      f"{path} is refused as a PyTorch checkpoint ({reason}); fetch it again, or {RESAVE}"
    ) from None


class _Members(NamedTuple):
  folder: str  # the one at the top, "/" at its end
  infos: dict[str, zipfile.ZipInfo]


def _check_members(archive: zipfile.ZipFile, size: int) -> _Members:
  """Returns the archive's files by name. Raises: ValueError unless they are what torch.save makes:
  stored as they are, in one folder, together no larger than the file."""
  infos = {info.filename: info for info in archive.infolist()}
  for name, info in infos.items():
    if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts or ":" in name:
      raise ValueError(f"its member {name!r} leads out of the archive")
    if info.compress_type != zipfile.ZIP_STORED:
      raise ValueError(f"its member {name!r} is compressed, torch.save never does")
  if len(infos) != len(archive.infolist()):
    raise ValueError("two of its members have one name")
  if sum(info.file_size for info in infos.values()) > size:
    raise ValueError("its members are larger than the file: they overlap")
  pickles = [name for name in infos if PurePosixPath(name).name == "data.pkl"]
  if len(pickles) != 1:
    raise ValueError(f"it has {len(pickles)} files data.pkl, expected 1")
  return _Members(pickles[0].removesuffix("data.pkl"), infos)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
  """Returns a member's bytes, as many as it says. Raises: ValueError if there are fewer: zipfile
  stops where they end, and says nothing."""
  data = archive.read(info)
  if len(data) != info.file_size:
    raise ValueError(f"its member {info.filename!r} has {len(data)} of {info.file_size} bytes")
  return data


def _described(archive: zipfile.ZipFile, members: _Members) -> Any:
  """Returns what data.pkl describes, its tensors not read yet."""
  info = members.infos[f"{members.folder}data.pkl"]
  if info.file_size > MAX_PICKLE:
    raise ValueError(f"its data.pkl has {info.file_size} bytes, too many to be one")
  order = members.infos.get(f"{members.folder}byteorder")
  if order is not None and _read_member(archive, order) != b"little":
    raise ValueError("its bytes are in big-endian order")
  return read_pickle(_read_member(archive, info))


class _Storages:
  """The storages, read when asked for; the last one is kept, for it may have many views."""

  def __init__(self, archive: zipfile.ZipFile, members: _Members, size: int):
    self._archive, self._members = archive, members
    self._last: tuple[str, bytes] = ("", b"")
    self._left = {"hold": MOST_COPIES * size + SMALL, "read": MOST_READ * size + SMALL}

  def array(self, tensor: Tensor) -> Shaped[np.ndarray, "..."]:
    """Returns the tensor's values as an array of their own."""
    storage = tensor.storage
    if not isinstance(storage, Storage):
      raise ValueError("a tensor has no storage")
    data = self._bytes_of(storage)
    _check_view(tensor)
    values = np.frombuffer(data, storage.dtype)[tensor.offset :]
    steps = [stride * storage.dtype.itemsize for stride in tensor.stride]
    view = np.lib.stride_tricks.as_strided(values, tensor.shape, steps, writeable=False)
    self._spend("hold", view.nbytes)
    is_brain = storage.dtype == ml_dtypes.bfloat16
    return view.astype(np.float32) if is_brain else np.array(view, order="C")

  def _bytes_of(self, storage: Storage) -> bytes:
    name = f"{self._members.folder}data/{storage.key}"
    info = self._members.infos.get(name)
    if info is None:
      raise ValueError(f"its storage {storage.key!r} is not there")
    if info.file_size != storage.num * storage.dtype.itemsize:
      raise ValueError(
        f"its storage {storage.key!r} has {info.file_size} bytes, "
        f"{storage.num} of {storage.dtype} are said to be there"
      )
    if self._last[0] != name:
      self._spend("read", info.file_size)
      self._last = name, _read_member(self._archive, info)
    return self._last[1]

  def _spend(self, what: str, num_bytes: int) -> None:
    self._left[what] -= num_bytes
    if self._left[what] < 0:
      raise ValueError("its tensors show the same values again and again, many times its size")


def _check_view(tensor: Tensor) -> None:
  """Raises ValueError unless the view lies within its storage and takes no value twice."""
  storage, offset, shape, stride = tensor
  if not isinstance(shape, tuple) or not isinstance(stride, tuple):
    raise ValueError("a tensor has no shape")
  numbers = (storage.num, offset, *shape, *stride)
  if len(shape) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
    raise ValueError(f"a tensor of shape {shape} and strides {stride} cannot be")
  if 0 in shape:
    return
  reach = 0
  for step, size in sorted(zip(stride, shape, strict=True)):
    if size > 1:
      if step <= reach:
        raise ValueError(f"the values of a tensor of shape {shape}, strides {stride} overlap")
      reach += step * (size - 1)
  if offset + reach >= storage.num:
    raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {storage.num}")


class _Resolver:
  """Reads the tensors in a value. What is held in several places is resolved once: a few lists can
  hold each other in more ways than there is time for."""

  def __init__(self, storages: _Storages):
    self._storages = storages
    self._done: dict[int, Any] = {}
    self._begun: set[int] = set()

  def resolve(self, value: Any) -> Any:
    """Returns a value with its tensors read, in new plain containers."""
    if value is None or type(value) in PLAIN:
      return value
    place = id(value)
    if place not in self._done:
      if place in self._begun:
        raise ValueError("something in it holds itself")
      self._begun.add(place)
      self._done[place] = self._resolve(value)
    return self._done[place]

  def _resolve(self, value: Any) -> Any:
    if isinstance(value, Tensor):
      return self._storages.array(value)
    if isinstance(value, Settings):
      value = value.values
    if type(value) is dict:
      return {key: self.resolve(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
      return type(value)(self.resolve(entry) for entry in value)
    raise ValueError(f"it holds a {type(value).__name__}, expected tensors and plain values")


def state_dict_of(checkpoint: Any, what: str, *names: str) -> Mapping[str, np.ndarray]:
  """Returns the state dict in what `read_torch` gave: the entry of the first of `names` that it
  has, else itself; "module." before all names, which a data-parallel wrapper leaves, is dropped.

  Raises: UserError naming `what` if there is no dict of tensors.
  """
  found = checkpoint
  if isinstance(checkpoint, dict):
    found = next((checkpoint[name] for name in names if name in checkpoint), checkpoint)
  arrays = {}
  if isinstance(found, dict):
    arrays = {n: a for n, a in found.items() if isinstance(n, str) and isinstance(a, np.ndarray)}
  if not arrays or len(arrays) < len(found):
    held = ", ".join(map(str, list(checkpoint)[:6])) if isinstance(checkpoint, dict) else ""
    raise UserError(
      f"{what} holds no state dict, expected a dict of tensors{' or one under ' if names else ''}"
      f"{', '.join(names)}; found {held or type(checkpoint).__name__}"
    )
  is_wrapped = all(name.startswith("module.") for name in arrays)
  return {name.removeprefix("module."): a for name, a in arrays.items()} if is_wrapped else arrays

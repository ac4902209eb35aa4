"""Reads what torch.save wrote, without PyTorch and without running anything that is in the file.

A checkpoint is a zip with one pickle, data.pkl, and a file of raw bytes for each storage. A pickle
is a program: it may name any function and have it called. Here it may name only what stands in
ALLOWED, none of which does more than hold its arguments; all else is refused by name before it is
looked up.
"""

import collections
import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from sbir.types import UserError

MAX_PICKLE = 64_000_000  # bytes; that of ViT-B has 60 kB
PLAIN = (bool, int, float, complex, str, bytes, set, frozenset)
RESAVE = (
  "save it again with torch.save(torch.load(FILE, map_location='cpu', weights_only=True), FILE)"
)
STORAGES = {
  "DoubleStorage": "<f8",
  "FloatStorage": "<f4",
  "HalfStorage": "<f2",
  "BFloat16Storage": ml_dtypes.bfloat16,
  "LongStorage": "<i8",
  "IntStorage": "<i4",
  "ShortStorage": "<i2",
  "CharStorage": "<i1",
  "ByteStorage": "<u1",
  "BoolStorage": "?",
}


class _Kind(NamedTuple):
  """Stands for a class of storages. A tuple, for a pickle can set attributes of what it names."""

  dtype: Any


class _Storage(NamedTuple):
  """Where the bytes of one or several tensors are, and what they are."""

  dtype: np.dtype
  key: str
  num: int


class _Tensor(NamedTuple):
  """A view of a storage, not read yet."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  stride: tuple[int, ...]


class _Settings:
  """Stands for argparse.Namespace: attributes and nothing else."""


# What a pickle may name, and what makes what it gets: each time anew, so that nothing it does to it
# outlives the reading.
ALLOWED = {
  ("collections", "OrderedDict"): lambda: type("OrderedDict", (collections.OrderedDict,), {}),
  ("argparse", "Namespace"): lambda: type("Namespace", (_Settings,), {}),
  ("torch._utils", "_rebuild_tensor_v2"): lambda: lambda *args: _Tensor(*args[:4]),
  ("torch._utils", "_rebuild_parameter"): lambda: lambda *args: args[0],
  **{("torch", name): lambda dtype=dtype: _Kind(dtype) for name, dtype in STORAGES.items()},
}


def read_torch(path: str | os.PathLike[str]) -> Any:
  """Returns what is in a .pth, .pt or .bin file: dicts, lists and values as they were, tensors as
  arrays of their own, bfloat16 as float32, an argparse.Namespace as a dict.

  Raises: UserError naming the file if it is missing, cut short, in the form of before PyTorch 1.6,
    or holds anything but tensors and plain values.
  """
  path = Path(path)
  try:
    with open(path, "rb") as file:
      start = file.read(4)
      if start[:1] == b"\x80":
        raise UserError(f"{path} is in PyTorch's form of before 1.6, which is not read; {RESAVE}")
      with zipfile.ZipFile(file) as archive:
        members = _check_members(archive, path.stat().st_size)
        return _resolve(_unpickle(archive, members), _Archive(archive, members))
  except UserError:
    raise
  except OSError as error:
    raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None
  except Exception as error:  # unpickling lets nearly anything out
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


def _unpickle(archive: zipfile.ZipFile, members: _Members) -> Any:
  name = f"{members.folder}data.pkl"
  if members.infos[name].file_size > MAX_PICKLE:
    raise ValueError(f"its data.pkl has {members.infos[name].file_size} bytes, too many to be one")
  order = f"{members.folder}byteorder"
  if order in members.infos and archive.read(order) != b"little":
    raise ValueError("its bytes are in big-endian order")
  return _Reader(io.BytesIO(archive.read(name))).load()


class _Reader(pickle.Unpickler):
  """Calls nothing that is not in ALLOWED, and opens no storage."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in ALLOWED:
      raise pickle.UnpicklingError(f"it names {module}.{name}, which no tensor needs")
    return ALLOWED[module, name]()

  def persistent_load(self, place: Any) -> _Storage:
    word, kind, key, _, num = place
    if word != "storage" or not isinstance(kind, _Kind) or not isinstance(key, str):
      raise pickle.UnpicklingError("it refers to something that is no storage")
    return _Storage(np.dtype(kind.dtype), key, num)


class _Archive(NamedTuple):
  """The storages, read when asked for."""

  archive: zipfile.ZipFile
  members: _Members

  def array(self, tensor: _Tensor) -> Shaped[np.ndarray, "..."]:
    """Returns the tensor's values as an array of their own."""
    storage = tensor.storage
    if not isinstance(storage, _Storage):
      raise ValueError("a tensor has no storage")
    name = f"{self.members.folder}data/{storage.key}"
    info = self.members.infos.get(name)
    if info is None:
      raise ValueError(f"its storage {storage.key!r} is not there")
    if info.file_size != storage.num * storage.dtype.itemsize:
      raise ValueError(
        f"its storage {storage.key!r} has {info.file_size} bytes, "
        f"{storage.num} of {storage.dtype} are said to be there"
      )
    _check_view(tensor)
    values = np.frombuffer(self.archive.read(name), storage.dtype)[tensor.offset :]
    steps = [stride * storage.dtype.itemsize for stride in tensor.stride]
    view = np.lib.stride_tricks.as_strided(values, tensor.shape, steps, writeable=False)
    is_brain = storage.dtype == ml_dtypes.bfloat16
    return view.astype(np.float32) if is_brain else np.array(view, order="C")


def _check_view(tensor: _Tensor) -> None:
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


def _resolve(value: Any, archive: _Archive) -> Any:
  """Returns a value with its tensors read, in new plain containers."""
  if isinstance(value, _Tensor):
    return archive.array(value)
  if isinstance(value, _Settings):
    value = vars(value)
  if isinstance(value, dict):
    return {key: _resolve(entry, archive) for key, entry in dict.items(value)}
  if type(value) in (list, tuple):
    return type(value)(_resolve(entry, archive) for entry in value)
  if value is None or type(value) in PLAIN:
    return value
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

"""Reads PyTorch's checkpoint files without PyTorch, for the tests alone: a zip with one pickle and
a file for each storage. Nothing is unpickled but dicts, lists, plain values and float tensors."""

import collections
import pickle
import zipfile

import numpy as np


def read_checkpoint(path):
  """Returns what torch.save wrote, its tensors as arrays."""
  with zipfile.ZipFile(path) as archive:
    (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    with archive.open(pickled) as file:
      return _Reader(file, archive, pickled.removesuffix("data.pkl")).load()


def _tensor(storage, offset, shape, stride, *_):
  """Stands for torch._utils._rebuild_tensor_v2; strides are those of a row-major array or of a view
  of one."""
  step = storage.itemsize
  view = np.lib.stride_tricks.as_strided(storage[offset:], shape, [step * s for s in stride])
  return view.copy()


class _Reader(pickle.Unpickler):
  allowed = {  # noqa: RUF012
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("collections", "OrderedDict"): collections.OrderedDict,
  }

  def __init__(self, file, archive, folder):
    super().__init__(file)
    self._archive, self._folder = archive, folder

  def find_class(self, module, name):
    if (module, name) not in self.allowed:
      raise pickle.UnpicklingError(f"{module}.{name} is not read here")
    return self.allowed[module, name]

  def persistent_load(self, place):
    _, dtype, key, *_ = place
    return np.frombuffer(self._archive.read(f"{self._folder}data/{key}"), dtype)

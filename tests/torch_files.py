"""Writes files as torch.save does, without PyTorch: a zip with one pickle and a file a storage."""

import collections
import io
import pickle
import sys
import types
import zipfile

import ml_dtypes
import numpy as np

KINDS = {
  np.dtype(np.float64): "DoubleStorage",
  np.dtype(np.float32): "FloatStorage",
  np.dtype(np.float16): "HalfStorage",
  np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
  np.dtype(np.int64): "LongStorage",
  np.dtype(np.bool_): "BoolStorage",
}


class View:
  """A tensor: part of a flat array, which several may share."""

  def __init__(self, storage, offset, shape, stride, *, num=None):
    self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride
    self.num = len(storage) if num is None else num  # how many values are said to be there


def whole(array):
  """Returns the view that is all of an array."""
  steps = tuple(step // array.itemsize for step in array.strides)
  return View(array.ravel(), 0, array.shape, steps)


def save_torch(path, value, *, extra=None, compression=zipfile.ZIP_STORED, drop=()):
  """Writes `value`, its arrays and Views as tensors; `extra` are more members by name."""
  storages = []
  pickled = _pickled(value, storages)
  members = {"archive/data.pkl": pickled, "archive/byteorder": b"little", "archive/version": b"3\n"}
  members |= {f"archive/data/{i}": array.tobytes() for i, array in enumerate(storages)}
  with zipfile.ZipFile(path, "w", compression) as archive:
    for name, data in (members | (extra or {})).items():
      if name not in drop:
        archive.writestr(name, data)
  return path


def _pickled(value, storages):
  names = {
    "torch": list(KINDS.values()),
    "torch._utils": ["_rebuild_tensor_v2"],
  }
  fakes = {module: types.ModuleType(module) for module in names}
  for module, found in names.items():
    for name in found:
      thing = type(name, (), {"__module__": module})
      setattr(fakes[module], name, thing)
  rebuild = fakes["torch._utils"]._rebuild_tensor_v2

  class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
      if not isinstance(thing, _Place):
        return None
      known = [i for i, array in enumerate(storages) if array is thing.view.storage]
      if not known:
        storages.append(thing.view.storage)
      key = str(known[0] if known else len(storages) - 1)
      kind = getattr(fakes["torch"], KINDS[thing.view.storage.dtype])
      return ("storage", kind, key, "cpu", thing.view.num)

    def reducer_override(self, thing):
      if isinstance(thing, np.ndarray):
        thing = whole(thing)
      if isinstance(thing, View):
        place = _Place(thing)
        rest = (thing.offset, thing.shape, thing.stride, False, collections.OrderedDict())
        return rebuild, (place, *rest)
      return NotImplemented

  out = io.BytesIO()
  hidden = {name: sys.modules.get(name) for name in fakes}
  sys.modules.update(fakes)
  try:
    Pickler(out, protocol=2).dump(value)
  finally:
    for name, module in hidden.items():
      sys.modules.pop(name)
      if module is not None:
        sys.modules[name] = module
  return out.getvalue()


class _Place:
  """Where a view's storage stands in the pickle."""

  def __init__(self, view):
    self.view = view

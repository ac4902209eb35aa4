"""Reads the pickle in a PyTorch checkpoint without the pickle module, which would run it.

A pickle is a program for a machine with a stack. This machine knows the instructions that tensors
and plain values need, and the five names of ALLOWED; it calls nothing, and what it makes takes no
more memory than a small multiple of the pickle.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

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
LARGEST_KEY = 2**63  # larger numbers can be chosen to have one hash, and then fill a dict for hours


class Storage(NamedTuple):
  """Where the bytes of one or several tensors are, and what they are."""

  dtype: np.dtype
  key: str
  num: int


class Tensor(NamedTuple):
  """A view of a storage, not read yet; nothing of it is checked."""

  storage: Any
  offset: Any
  shape: Any
  stride: Any


class Settings:
  """Stands for an argparse.Namespace; `values` are its attributes."""

  def __init__(self) -> None:
    self.values: dict[Any, Any] = {}


class _Kind(NamedTuple):
  """Stands for a class of storages."""

  dtype: Any


class _Maker(NamedTuple):
  """Stands for a function or class that may be called."""

  name: str
  make: Callable[[tuple[Any, ...]], Any]


def _make_empty(kind: type, args: tuple[Any, ...]) -> Any:
  if args:
    raise ValueError("it makes a dict or settings of something else, which torch.save never does")
  return kind()


def _make_tensor(args: tuple[Any, ...]) -> Tensor:
  if len(args) < 4:
    raise ValueError("a tensor is not described whole")
  return Tensor(*args[:4])


ALLOWED: Mapping[tuple[str, str], _Kind | _Maker] = {
  ("collections", "OrderedDict"): _Maker("OrderedDict", lambda args: _make_empty(dict, args)),
  ("argparse", "Namespace"): _Maker("Namespace", lambda args: _make_empty(Settings, args)),
  ("torch._utils", "_rebuild_tensor_v2"): _Maker("tensor", _make_tensor),
  ("torch._utils", "_rebuild_parameter"): _Maker("parameter", lambda args: args[0]),
  **{("torch", name): _Kind(dtype) for name, dtype in STORAGES.items()},
}


def read_pickle(data: bytes) -> Any:
  """Returns what a pickle describes: plain values in dicts, lists, tuples and sets (what is held
  twice is one thing), Settings, and Tensors.

  Raises: ValueError, IndexError, KeyError, AttributeError or TypeError for any other pickle.
  """
  machine = _Machine()
  for opcode, argument, _ in pickletools.genops(data):
    step = STEPS.get(opcode.name)
    if step is None:
      raise ValueError(f"it has the instruction {opcode.name}, which no tensor needs")
    step(machine, argument)
  return machine.pop()


class _Machine:
  """The stack, what lies below each mark, and what was put aside to be held again."""

  def __init__(self) -> None:
    self.stack: list[Any] = []
    self.below: list[list[Any]] = []
    self.memo: dict[int, Any] = {}

  def push(self, value: Any) -> None:
    self.stack.append(value)

  def pop(self) -> Any:
    return self.stack.pop()

  def mark(self, _: None) -> None:
    self.below.append(self.stack)
    self.stack = []

  def pop_mark(self) -> list[Any]:
    """Returns what was pushed since the last mark."""
    items, self.stack = self.stack, self.below.pop()
    return items

  def put(self, place: int | None) -> None:
    self.memo[len(self.memo) if place is None else place] = self.stack[-1]

  def extend(self, items: list[Any]) -> None:
    _only(self.stack[-1], list).extend(items)

  def set_items(self, items: list[Any]) -> None:
    if len(items) % 2:
      raise ValueError("a dict has a key without a value")
    target = _only(self.stack[-1], dict)
    for key, value in zip(items[::2], items[1::2], strict=True):
      target[_key(key)] = value

  def name(self, module: str, name: str) -> None:
    if (module, name) not in ALLOWED:
      raise ValueError(f"it names {module}.{name}, which no tensor needs")
    self.push(ALLOWED[module, name])

  def call(self, _: None) -> None:
    args = _only(self.pop(), tuple)
    self.push(_only(self.pop(), _Maker).make(args))

  def build(self, _: None) -> None:
    """Gives what was made its attributes; those of an OrderedDict are of no interest."""
    state = self.pop()
    if isinstance(self.stack[-1], Settings):
      self.stack[-1].values = _only(state, dict)
    else:
      _only(self.stack[-1], dict)

  def refer(self, _: None) -> None:
    word, kind, key, _place, num = _only(self.pop(), tuple)
    if word != "storage" or not isinstance(kind, _Kind) or not isinstance(key, str):
      raise ValueError("it refers to something that is no storage")
    self.push(Storage(np.dtype(kind.dtype), key, num))


def _only(value: Any, kind: type) -> Any:
  if type(value) is not kind:
    raise ValueError(f"it has a {type(value).__name__} where a {kind.__name__} belongs")
  return value


def _key(value: Any) -> Any:
  """Returns what may be a key or in a set. Not a tuple: one of tuples takes for ever to hash."""
  if value is None or type(value) in (str, bytes, bool, float):
    return value
  if type(value) is int and -LARGEST_KEY <= value <= LARGEST_KEY:
    return value
  raise ValueError(f"a key is {type(value).__name__}, expected a text or a number of 64 bits")


def _push_last(machine: _Machine, num: int) -> None:
  items = [machine.pop() for _ in range(num)]
  machine.push(tuple(reversed(items)))


def _stack_global(machine: _Machine) -> None:
  name, module = machine.pop(), machine.pop()
  machine.name(_only(module, str), _only(name, str))


Step = Callable[[_Machine, Any], Any]
_VALUES = (
  *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"),
  *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING"),
)
STEPS: Mapping[str, Step] = {
  **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
  **dict.fromkeys(_VALUES, _Machine.push),
  "NONE": lambda machine, _: machine.push(None),
  "NEWTRUE": lambda machine, _: machine.push(True),
  "NEWFALSE": lambda machine, _: machine.push(False),
  "EMPTY_LIST": lambda machine, _: machine.push([]),
  "EMPTY_DICT": lambda machine, _: machine.push({}),
  "EMPTY_SET": lambda machine, _: machine.push(set()),
  "EMPTY_TUPLE": lambda machine, _: machine.push(()),
  "TUPLE1": lambda machine, _: _push_last(machine, 1),
  "TUPLE2": lambda machine, _: _push_last(machine, 2),
  "TUPLE3": lambda machine, _: _push_last(machine, 3),
  "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_mark())),
  "FROZENSET": lambda machine, _: machine.push(frozenset(map(_key, machine.pop_mark()))),
  "POP": lambda machine, _: machine.pop(),
  "MARK": _Machine.mark,
  "APPEND": lambda machine, _: machine.extend([machine.pop()]),
  "APPENDS": lambda machine, _: machine.extend(machine.pop_mark()),
  "ADDITEMS": lambda machine, _: _add(machine, machine.pop_mark()),
  "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
  "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
  "BINPUT": _Machine.put,
  "LONG_BINPUT": _Machine.put,
  "MEMOIZE": _Machine.put,
  "BINGET": lambda machine, place: machine.push(machine.memo[place]),
  "LONG_BINGET": lambda machine, place: machine.push(machine.memo[place]),
  "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
  "STACK_GLOBAL": lambda machine, _: _stack_global(machine),
  "REDUCE": _Machine.call,
  "NEWOBJ": _Machine.call,
  "BUILD": _Machine.build,
  "BINPERSID": _Machine.refer,
}


def _add(machine: _Machine, items: list[Any]) -> None:
  _only(machine.stack[-1], set).update(map(_key, items))

"""Programs as ONNX: a function of images with its weights inside, for runtimes other than JAX.

The only user of jax2onnx, onnx and onnxruntime, which requirements.txt does not have: they are
imported inside functions, after `check_installed`.
"""

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any
from unittest import mock

import jax
import numpy as np
from jaxtyping import Array, Shaped

from sbir.types import UserError

LIBRARIES = ("jax2onnx", "onnx", "onnxruntime")
OPSET = 20  # the first with Gelu; ONNX Runtime reads it since 1.17
BATCH = "batch"
MAX_BYTES = 2_000_000_000  # of weights; protobuf ends at 2^31 in all
CHATTY = ("jax2onnx", "onnx_ir")

Images = Mapping[str, Shaped[Array, "b s s 3"]]
Function = Callable[[Images], Mapping[str, Array]]
Call = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def check_installed() -> None:
  """Raises UserError if a library that ONNX needs is not there; imports none."""
  lost = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
  if lost:
    raise UserError(
      f"--format onnx needs {' and '.join(lost)}, which {'is' if len(lost) == 1 else 'are'} not "
      "installed; run ./launch.sh setup --with export"
    )


def to_onnx(
  function: Function,
  inputs: Mapping[str, jax.ShapeDtypeStruct],
  *,
  dynamic_batch: bool = False,
  half: bool = False,
  metadata: Mapping[str, str],
  description: str = "",
) -> bytes:
  """Returns `function` as an ONNX file, checked by onnx.checker.

  The shapes of `inputs` have batch 1; with `dynamic_batch` the file takes any. Inputs and outputs
  have the names they have in `function`, but an output that is called as an input is, "photo" for
  one, becomes "photo_embedding": in ONNX a name is one value. With `half`, constants are stored as
  float16 wherever that changes no value, and cast to float32 where they are used: give a function
  whose weights were rounded before. It computes in float32 either way.

  Raises: UserError if that is more than an ONNX file can hold.
  """
  import jax2onnx
  import onnx

  names = list(jax.eval_shape(function, dict(inputs)))

  def positional(*images: Array) -> tuple[Array, ...]:
    outputs = function(dict(zip(inputs, images, strict=True)))
    return tuple(outputs[name] for name in names)

  # jax's GELU becomes one operation, ours by erf five.
  gelu = mock.patch("sbir.nn.vit.gelu", lambda x: jax.nn.gelu(x, approximate=False))
  with _quiet(), gelu:
    model = jax2onnx.to_onnx(
      positional,
      [_with_batch(spec, dynamic_batch) for spec in inputs.values()],
      opset=OPSET,
      normalization_mode="prefer_native",  # one LayerNormalization instead of nine operators
      input_names=list(inputs),
      output_names=[output_name(name, inputs) for name in names],
    )
  _drop_unused(model.graph)
  if half:
    _store_half(model.graph)
  _check_size(model.graph)
  model.doc_string = description
  onnx.helper.set_model_props(model, dict(metadata))
  onnx.checker.check_model(model, full_check=True)
  return model.SerializeToString()


def load(data: bytes) -> Call:
  """Returns the program of an ONNX file as a function, run by ONNX Runtime on the CPU.

  Its outputs have the names that `to_onnx` was given.
  """
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.log_severity_level = 3  # errors
  session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
  inputs = [value.name for value in session.get_inputs()]
  called = {output_name(name, inputs): name for name in inputs}
  names = [value.name for value in session.get_outputs()]

  def call(images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    values = session.run(None, dict(images))
    return {called.get(n, n): value for n, value in zip(names, values, strict=True)}

  return call


def output_name(name: str, inputs: Container[str]) -> str:
  """Returns what the output `name` is called in a file with these inputs."""
  return f"{name}_embedding" if name in inputs else name


def _with_batch(spec: jax.ShapeDtypeStruct, dynamic: bool) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((BATCH, *spec.shape[1:]), spec.dtype) if dynamic else spec


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps jax2onnx from telling, with tracebacks, of each plugin whose library is not there."""
  levels = {name: logging.getLogger(name).level for name in CHATTY}
  try:
    for name in CHATTY:
      logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      yield
  finally:
    for name, level in levels.items():
      logging.getLogger(name).setLevel(level)


def _drop_unused(graph: Any) -> None:
  used = {name for node in graph.node for name in node.input}
  kept = [tensor for tensor in graph.initializer if tensor.name in used]
  del graph.initializer[:]
  graph.initializer.extend(kept)


def _check_size(graph: Any) -> None:
  size = sum(len(tensor.raw_data) for tensor in graph.initializer)
  if size > MAX_BYTES:
    raise UserError(
      f"the weights are {size / 1e9:.1f} GB, an ONNX file holds {MAX_BYTES / 1e9:.1f} at most;"
      " add --half, or take --format stablehlo"
    )


def _store_half(graph: Any) -> None:
  """Stores as float16 each constant that is the same in it, with a cast back to float32."""
  from onnx import TensorProto, helper, numpy_helper

  tensors, casts = [], []
  for tensor in graph.initializer:
    small = _as_half(numpy_helper.to_array(tensor))
    if small is None:
      tensors.append(tensor)
      continue
    tensors.append(numpy_helper.from_array(small, f"{tensor.name}_half"))
    casts.append(
      helper.make_node("Cast", [f"{tensor.name}_half"], [tensor.name], to=TensorProto.FLOAT)
    )
  nodes = [*casts, *graph.node]
  del graph.initializer[:], graph.node[:]
  graph.initializer.extend(tensors)
  graph.node.extend(nodes)


def _as_half(values: np.ndarray) -> np.ndarray | None:
  """Returns float32 values as float16 if nothing is lost, else None; single numbers stay."""
  if values.dtype != np.float32 or values.size < 2:
    return None
  with np.errstate(over="ignore"):
    small = values.astype(np.float16)
  return small if np.array_equal(small.astype(np.float32), values) else None

"""One export from beginning to end: made, read back, run beside JAX, and only then written."""

import functools
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from pskd.released_names import to_released
from sbir import onnx_file, run_folder, stablehlo_file
from sbir.export_check import ALLOWED, BATCH, TOP, Findings, Run, check, rounding
from sbir.export_images import check_images
from sbir.exported import PAIR, Exported, as_half, choose_modality, exported, used_params
from sbir.models import Model
from sbir.progress import say
from sbir.safetensors_file import write_safetensors
from sbir.timm_names import to_timm
from sbir.types import Params, UserError

Rows = list[tuple[str, str]]  # what to print of an export: label, value


class Wanted(NamedTuple):
  """What to write, as the command line has it."""

  form: str  # "onnx", "stablehlo" or "timm"
  out: Path
  modality: str | None = None
  dynamic: bool = False
  half: bool = False
  pixels: bool = False
  gallery: str | None = None


def write_program(model: Model, wanted: Wanted) -> Rows:
  """Writes the model as ONNX or StableHLO, if what is read back does what JAX does.

  It is made and checked on the CPU: on a GPU or TPU JAX itself multiplies less exactly.
  Raises: UserError if the model cannot be exported so, the check fails, or the file cannot be
    written. Then nothing is.
  """
  how = model.preprocessing
  with jax.default_device(_cpu()):
    program = exported(
      model.config["architecture"],
      model.network,
      how,
      modality=wanted.modality,
      pixels=wanted.pixels,
    )
    params = as_half(model.params) if wanted.half else model.params
    squares = check_images(wanted.gallery, how.image_size, how.fit)
    started = time.monotonic()
    say(f"tracing the network of {' and '.join(program.inputs)} for {wanted.form}")
    data, run = _MAKE[wanted.form](model, program, params, wanted)
    made = time.monotonic()
    findings = check(run, program, params, how, squares, dynamic=wanted.dynamic)
    checked = time.monotonic()
    if complaint := findings.complaint():
      raise UserError(f"{wanted.out} was not written: {complaint}; try another --format")
    rows = _what_it_is(program, model.params, data, wanted)
    rows += _what_was_found(findings, wanted.dynamic)
    if wanted.half:
      moved = rounding(program, params, model.params, how, squares)
      rows.append(
        ("deviation by rounding", f"{moved.value:.1e} from float32 at most, in {moved.output}")
      )
  _write(wanted.out, data)
  rows.append(("seconds", f"{made - started:.1f} to make, {checked - made:.1f} to check"))
  return rows


def _cpu() -> jax.Device:
  try:
    return jax.local_devices(backend="cpu")[0]
  except RuntimeError:
    raise UserError(
      f"JAX_PLATFORMS={jax.config.jax_platforms} leaves the CPU out, which exports are checked on; "
      "add ,cpu to it"
    ) from None


def _make_onnx(
  model: Model, program: Exported, params: Params, wanted: Wanted
) -> tuple[bytes, Run]:
  rounded = jax.tree.map(lambda x: np.asarray(x, np.float32), params)
  data = onnx_file.to_onnx(
    functools.partial(program.function, rounded),
    program.inputs,
    dynamic_batch=wanted.dynamic,
    half=wanted.half,
    metadata={
      "architecture": model.config["architecture"],
      "preprocessing": json.dumps(model.preprocessing._asdict()),
    },
    description="takes uint8 RGB squares" if wanted.pixels else "takes preprocessed images",
  )
  return data, onnx_file.load(data)


def _make_stablehlo(
  model: Model, program: Exported, params: Params, wanted: Wanted
) -> tuple[bytes, Run]:
  function = functools.partial(program.function, params)
  data = stablehlo_file.to_stablehlo(function, program.inputs, dynamic_batch=wanted.dynamic)
  return data, stablehlo_file.load(data)


_MAKE: Mapping[str, Callable[[Model, Exported, Params, Wanted], tuple[bytes, Run]]] = {
  "onnx": _make_onnx,
  "stablehlo": _make_stablehlo,
}


def _what_it_is(program: Exported, params: Params, data: bytes, wanted: Wanted) -> Rows:
  leaves = used_params(program, params)
  outputs = jax.eval_shape(program.function, params, program.inputs)
  if wanted.form == "onnx":
    outputs = {onnx_file.output_name(n, program.inputs): x for n, x in outputs.items()}
  batch = "any number" if wanted.dynamic else "1"
  signature = lambda named: ", ".join(
    f"{name} {x.dtype}[{', '.join(map(str, ('b', *x.shape[1:])))}]" for name, x in named.items()
  )
  return [
    *_sizes(len(data), leaves, "float16" if wanted.half else "float32"),
    ("takes", f"{signature(program.inputs)}, b: {batch}"),
    ("gives", signature(outputs)),
  ]


def _sizes(num_bytes: int, leaves: Mapping[str, np.ndarray], dtype: str) -> Rows:
  num = sum(math.prod(leaf.shape) for leaf in leaves.values())
  return [("size", f"{num_bytes / 1e6:.1f} MB"), ("parameters", f"{num:,} of {dtype}")]


def _what_was_found(findings: Findings, dynamic: bool) -> Rows:
  alone, together, order = findings
  five = f"batch of {BATCH}" if dynamic else f"{BATCH} singles"
  told = lambda d: f"{d.value:.1e} from JAX at most, in {d.output} (allowed: {ALLOWED:g})"
  ties = "" if order.identical == order.places else ", the others are ties"
  return [
    ("deviation, batch of 1", told(alone)),
    (f"deviation, {five}", told(together)),
    (
      f"same nearest {min(TOP, order.photos)} photos of {order.photos}",
      f"for {order.same} of {order.sketches} sketches "
      f"({order.identical} of {order.places} places identical{ties})",
    ),
  ]


def write_timm(model: Model, wanted: Wanted) -> Rows:
  """Writes the encoder as timm names it, or PSKD's network as its released code does.

  Raises: UserError if one of two encoders has to be named, or the file cannot be written.
  """
  arrays, encoder, notes = _as_released(model) if _is_pskd(model) else _as_timm(model, wanted)
  write_safetensors(wanted.out, arrays, {"format": "pt"})
  shape = ", ".join(f"{name} {value}" for name, value in encoder.items())
  return [
    *_sizes(wanted.out.stat().st_size, arrays, "float32"),
    ("encoder", f"image_size {model.preprocessing.image_size}, {shape}"),
    *notes,
  ]


def _is_pskd(model: Model) -> bool:
  return model.config["architecture"] == "pskd"


def _as_released(model: Model) -> tuple[dict[str, np.ndarray], Mapping[str, int], Rows]:
  network = model.config["network"]
  notes = [("named as in", "PSKD's released code; timm has no ViT of two tokens")]
  if not network["dino_posembed_resample"]:
    notes.append(("note", "the released code resamples positions, which this model does not"))
  return to_released(model.params), network["encoder"], notes


def _as_timm(model: Model, wanted: Wanted) -> tuple[dict[str, np.ndarray], Mapping[str, int], Rows]:
  architecture, network = model.config["architecture"], model.config["network"]
  modality = choose_modality(architecture, model.network, wanted.modality)
  tree = model.params
  if architecture == PAIR:
    network, tree = network[modality], tree[modality]
  prefix = f"{modality}_encoder" if architecture == "xmodal-teacher" else "encoder"
  notes = [("named as in", "timm's VisionTransformer")]
  if rest := sorted(name for name in tree if name != prefix):
    notes.append(("left out", f"{', '.join(rest)}: not of the encoder"))
  return to_timm(tree[prefix]), network["encoder"], notes


def _write(out: Path, data: bytes) -> None:
  try:
    run_folder.write_bytes(out, data)
  except OSError as error:
    raise UserError(f"--out {out} cannot be written ({error.strerror}); choose another") from None

"""Whether an exported file does what the network does in JAX: the same numbers, the same order."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from sbir.export_images import Squares
from sbir.exported import Exported
from sbir.preprocessing import Preprocessing
from sbir.progress import track
from sbir.types import Params, UserError

ALLOWED = 1e-4  # absolute, on every output; for unit vectors and cosines alike
BATCH = 5
TOP = 10

Images = Mapping[str, np.ndarray]
Run = Callable[[Images], Mapping[str, np.ndarray]]


class Both(NamedTuple):
  """The outputs of the same images by name, all images one below another."""

  file: dict[str, np.ndarray]
  jax: dict[str, np.ndarray]


class Deviation(NamedTuple):
  """The largest absolute difference, and the output that has it."""

  value: float
  output: str


class Order(NamedTuple):
  """How the nearest photos compare, over all sketches."""

  same: int  # sketches whose nearest TOP are the same
  sketches: int
  photos: int
  identical: int  # places that hold the very same photo; others may be ties
  places: int


class Findings(NamedTuple):
  """What a check found."""

  alone: Deviation  # of BATCH images, one at a time
  together: Deviation  # of all images, in batches of BATCH where the file takes them
  order: Order

  def complaint(self) -> str:
    """Returns what is not as it must be, or "" if nothing is."""
    for found, how in ((self.alone, "single images"), (self.together, f"{BATCH} images")):
      if not found.value <= ALLOWED:
        return (
          f"its output {found.output} differs from JAX by {found.value:.1e} on {how}, expected at "
          f"most {ALLOWED:g}"
        )
    if self.order.same < self.order.sketches:
      return (
        f"{self.order.sketches - self.order.same} of {self.order.sketches} sketches find other "
        f"nearest {TOP} photos than in JAX, expected the same"
      )
    return ""


def check(
  file: Run,
  program: Exported,
  params: Params,
  how: Preprocessing,
  squares: Mapping[str, Squares],
  *,
  dynamic: bool,
) -> Findings:
  """Returns how far `file` is from `program` with `params` in JAX, on photos and sketches.

  All go through the file, whichever of the two it is meant for, for it is the file that is checked;
  a teacher takes photo i with sketch i, from the first again where there are fewer sketches.
  """
  reference = in_jax(program, params)
  view = lambda images: program.view(how, images)
  photos, sketches = squares["photo"], squares["sketch"]
  if len(program.inputs) == 2:
    pairs = {"photo": photos, "sketch": [sketches[i % len(sketches)] for i in range(len(photos))]}
    outputs = _in_batches(file, reference, view, pairs, "pairs", dynamic)
    found, asked = outputs, Both(*(_first(side, len(sketches)) for side in outputs))
    first = pairs
  else:
    (name,) = program.inputs
    first = {name: photos}
    found = _in_batches(file, reference, view, first, "photos", dynamic)
    asked = _in_batches(file, reference, view, {name: sketches}, "sketches", dynamic)
  return Findings(
    deviation(_singles(file, reference, view, first)),
    max(deviation(found), deviation(asked)),
    same_order(asked, found, program.embedding_of("sketch"), program.embedding_of("photo")),
  )


def rounding(
  program: Exported,
  rounded: Params,
  params: Params,
  how: Preprocessing,
  squares: Mapping[str, Squares],
) -> Deviation:
  """Returns how far `rounded` weights move the outputs of the first BATCH photos in JAX."""
  num = min(BATCH, *(len(x) for x in squares.values()))
  first = {name: squares[name if len(program.inputs) > 1 else "photo"] for name in program.inputs}
  images = program.view(how, _stack(first, range(num)))
  return deviation(Both(*(in_jax(program, p)(images) for p in (rounded, params))))


def in_jax(program: Exported, params: Params) -> Run:
  """Returns `program` with `params`, compiled, from arrays on the host to arrays on the host."""
  jitted, on_device = jax.jit(program.function), jax.device_put(params)
  return lambda images: jax.device_get(jitted(on_device, dict(images)))


def deviation(both: Both) -> Deviation:
  """Returns the largest difference among all outputs; infinite where one is not a number.

  Raises: UserError if the file has other outputs.
  """
  if both.file.keys() != both.jax.keys():
    raise UserError(f"the outputs are {', '.join(both.file)}, expected {', '.join(both.jax)}")
  found = []
  for name, expected in both.jax.items():
    value = np.max(np.abs(both.file[name] - expected))
    found.append(Deviation(np.inf if np.isnan(value) else float(value), name))
  return max(found)


def same_order(sketches: Both, photos: Both, sketch: str, photo: str) -> Order:
  """Returns for how many sketches both find the same TOP photos, in order, by cosine.

  The same: at each of the TOP places stands the same photo, or one whose cosine in JAX is within
  ALLOWED of that of the photo which JAX has there. So where neighbouring cosines differ by more
  than ALLOWED the photo must be the same; nearer ones are ties, and may change places. `sketch` and
  `photo` name the outputs that are compared.
  """
  expected = _unit(sketches.jax[sketch]) @ _unit(photos.jax[photo]).T
  found = _unit(sketches.file[sketch]) @ _unit(photos.file[photo]).T
  ours, theirs = (np.argsort(-x, axis=1, kind="stable")[:, :TOP] for x in (expected, found))
  gap = np.take_along_axis(expected, ours, 1) - np.take_along_axis(expected, theirs, 1)
  is_same = (np.abs(gap) <= ALLOWED).all(1)
  identical = int((ours == theirs).sum())
  return Order(int(is_same.sum()), *expected.shape, identical, ours.size)


def _unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
  vectors = vectors.astype(np.float64)
  return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _in_batches(
  file: Run, reference: Run, view: Run, squares: Mapping[str, Squares], what: str, dynamic: bool
) -> Both:
  """Returns what the file and JAX make of all images, JAX in batches of BATCH, and so the file if
  its batch is `dynamic`, otherwise one image at a time. The last batch is filled up."""
  num = min(len(x) for x in squares.values())
  parts = []
  for start in track(range(0, num, BATCH), f"check with {what}"):
    images = view(_stack(squares, [min(i, num - 1) for i in range(start, start + BATCH)]))
    found = file(images) if dynamic else _one_by_one(file, images)
    parts.append((found, reference(images)))
  return Both(*(_first(_joined(side), num) for side in zip(*parts, strict=True)))


def _singles(file: Run, reference: Run, view: Run, squares: Mapping[str, Squares]) -> Both:
  num = min(BATCH, *(len(x) for x in squares.values()))
  images = view(_stack(squares, range(num)))
  return Both(_one_by_one(file, images), _one_by_one(reference, images))


def _one_by_one(run: Run, images: Images) -> dict[str, np.ndarray]:
  num = len(next(iter(images.values())))
  return _joined([run({name: x[i : i + 1] for name, x in images.items()}) for i in range(num)])


def _stack(squares: Mapping[str, Squares], rows: Sequence[int]) -> dict[str, np.ndarray]:
  return {name: np.stack([x[i] for i in rows]) for name, x in squares.items()}


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _first(outputs: Mapping[str, np.ndarray], num: int) -> dict[str, np.ndarray]:
  return {name: x[:num] for name, x in outputs.items()}

"""How a network wants its images: the square they become on the host, the floats on the device."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Shaped

from sbir.data.augment import normalise, to_unit
from sbir.data.fit import FITS
from sbir.data.gradients import oriented_gradients
from sbir.types import UserError

Triple = tuple[float, float, float]
HALF: tuple[Triple, Triple] = ((0.5,) * 3, (0.5,) * 3)  # mean, std: what AugReg's ViTs expect
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # DINO, DeiT, PSKD
NONE: tuple[Triple, Triple] = ((0.0,) * 3, (1.0,) * 3)  # XModalViT's released code
MAX_SIDE = 8192


class Preprocessing(NamedTuple):
  """From an image of any shape to the network's input; nothing is drawn at random."""

  image_size: int
  fit: str  # "stretch" or "trim", of data.fit; bilinear, smoothed where it shrinks
  gradients: bool  # images become maps of their oriented gradients
  mean: Triple
  std: Triple

  def view(self, images: Shaped[Array, "b s s 3"]) -> Float[Array, "b s s 3"]:
    """Returns square uint8 images (or floats in [0, 1]) as the network takes them. Pure."""
    images = to_unit(images)
    if self.gradients:
      images = oriented_gradients(images)
    return normalise(images, self.mean, self.std)


def of_run(config: Mapping[str, Any]) -> Preprocessing:
  """Returns what a training's config says of its images; one number is that of all channels."""
  augment = config["augment"]
  mean, std = (_triple(augment[key]) for key in ("mean", "std"))
  return Preprocessing(
    int(config["image_size"]), config["data"]["fit"], bool(augment["gradients"]), mean, std
  )


def to_json(preprocessing: Preprocessing) -> dict[str, Any]:
  """Returns the content of preprocessor_config.json; sizes in pixels, mean and std of [0, 1]."""
  side = preprocessing.image_size
  return {
    "size": {"height": side, "width": side},
    "fit": preprocessing.fit,
    "resample": "bilinear",
    "rescale_factor": 1 / 255,
    "oriented_gradients": preprocessing.gradients,
    "image_mean": list(preprocessing.mean),
    "image_std": list(preprocessing.std),
  }


def from_json(value: Any, what: str) -> Preprocessing:
  """Returns what `to_json` was given. Raises: UserError naming `what` and the value if it is not
  of that form."""
  try:
    found = Preprocessing(
      value["size"]["height"],
      value["fit"],
      value["oriented_gradients"],
      tuple(value["image_mean"]),
      tuple(value["image_std"]),
    )
    _check(found)
    if (expected := to_json(found)) != value:
      raise ValueError(f"found {value}, expected {expected}")
  except (ValueError, TypeError, KeyError) as error:
    reason = f"no {error}" if isinstance(error, KeyError) else f"{error}"
    raise UserError(
      f"{what} does not say how images are prepared ({reason}); fetch the package again"
    ) from None
  return found


def _check(found: Preprocessing) -> None:
  numbers = (*found.mean, *found.std)
  if type(found.image_size) is not int or not 1 <= found.image_size <= MAX_SIDE:
    raise ValueError(f"height {found.image_size!r}, expected 1 to {MAX_SIDE}")
  if found.fit not in FITS:
    raise ValueError(f"fit {found.fit!r}, expected one of {', '.join(FITS)}")
  if type(found.gradients) is not bool:
    raise ValueError(f"oriented_gradients {found.gradients!r}, expected true or false")
  if len(numbers) != 6 or not all(type(n) in (int, float) and abs(n) < 1e6 for n in numbers):
    raise ValueError(f"mean and std {numbers}, expected three numbers each")
  if min(found.std) <= 0:
    raise ValueError(f"image_std {found.std}, expected above 0")


def _triple(value: Any) -> Triple:
  numbers = list(value) if isinstance(value, list | tuple) else [value] * 3
  return float(numbers[0]), float(numbers[1]), float(numbers[2])

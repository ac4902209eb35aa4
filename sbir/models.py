"""A model as users have it: read from a package, asked for embeddings, written, pushed."""

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from pskd import packaged as pskd
from sbir import hub, plain_vit, trees
from sbir.data.fit import fit_square, least_side
from sbir.data.images import as_rgb
from sbir.data.padding import padded
from sbir.embed import embed_images
from sbir.network import Network, embeddings, shapes_of
from sbir.nn.losses import l2_normalise
from sbir.package_folder import FILES, WEIGHTS, Package, read_package, write_package
from sbir.preprocessing import Preprocessing
from sbir.types import Params, UserError
from xmodal import packaged as xmodal

ARCHITECTURES = {  # of config.json: what builds the network that its "network" describes
  "vit": plain_vit.build,
  "xmodal-teacher": xmodal.build_teacher,
  "xmodal-student": xmodal.build_student,
  "xmodal-pair": xmodal.build_pair,
  "pskd": pskd.build,
}
PLURAL = {"photo": "photos", "sketch": "sketches"}
BATCH_SIZE = 64


class Model:
  """A network with its weights and its way of looking at images."""

  def __init__(self, package: Package, what: str = "package"):
    """Builds the network that `package` describes; `what` names it in messages.

    Raises: UserError if weights and description do not belong together.
    """
    self._package = package
    self.network = build(package.config, what)
    expected = shapes_of(self.network, package.preprocessing.image_size)
    params = trees.merge(expected, package.params, what=f"{what}: {WEIGHTS}")
    self._on_device = jax.tree.map(jnp.asarray, params)
    self._forward = jax.jit(self.network.forward)
    self._embed = jax.jit(self._unit_vectors, static_argnames="modality")
    self._look = jax.jit(self._shares, static_argnames="modality")

  @property
  def config(self) -> dict[str, Any]:
    """The content of config.json."""
    return self._package.config

  @property
  def preprocessing(self) -> Preprocessing:
    """How images are prepared; `preprocessing.view` makes the floats that `forward` takes."""
    return self._package.preprocessing

  @property
  def params(self) -> Params:
    """The weights, float32, on the host."""
    return self._package.params

  @property
  def card(self) -> str:
    """The model card, Markdown."""
    return self._package.card

  def encode_photos(
    self, images: Iterable[Any], batch_size: int = BATCH_SIZE
  ) -> Float[np.ndarray, "n d"]:
    """Returns the unit vectors of photos: paths, PIL images, or arrays u8[h, w, 3], of any size.

    The cosine of two embeddings is their product. A list longer than a batch shows its progress.
    Raises: UserError if there is none, one cannot be read, or the model does not take photos alone.
    """
    return self._encode("photo", images, batch_size)

  def encode_sketches(
    self, images: Iterable[Any], batch_size: int = BATCH_SIZE
  ) -> Float[np.ndarray, "n d"]:
    """Returns the unit vectors of sketches, given as `encode_photos` takes photos."""
    return self._encode("sketch", images, batch_size)

  def encode_squares(
    self, squares: UInt8[np.ndarray, "n s s 3"], modality: str
  ) -> Float[np.ndarray, "n d"]:
    """Returns the unit vectors of images that `data.fit.fit_square` has made squares, all at once;
    the same as those of `encode_photos` or `encode_sketches`. `modality`: "photo" or "sketch".

    One program is compiled for each n. Raises: UserError if the model does not take them alone.
    """
    _check_takes(self.network, {modality: None})
    return np.asarray(self._embed(self._on_device, jnp.asarray(squares), modality=modality))

  def forward(
    self,
    photo: Float[Array, "b s s 3"] | None = None,
    sketch: Float[Array, "b s s 3"] | None = None,
  ) -> dict[str, Array]:
    """Returns all that the network makes of preprocessed images, by name and not normalised.

    "photo", "sketch": embeddings. An XModalViT teacher, which takes both at once, gives the fused
    vectors; PSKD also photo_dist, photo_bottleneck (unit vectors) and photo_logits, and the same
    of the sketch; a ViT with DINO's head photo_bottleneck.
    Raises: UserError if the network does not take what is given, or not in this shape.
    """
    given = {"photo": photo, "sketch": sketch}
    images = {name: jnp.asarray(x) for name, x in given.items() if x is not None}
    _check_takes(self.network, images)
    for name, pixels in images.items():
      self._check_input(name, pixels)
    return self._forward(self._on_device, images)

  def attention(
    self, modality: str, squares: UInt8[np.ndarray, "b s s 3"]
  ) -> Float[np.ndarray, "b n"]:
    """Returns which share of its attention the token that becomes the embedding gives to each patch
    in the last block, by row of patches: the mean over heads. What is left of one it gives to
    itself (and PSKD's to its other token).

    A teacher's is that of its encoder of the modality. To look at: `sbir.attention_maps`.
    Raises: UserError if the images are not such squares, or the network does not take the modality.
    """
    if modality not in self.network.modalities:
      raise UserError(
        f"modality={modality!r}, but this model takes {_words(self.network.modalities)}"
      )
    side, given = self.preprocessing.image_size, np.asarray(squares)
    if given.dtype != np.uint8 or given.shape[1:] != (side, side, 3) or not len(given):
      raise UserError(
        f"squares are {given.dtype}{list(given.shape)}, expected uint8[b, {side}, {side}, 3], at "
        "least one; make them with sbir.data.fit.fit_square"
      )
    return np.asarray(self._look(self._on_device, given, modality=modality))

  def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
    """Writes the model as a package: what was read from one is the same again, bit for bit.

    Raises: UserError if the folder cannot be written, or holds other things.
    """
    write_package(folder, self._package)

  def push_to_hub(self, repo: str, *, private: bool = True) -> str:
    """Uploads the package to `repo`, "org/name" on the Hugging Face Hub; returns its address.

    Raises: UserError if that does not work: no login, no network, no permission.
    """
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
      self.save_pretrained(Path(folder) / "package")
      return hub.push(Path(folder) / "package", repo, private=private)

  def _unit_vectors(self, params: Params, pixels: UInt8[Array, "b s s 3"], modality: str) -> Array:
    images = {modality: self.preprocessing.view(pixels)}
    return l2_normalise(embeddings(self.network, params, images)[modality])

  def _shares(self, params: Params, pixels: UInt8[Array, "b s s 3"], modality: str) -> Array:
    return self.network.attention(params, {modality: self.preprocessing.view(pixels)})[modality]

  def _encode(self, modality: str, images: Iterable[Any], batch_size: int) -> np.ndarray:
    _check_takes(self.network, {modality: None})
    given = _as_list(images)
    if type(batch_size) is not int or batch_size < 1:
      raise UserError(f"batch_size={batch_size!r} must be a whole number, at least 1")
    embed = lambda pixels: self._embed(self._on_device, pixels, modality=modality)
    return embed_images(
      embed,
      _batches(given, self.preprocessing, _batch_of(len(given), batch_size)),
      range(len(given)),
      desc=f"encode {PLURAL[modality]}",
      quiet=len(given) <= batch_size,
    )

  def _check_input(self, name: str, pixels: Array) -> None:
    side = self.preprocessing.image_size
    if pixels.ndim != 4 or pixels.shape[1:] != (side, side, 3) or pixels.dtype == jnp.uint8:
      raise UserError(
        f"{name} is {pixels.dtype}{list(pixels.shape)}, expected preprocessed floats "
        f"[b, {side}, {side}, 3]; make them of uint8 squares with model.preprocessing.view, or "
        f"give images to encode_{PLURAL[name]}"
      )


def from_pretrained(place: str | os.PathLike[str]) -> Model:
  """Returns the model of a package: a folder, or "hf:org/name[@revision]".

  Raises: UserError if there is none, or it is damaged.
  """
  folder = hub.fetch(os.fspath(place), files=FILES)
  return Model(read_package(folder), f"{place}")


def build(config: Mapping[str, Any], what: str) -> Network:
  """Returns the network that a package's config describes. Raises: UserError naming `what`."""
  if config["architecture"] not in ARCHITECTURES:
    raise UserError(
      f"{what}: architecture {config['architecture']!r} is unknown, expected one of "
      f"{', '.join(ARCHITECTURES)}; update this program"
    )
  try:
    return ARCHITECTURES[config["architecture"]](config["network"])
  except UserError as error:
    raise UserError(f"{what}: {error}") from None


def _batches(
  images: Sequence[Any], how: Preprocessing, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
  """Yields batches for `embed_images`, each read when it is asked for."""

  @functools.lru_cache(maxsize=1)  # padding is the last image again
  def read(i: int) -> UInt8[np.ndarray, "s s 3"]:
    least = least_side(how.image_size, how.fit)
    return fit_square(as_rgb(images[i], f"image {i}", at_least=least), how.image_size, how.fit)

  load = lambda part: {"image": np.stack([read(int(i)) for i in part]), "index": part}
  return padded(np.arange(len(images), dtype=np.int32), batch_size, load)


def _batch_of(num: int, batch_size: int) -> int:
  """Returns how many images to embed at once: a power of two where `num` are less than a batch, so
  that lists of any length compile a few programs, not one each."""
  return min(batch_size, 1 << (num - 1).bit_length())


def _as_list(images: Iterable[Any]) -> Sequence[Any]:
  if isinstance(images, str | bytes | os.PathLike) or not isinstance(images, Iterable):
    raise UserError(
      f"images is one {type(images).__name__}, expected a list of images; put it in brackets"
    )
  given = images if hasattr(images, "__getitem__") and hasattr(images, "__len__") else list(images)
  if not len(given):
    raise UserError("images is empty, expected at least one")
  return given


def _check_takes(network: Network, images: Mapping[str, Any]) -> None:
  """Raises UserError unless the network takes exactly these modalities together."""
  given, takes = set(images), set(network.modalities)
  if network.together and given != takes:
    raise UserError(
      f"given {_words(given)}, but a teacher sees a photo and a sketch together: use forward(photo="
      "..., sketch=...), or for search the package of its two students"
    )
  if not given or not given <= takes:
    raise UserError(f"given {_words(given)}, but this model takes {_words(takes)}")


def _words(modalities: Iterable[str]) -> str:
  return " and ".join(PLURAL[name] for name in sorted(modalities)) or "nothing"

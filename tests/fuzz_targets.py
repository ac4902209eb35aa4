"""What is fuzzed: each reader, with the inputs it gets and what must hold of all it accepts.

Every input is bytes, so that it can be kept in a file and read again. A target returns for what it
accepts and raises UserError for what it refuses, as the readers' docstrings promise; whatever else
comes out of it is a finding. `bombs` are tried first, once each.
"""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from sbir.data import images
from sbir.embedding_file import read_embeddings
from sbir.npz_file import read_npz
from sbir.safetensors_file import read_safetensors
from sbir.torch_file import read_torch
from sbir.types import UserError
from sbir.weight_files import read_weights
from tests import fuzz_images, fuzz_npz, fuzz_pth, fuzz_texts
from tests.fuzz_inputs import damaged

IMAGE_MEMORY = (
  3000  # MiB; the largest image allowed has 64 million pixels, each of four bytes twice
)


class Target(NamedTuple):
  """One reader. `memory` is how many MiB an input of a few kB may take, on top of what is there."""

  name: str
  what: str
  inputs: st.SearchStrategy[bytes]
  read: Callable[[bytes, Path], Any]  # (input, an empty folder)
  bombs: Callable[[], tuple[bytes, ...]] = tuple
  memory: int = 256


def written(data, folder, name):
  """Returns the path of a file that holds `data`."""
  path = folder / name
  path.write_bytes(data)
  return path


# --- weights, embeddings --------------------------------------------------------------------------


def torch(data, folder):
  """Reads a .pth; what comes out is plain, and no more than the file can hold."""
  found = read_torch(written(data, folder, "a.pth"))
  arrays = list(_plain_arrays(found))
  assert sum(array.nbytes for array in arrays) <= 2**20 + 16 * len(data)


def _plain_arrays(value):
  """Yields the arrays in a value. Raises: AssertionError where anything is not plain."""
  waiting, seen = [value], set()
  while waiting:
    value = waiting.pop()
    if id(value) in seen:
      continue
    seen.add(id(value))
    if isinstance(value, np.ndarray):
      assert value.base is None and value.dtype.kind in "fiub", value.dtype
      yield value
    elif type(value) in (dict, list, tuple, set, frozenset):
      waiting += value
      waiting += value.values() if isinstance(value, dict) else ()
    else:
      assert value is None or type(value) in (bool, int, float, complex, str, bytes), type(value)


def npz(data, folder):
  """Reads an .npz of weights: named arrays of numbers."""
  found = read_npz(written(data, folder, "a.npz"))
  assert all(isinstance(array, np.ndarray) for array in found.values())
  assert all(array.dtype.kind in "fiub" for array in found.values()), found


def safetensors(data, folder):
  """Reads a .safetensors: named arrays of numbers."""
  found = read_safetensors(written(data, folder, "a.safetensors"))
  assert found and all(array.dtype.kind in "fiub" for array in found.values())
  assert sum(array.nbytes for array in found.values()) <= 2 * len(data)


def weights(data, folder):
  """Reads weights of whichever kind the bytes are."""
  found = read_weights(written(data, folder, "a"), "model", "state_dict")
  assert found and all(isinstance(array, np.ndarray) for array in found.values())


def embeddings(data, folder):
  """Reads an .npz of embeddings: two matrices, labels or ids in pairs, as many as rows."""
  found = read_embeddings(written(data, folder, "a.npz"))
  assert found.query.ndim == found.gallery.ndim == 2
  for side, names in (("query", found[2::2]), ("gallery", found[3::2])):
    rows = len(getattr(found, side))
    assert all(there is None or there.shape == (rows,) for there in names)


# --- images ---------------------------------------------------------------------------------------


def image(data, folder):
  """Decodes an image, every second one with leave to scale it down."""
  found = images.decode(data, "image", at_least=len(data) % 2 * 4)
  assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and found.size
  assert found.shape[0] * found.shape[1] <= images.MAX_PIXELS


# --- tables and lists -----------------------------------------------------------------------------


def manifest(data, folder):
  """Lists a manifest in each of the ways; no path leads out of the folder."""
  from sbir.data.manifest import has_split_column, list_categories, list_manifest

  root = folder / "data"
  for name in ("photo/1.png", "sketch/1_1.png", "../outside.png"):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()
  written(data, root, "manifest.csv")
  found = [
    list_manifest("mine", root, "train"),
    list_manifest("mine", root, "test"),
    list_categories("mine", root),
  ]
  has_split_column(root)
  for record in (record for listing in found for record in listing.records):
    assert record.modality in ("photo", "sketch")
    assert (root / record.key).resolve().is_relative_to(root.resolve()), record.key


def classes(data, folder):
  """Reads a list of classes and splits a data set by it; no class is on both sides."""
  from sbir.data.class_splits import normalise, own_list, read_split

  path = written(data, folder, "list.txt")
  names = own_list(path, "data.split")
  assert len(set(names)) == len(names) > 0
  assert all(normalise(name) == name for name in names), names
  split = read_split(str(path), [*names, "something else"])
  assert not set(split.seen) & set(split.unseen) and sorted(names) == list(split.unseen)


# --- what is typed --------------------------------------------------------------------------------


def overrides(data, folder):
  """Loads a config with overrides; each value is of the type that the key has."""
  from sbir import cli

  spec, *arguments = _text_of(data).split("\x1f")
  with _exit_2_is_a_refusal():
    found, _ = cli.split_overrides(arguments)
  config, plain = cli.load_config(spec, found), cli.load_config(spec)
  assert config.is_locked
  for key in cli.config_keys(plain):
    default, value = (_value(tree, key) for tree in (plain, config))
    assert default is None or type(value) is type(default), key


def _text_of(data):
  """Returns bytes as text: what is not UTF-8 as the command line has it."""
  try:
    return data.decode("utf-8", "surrogatepass")
  except UnicodeDecodeError:
    return data.decode("utf-8", "surrogateescape")


def _value(config, key):
  for name in key.split("."):
    config = config[name]
  return config


@contextlib.contextmanager
def _exit_2_is_a_refusal():
  try:
    with contextlib.redirect_stderr(io.StringIO()):
      yield
  except SystemExit as stopped:
    if stopped.code != 2:
      raise
    raise UserError("exit status 2") from None


def paths(data, folder):
  """Gives a text as path to all that takes one."""
  from sbir.cli import load_config
  from sbir.data.class_splits import own_list, unseen_classes
  from sbir.data.files import existing_folder
  from sbir.given_weights import check_init, load
  from sbir.package_folder import read_package
  from sbir.run_folder import read_config

  text = _text_of(data)
  takers = (
    *(existing_folder, images.decode, read_weights, read_embeddings, read_config, load_config),
    *(read_torch, read_npz, read_safetensors, unseen_classes, lambda path: own_list(path, "seen")),
    *(read_package, lambda path: load(path, "package", None, key="--model")),
    lambda path: check_init({"kind": "timm", "path": path, "resample": False}, ["timm"]),
  )
  refused = 0
  for take in takers:
    try:
      take(text)
    except UserError:
      refused += 1
  if refused == len(takers):
    raise UserError("nothing is there")


ALL_WEIGHTS = (*fuzz_pth.PTH_BASES, *fuzz_npz.WEIGHTS_BASES, *fuzz_texts.HEADERS)
READERS = (
  Target("pth", "torch_file.read_torch", fuzz_pth.PTH, torch, fuzz_pth.pth_bombs),
  Target(
    "npz",
    "npz_file.read_npz",
    fuzz_npz.npz_inputs(fuzz_npz.WEIGHTS_BASES, ("kernel", "bias")),
    npz,
    lambda: fuzz_npz.npz_bombs("kernel"),
  ),
  Target(
    "safetensors",
    "safetensors_file.read_safetensors",
    fuzz_texts.SAFETENSORS,
    safetensors,
    fuzz_texts.safetensors_bombs,
  ),
  Target(
    "weights",
    "weight_files.read_weights",
    st.one_of(fuzz_pth.PTH, fuzz_texts.SAFETENSORS, damaged(ALL_WEIGHTS)),
    weights,
  ),
  Target(
    "embeddings",
    "embedding_file.read_embeddings",
    fuzz_npz.npz_inputs(fuzz_npz.EMBEDDING_BASES, fuzz_npz.EMBEDDING_NAMES),
    embeddings,
    lambda: fuzz_npz.npz_bombs(*fuzz_npz.EMBEDDING_NAMES),
  ),
  Target(
    "images",
    "data.images.decode",
    fuzz_images.IMAGES,
    image,
    fuzz_images.image_bombs,
    IMAGE_MEMORY,
  ),
  Target(
    "manifest",
    "data.manifest.list_manifest, list_categories",
    fuzz_texts.MANIFEST,
    manifest,
    fuzz_texts.manifest_bombs,
  ),
  Target("classes", "data.class_splits.own_list, read_split", fuzz_texts.CLASSES, classes),
  Target("overrides", "cli.split_overrides, load_config", fuzz_texts.OVERRIDES, overrides),
  Target("paths", "all that takes a path", fuzz_texts.PATHS, paths),
)

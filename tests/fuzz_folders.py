"""What is fuzzed of the folders that runs leave and models travel in: caches, packages, runs."""

import json
import shutil
import zlib

import numpy as np
from hypothesis import strategies as st

from tests import fuzz_npz, fuzz_texts
from tests.fuzz_inputs import damaged
from tests.fuzz_targets import Target, written
from tests.safetensors_files import make, tensor

ROWS, WIDTH = 4, 3


def stored_rows(data, folder):
  """Reads a shard whose checksum fits, and a description of another folder."""
  from sbir.stored_rows import StoredRows
  from sbir.types import UserError

  shard, _, about = data.partition(b"\x1e")
  words = {"num_rows": ROWS, "row_shape": (WIDTH,)}
  for old in folder.iterdir():
    shutil.rmtree(old)
  place = StoredRows(folder, {"of": "a test"}, **words).folder
  place.mkdir()
  written(shard, place, f"0000000_{zlib.crc32(shard):08x}.npy")
  _describe(folder, about)
  rows = StoredRows(folder, {"of": "a test"}, **words)
  rows.remove_stale(lambda about: about.get("of") != "a test")
  if rows.missing():
    raise UserError("the shard counts as missing")
  found = rows.take(np.arange(ROWS))
  assert found.shape == (ROWS, WIDTH) and found.dtype == np.float32


def _describe(folder, about):
  """Writes a folder beside the rows, named as its description says."""
  name = "other"
  try:
    from sbir.stored_rows import _name_of

    name = _name_of(json.loads(about))
  except (ValueError, RecursionError):
    pass
  (folder / name).mkdir(exist_ok=True)
  written(about, folder / name, "about.json")


def kept_pixels(data, folder):
  """Opens kept pixels over files of any content and size; an image is whole or not there."""
  from sbir.data.kept_pixels import IS_THERE, DiskPixels

  checks, _, pixels = data.partition(b"\x1e")
  place = folder / "key"
  place.mkdir(exist_ok=True)
  written(pixels, place, "pixels.u8")
  written(checks, place, "checks.u64")
  kept = DiskPixels(folder, {"num_images": 2, "image_size": 2}, "key")
  for index, check in enumerate(np.frombuffer((place / "checks.u64").read_bytes(), np.uint64)):
    found = kept.get(index)
    assert found is None or zlib.crc32(found) | IS_THERE == check


def package(data, folder):
  """Reads a model package whose JSON files are of any content."""
  from sbir.network_config import check_network
  from sbir.package_folder import is_package, read_package

  config, how, card, weights = (data.split(b"\x1e", 3) + [b""] * 4)[:4]
  written(config, folder, "config.json")
  written(how, folder, "preprocessor_config.json")
  written(card, folder, "README.md")
  written(weights or WEIGHTS, folder, "model.safetensors")
  is_package(folder)
  found = read_package(folder)
  check_network(found.config["network"], {"encoder": {"width": (1, 9)}, "hidden": (1, 9)})


def run(data, folder):
  """Reads a run's folder: its config, versions and evaluation."""
  from sbir import provenance, run_folder
  from sbir.logs import read_metrics
  from sbir.types import UserError

  config, versions, evaluation, metrics = (data.split(b"\x1e") + [b""] * 4)[:4]
  place = folder / "evaluation"
  place.mkdir(exist_ok=True)
  written(config, place, "config.json")
  written(versions, place, "versions.json")
  written(evaluation, place, "evaluation.json")
  written(metrics, place, "metrics.jsonl")
  provenance.commands([place])
  assert all(isinstance(text, str) for text in provenance.versions(place).values())
  assert all(isinstance(row["step"], int) for row in read_metrics(place))
  steps = (
    lambda: run_folder.read_training(place, "xmodal", "teacher"),
    lambda: run_folder.check(place, {"steps": 3}),
    lambda: provenance.find_evaluation({"model": folder / "run"}),
    lambda: provenance.read_evaluation(place),
  )
  refused = 0
  for step in steps:
    try:
      step()
    except UserError:
      refused += 1
  if refused == len(steps):
    raise UserError("nothing of it can be read")


WEIGHTS = make({"encoder/w": tensor("F32", [2], 0, 8)}, bytes(8))
SHARD = fuzz_npz.npy(fuzz_npz.GOOD.replace("(2, 6)", "(4, 3)"), bytes(48))
ABOUT = (
  b'{"about": {"of": "another"}, "layout": {"row_shape": [3], "group": 4, "shard_rows": 1024}}'
)
CONFIG = json.dumps(
  {
    "format": 1,
    "architecture": "vit",
    "image_size": 16,
    "network": {"encoder": {"width": 4}, "hidden": 8},
    "classes": ["ant"],
    "source": {"kind": "run", "file": "", "sha256": ""},
    "training": {"steps": 3},
  }
).encode()
HOW = json.dumps(
  {
    "size": {"height": 16, "width": 16},
    "fit": "stretch",
    "resample": "bilinear",
    "rescale_factor": 1 / 255,
    "oriented_gradients": False,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
  }
).encode()
RUN = (
  b'{"method": "xmodal", "stage": "teacher", "model": "x", "data": {"name": "a"}, "protocol": "p"}'
)
VERSIONS = (
  b'{"python": "3", "git": "", "packages": {"jax": "1"}, "devices": ["cpu"], "command": ["a/b.py"]}'
)
EVALUATION = (
  b'{"metrics": {"acc": 0.5}, "intervals": {"acc": [0.4, 0.6]}, "queries": 3, "gallery": 4,'
  b' "distance": "cosine", "about": {"seed": "0"}, "chance": {"acc": 0.1}}'
)
METRICS = b'{"step": 1, "loss": 0.5}'
PIXELS = np.arange(24, dtype=np.uint8).tobytes()
CHECKS = np.array([zlib.crc32(PIXELS[:12]) | 1 << 32, 5], np.uint64).tobytes()


def deep():
  """Returns JSON of many brackets, in each of the places of a folder's files."""
  return tuple(b"\x1e".join((b"{}",) * before + (text,) * 3) for text in fuzz_texts.DEEP_JSON
               for before in range(3))  # fmt: skip


def folder_json(*documents):
  """Returns the strategy of several JSON files in one; most of them are as they should be."""
  return fuzz_texts.parts(
    *(st.one_of(st.just(text), fuzz_texts.json_inputs((text,))) for text in documents)
  )


PARTS = st.lists(st.sampled_from(("a", "b", "", "a/b", "a/" * 50)), max_size=4).map("/".join)
TREES = st.lists(PARTS, max_size=4, unique=True).map(
  lambda names: make(
    {name: tensor("F32", [1], 4 * i, 4 * i + 4) for i, name in enumerate(names)},
    bytes(4 * len(names)),
  )
)
SHARDS = st.one_of(st.just(SHARD), damaged((SHARD,)), fuzz_npz.NPY)
FOLDERS = (
  Target(
    "stored_rows",
    "stored_rows.StoredRows",
    fuzz_texts.parts(SHARDS, st.one_of(st.just(ABOUT), fuzz_texts.json_inputs((ABOUT,)))),
    stored_rows,
    lambda: tuple(SHARD + b"\x1e" + text for text in fuzz_texts.DEEP_JSON),
  ),
  Target(
    "kept_pixels",
    "data.kept_pixels.DiskPixels",
    fuzz_texts.parts(damaged((CHECKS,), 2), damaged((PIXELS,), 2)),
    kept_pixels,
  ),
  Target(
    "package",
    "package_folder.read_package",
    fuzz_texts.parts(folder_json(CONFIG, HOW, b'"# A card"'), st.one_of(st.just(b""), TREES)),
    package,
    deep,
  ),
  Target(
    "run",
    "run_folder, provenance, logs.read_metrics",
    folder_json(RUN, VERSIONS, EVALUATION, METRICS),
    run,
    deep,
  ),
)

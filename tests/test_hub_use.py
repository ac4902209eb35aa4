"""Places on the hub where users write them, with huggingface_hub's own client: packages, files to
convert, weights to begin from, and a push. The cache is prepared, the pushes go to this machine."""

import hashlib
import json
import os
import shutil

import pytest

from tests import pskd_runs
from tests.hub_server import COMMIT, serve
from tests.packages import save_package
from tests.torch_files import save_torch
from tests.vit_layouts import drawn
from tests.weight_sources import SHAPES
from tests.xmodal_runs import start

pytest.importorskip("huggingface_hub", reason="huggingface_hub is optional and not installed")


def put(home, repo, files):
  """Puts {name: path} into the client's cache as the repository's newest commit."""
  folder = home / "hub" / f"models--{repo.replace('/', '--')}"
  for name, path in files.items():
    blob = folder / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
    link = folder / "snapshots" / COMMIT / name
    for each in (blob, link):
      each.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, blob)
    link.symlink_to(os.path.relpath(blob, link.parent))
  (folder / "refs").mkdir()
  (folder / "refs" / "main").write_text(COMMIT)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """A cache with a package, and with two repositories of other people's weights."""
  home = tmp_path_factory.mktemp("home")
  package = save_package(home / "package", "xmodal-pair")
  put(home, "org/pair", {path.name: path for path in package.iterdir()})
  weights = {name: 0.2 * array for name, array in drawn(SHAPES["dino"]).items()}
  dino = save_torch(home / "dino.pth", {"teacher": weights})
  put(home, "org/dino", {"deep/dino.pth": dino})
  timm = save_torch(home / "timm.pth", drawn(SHAPES["timm"]))
  foreign = home / "foreign.json"  # other people's models have a config.json of their own
  foreign.write_text('{"architecture": "vit_tiny_patch16_224", "num_classes": 5}')
  put(home, "org/timm", {"pytorch_model.bin": timm, "config.json": foreign})
  return home


def run(home, *command, **environment):
  done = start(*command, HF_HOME=str(home), HF_HUB_OFFLINE="1", **environment)
  return done


USE = """
import sys, numpy as np, sbir
model = sbir.from_pretrained("hf:org/pair@main")
image = np.zeros((16, 16, 3), np.uint8)
print(model.config["architecture"], model.encode_photos([image]).shape)
try:
  sbir.from_pretrained("hf:org/other")
except ValueError as error:
  print(error)
"""


@pytest.mark.slow
def test_a_package_on_the_hub_is_a_model(home):
  done = run(home, "-c", USE)
  first, second = done.stdout.splitlines()
  assert first == "xmodal-pair (1, 10)"
  assert second.startswith("hf:org/other is not in the cache, and HF_HUB_OFFLINE is set")


@pytest.mark.slow
@pytest.mark.parametrize(
  ("kind", "place", "file"),
  [
    ("dino", "hf:org/dino/deep/dino.pth", "dino.pth"),
    ("timm", "hf:org/timm", "pytorch_model.bin"),
  ],
)
def test_weights_on_the_hub_are_converted(home, tmp_path, kind, place, file):
  flags = ["--from", kind, "--in", place, "--heads", "3", "--out", tmp_path / "out"]
  done = run(home, "-m", "sbir.convert", *flags)
  assert done.returncode == 0, done.stderr
  source = json.loads((tmp_path / "out" / "config.json").read_text())["source"]
  digest = hashlib.sha256((home / f"{kind}.pth").read_bytes()).hexdigest()
  assert source == {"kind": kind, "file": file, "sha256": digest}


@pytest.mark.slow
def test_a_training_begins_from_the_hub_and_records_what_it_was_given(home, tmp_path):
  data = pskd_runs.of_data(pskd_runs.make_classes(tmp_path / "data"))
  place = "hf:org/dino/deep/dino.pth"
  settings = pskd_runs.TINY | {"epochs": "1", "warmup_epochs": "1", **data}
  settings |= {"init.kind": "dino", "init.path": place}
  arguments = pskd_runs.arguments("teacher.py:sketchy_mini", tmp_path / "run", settings)
  done = run(home, "-m", "pskd.train_teacher", *arguments)
  assert done.returncode == 0, done.stderr
  init = json.loads((tmp_path / "run" / "versions.json").read_text())["init"]
  digest = hashlib.sha256((home / "dino.pth").read_bytes()).hexdigest()
  assert init == {"path": place, "kind": "dino", "file": "dino.pth", "sha256": digest}


@pytest.mark.slow
def test_what_is_not_cached_ends_the_command_with_one_line(home, tmp_path):
  flags = ["--from", "timm", "--in", "hf:org/absent", "--out", tmp_path / "out"]
  done = run(home, "-m", "sbir.convert", *flags)
  assert done.returncode == 2
  assert done.stderr.startswith("error: hf:org/absent is not in the cache")
  assert len(done.stderr.splitlines()) == 1
  assert not (tmp_path / "out").exists()


PUSH = """
import sys, sbir
print(sbir.from_pretrained(sys.argv[1]).push_to_hub("org/name"))
"""


@pytest.mark.slow
def test_a_model_is_pushed_as_its_package(home, tmp_path):
  with serve() as server:
    done = start(
      *("-c", PUSH, home / "package"),
      HF_HOME=str(tmp_path),
      HF_ENDPOINT=server.address,
      HF_TOKEN="hf_test",
      HF_HUB_OFFLINE="0",
      NO_PROXY="127.0.0.1",
    )
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == f"{server.address}/org/name"
  create = json.loads(next(body for path, body in server.posted if "repos/create" in path))
  assert create["visibility"] == "private"
  names = [name for path, body in server.posted if "commit" in path for name in names_in(body)]
  files = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
  assert sorted(names) == files


def names_in(body):
  """Returns the paths of the files in a commit, which is a JSON object a line."""
  rows = [json.loads(line) for line in body.splitlines()]
  return [row["value"]["path"] for row in rows if row["key"] == "file"]

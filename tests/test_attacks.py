"""Hostile files, given to the real commands: one line, exit status 2, and nothing else happens."""

import builtins
import json
import os
import struct

import numpy as np
import pytest

from tests.packages import save_package
from tests.torch_files import View, save_torch
from tests.xmodal_runs import start

TEN_GIGABYTES = 10 * 2**30


class Calls:
  """Pickles as a call of `function`."""

  def __init__(self, function, *arguments):
    self.what = function, arguments

  def __reduce__(self):
    return self.what


def safetensors(path, header, data=b""):
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack("<Q", len(text)) + text + data)
  return path


def calls_system(folder, marker):
  return save_torch(folder / "a.pth", Calls(os.system, f"touch {marker}"))


def calls_eval(folder, marker):
  return save_torch(folder / "a.pth", {"x": Calls(builtins.eval, f"open({str(marker)!r}, 'w')")})


def calls_in_a_nested_container(folder, marker):
  hidden = {"model": [{"deep": ({"x": np.ones(2)}, [Calls(os.system, f"touch {marker}")])}]}
  return save_torch(folder / "a.pth", hidden)


def member_outside(folder, marker):
  outside = {f"../{marker.name}": b"x", f"archive/../../{marker.name}": b"x"}
  return save_torch(folder / "a.pth", {"x": np.ones(2, np.float32)}, extra=outside)


def ten_gigabytes(folder, marker):
  values = np.ones(4, np.float32)
  num = TEN_GIGABYTES // 4
  return save_torch(folder / "a.pth", {"x": View(values, 0, (num,), (1,), num=num)})


def ten_gigabytes_of_safetensors(folder, marker):
  num = TEN_GIGABYTES // 4
  header = {"x": {"dtype": "F32", "shape": [num], "data_offsets": [0, TEN_GIGABYTES]}}
  return safetensors(folder / "a.safetensors", header, bytes(16))


def short_storage(folder, marker):
  return save_torch(folder / "a.pth", {"x": View(np.ones(4, np.float32), 0, (2, 4), (4, 1))})


def overlapping_offsets(folder, marker):
  header = {n: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for n in ("a", "b")}
  return safetensors(folder / "a.safetensors", header, bytes(16))


def pickled_npz(folder, marker):
  np.savez(folder / "a.npz", x=np.array([Calls(os.system, f"touch {marker}")], object))
  return folder / "a.npz"


def config_with_a_path(folder, marker):
  package = save_package(folder / "package", "vit")
  config = json.loads((package / "config.json").read_text())
  config["source"]["file"] = f"../{marker.name}"
  (package / "config.json").write_text(json.dumps(config))
  return package


ATTACKS = {
  calls_system: "system, which no tensor needs",
  calls_eval: "builtins.eval, which no tensor needs|__builtin__.eval, which no tensor needs",
  calls_in_a_nested_container: "system, which no tensor needs",
  member_outside: "leads out of the archive",
  ten_gigabytes: "2684354560 of float32 are said to be there",
  ten_gigabytes_of_safetensors: "a.safetensors",
  short_storage: "reaches beyond its storage of 4",
  overlapping_offsets: "a.safetensors",
  pickled_npz: "cannot be read as .npz",
  config_with_a_path: "is a path, and a package names no file",
}
BOUNDED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_DATA, (6 * 2**30,) * 2)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_hostile_file_is_refused_in_one_line_and_nothing_happens(attack, tmp_path):
  folder, out = tmp_path / "given", tmp_path / "out"
  folder.mkdir()
  marker = tmp_path / "marker"
  path = attack(folder, marker)
  before = sorted(tmp_path.rglob("*"))
  module = ["sbir.convert", "--from", "timm", "--in"]
  if attack is config_with_a_path:
    module = ["sbir.export", "--format", "timm", "--model"]
  done = start("-c", BOUNDED, *module, path, "--out", out)
  assert done.returncode == 2, done.stderr
  assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1, done.stderr
  assert any(words in done.stderr for words in ATTACKS[attack].split("|")), done.stderr
  assert done.stdout == ""
  assert not marker.exists()
  assert sorted(tmp_path.rglob("*")) == before  # nothing is written, nothing is unpacked


def test_the_attacks_work_where_they_are_not_refused(tmp_path):
  """Else the test above would show nothing."""
  import pickle
  import zipfile

  path = calls_system(tmp_path, tmp_path / "marker")
  with zipfile.ZipFile(path) as archive:
    pickle.loads(archive.read("archive/data.pkl"))
  assert (tmp_path / "marker").exists()

"""The folder a model travels in: what is wrong with it is said in one line, nothing is run."""

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from sbir.models import from_pretrained
from sbir.package_folder import read_package, write_package
from sbir.path_free import find_path, is_path, last_part, without_paths
from sbir.preprocessing import from_json, to_json
from sbir.types import UserError
from tests.packages import PLAIN, make_package, save_package


@pytest.fixture
def folder(tmp_path):
  return save_package(tmp_path / "package", "pskd")


def edit(path, change):
  """Writes a JSON file anew after `change(value)`."""
  value = json.loads(path.read_text())
  change(value)
  path.write_text(json.dumps(value))


def refused(folder, message):
  with pytest.raises(UserError, match=message) as raised:
    from_pretrained(folder)
  assert "\n" not in str(raised.value)


def put(*keys, value):
  """Returns what sets value[keys[0]][keys[1]]... of a JSON file."""

  def change(tree):
    for key in keys[:-1]:
      tree = tree[key]
    tree[keys[-1]] = value

  return change


@pytest.mark.parametrize(
  "path",
  ["../../etc/passwd", "/etc/passwd", "..", "~/.ssh", "C:\\weights", "a/b.safetensors", "a\0b"],
)
@pytest.mark.parametrize(
  "keys", [("source", "file"), ("training", "data", "dir"), ("network", "x")]
)
def test_a_path_in_the_config_is_refused(folder, path, keys):
  edit(folder / "config.json", put(*keys, value=path))
  refused(folder, rf"config.json: {'.'.join(keys)}=.* is a path, and a package names no file")


def test_a_path_as_a_key_or_in_a_list_is_refused(folder):
  edit(folder / "config.json", put("classes", value=["ant", "bee", "../cow"]))
  refused(folder, r"config.json: classes='../cow' is a path")
  edit(folder / "config.json", put("classes", value=["ant", "bee", "cow"]))
  edit(folder / "config.json", put("training", value={"/etc": 1}))
  refused(folder, r"config.json: training='/etc' is a path")


@pytest.mark.parametrize(
  ("keys", "value", "message"),
  [
    (("auto_map",), "model.Evil", r"config.json is not of a package, found .*auto_map"),
    (("format",), 2, r"config.json: format 2 is not 1, which this version reads; update"),
    (("format",), "1", r"config.json: format='1' must be int"),
    (("format",), True, r"config.json: format=True must be int"),
    (("network",), [], r"config.json: network=\[\] must be dict"),
    (("architecture",), "os.system", r"architecture 'os.system' is unknown, expected one of vit"),
    (("network", "encoder", "depth"), 10**9, r"encoder.depth=1000000000 must be a whole number"),
    (("network", "encoder", "num_heads"), 5, r"encoder.num_heads=5 must divide the width 12"),
    (("network", "encoder", "width"), 24, r"model.safetensors does not fit this model"),
    (("network", "encoder", "depth"), 2, r"model.safetensors does not fit .*block_1/.* is missing"),
    (("network", "num_classes"), 4, r"classifier/bias is \(3,\), the model has \(4,\)"),
    (("network", "evil"), 1, r"network has the unknown keys 'evil'"),
    (("image_size",), 32, r"prepares images of 16 px and config.json expects 32"),
  ],
)
def test_a_config_that_cannot_be_is_refused(folder, keys, value, message):
  edit(folder / "config.json", put(*keys, value=value))
  refused(folder, message)


@pytest.mark.parametrize(
  ("keys", "value", "message"),
  [
    (("fit",), "crop", "fit 'crop', expected one of stretch, trim"),
    (("size", "height"), 10**6, "height 1000000, expected 1 to 8192"),
    (("size", "height"), "16", "height '16', expected 1 to"),
    (("size", "width"), 8, "'width': 8"),
    (("image_mean",), [0.5, 0.5], "expected three numbers each"),
    (("image_std",), [0.5, 0.0, 0.5], "expected above 0"),
    (("image_std",), [0.5, "x", 0.5], "expected three numbers each"),
    (("oriented_gradients",), 1, "oriented_gradients 1, expected true or false"),
    (("do_center_crop",), True, "'do_center_crop': True"),
  ],
)
def test_a_preparation_that_cannot_be_is_refused(folder, keys, value, message):
  edit(folder / "preprocessor_config.json", put(*keys, value=value))
  refused(folder, rf"preprocessor_config.json does not say how images are prepared .*{message}")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(
  "text", ["", "{", "[" * 100_000, '{"a": NaN}', "\xff", "null", "[]", '"x"', "{}"]
)
def test_text_that_is_no_such_json_is_refused(folder, name, text):
  (folder / name).write_bytes(text.encode("latin-1"))
  refused(folder, rf"{name} (is|does) no")


def test_weights_of_another_type_are_refused(folder):
  arrays = {"backbone/dist_token": np.zeros((1, 1, 12), np.float16)}
  save_file(arrays, folder / "model.safetensors")
  refused(folder, r"model.safetensors: expected float32 alone, found backbone/dist_token float16")


def test_overlapping_weights_are_refused(folder):
  header = {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in ("a", "b")}
  text = json.dumps(header).encode()
  data = struct.pack("<Q", len(text)) + text + bytes(16)
  (folder / "model.safetensors").write_bytes(data)
  refused(folder, r"model.safetensors ")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_missing_file_is_named(folder, name):
  (folder / name).unlink()
  refused(folder, rf"is no model package, it has no {name}; make one with python -m sbir.package")


def test_a_package_without_a_card_is_a_package(folder):
  (folder / "README.md").unlink()
  assert from_pretrained(folder).card == ""


def test_a_package_tells_nothing_of_the_makers_disk(folder):
  config = json.loads((folder / "config.json").read_text())
  assert config["training"]["data"] == {"dir": "photos", "name": "toy"}
  assert find_path(config) is None


def test_the_last_part_of_a_path_stays():
  assert [last_part(p) for p in ("/a/b", "a\\b/", "~/b", "../..", "~", "b/.")] == [
    "b", "b", "b", "", "", "b",
  ]  # fmt: skip
  assert not any(map(is_path, ["hot-air_balloon", "v1.0", "jack-o-lantern", "a b", ""]))
  assert without_paths({"x": ("/a/b", 1, None)}) == {"x": ["b", 1, None]}


def test_a_package_replaces_one_and_nothing_else(folder, tmp_path):
  write_package(folder, make_package("vit"))
  assert read_package(folder).config["architecture"] == "vit"
  (folder / "notes.txt").write_text("mine")
  with pytest.raises(
    UserError, match=r"package holds other things \(notes.txt\), expected an empty"
  ):
    write_package(folder, make_package("pskd"))
  assert read_package(folder).config["architecture"] == "vit"
  with pytest.raises(UserError, match=r"notes.txt is a file, expected a folder"):
    write_package(folder / "notes.txt", make_package("pskd"))
  assert sorted(path.name for path in tmp_path.iterdir()) == ["package"]


def test_a_package_that_cannot_be_written_leaves_the_old_one(folder, monkeypatch, tmp_path):
  import sbir.package_folder

  def full(*arguments):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(sbir.package_folder, "write_safetensors", full)
  with pytest.raises(UserError, match=r"package cannot be written \(No space left on device\)"):
    write_package(folder, make_package("vit"))
  assert read_package(folder).config["architecture"] == "pskd"
  assert sorted(path.name for path in tmp_path.iterdir()) == ["package"]


def test_a_preparation_survives_json():
  assert from_json(json.loads(json.dumps(to_json(PLAIN))), "test") == PLAIN

"""Tables, lists, paths and settings that nobody means: one line each, none is our mistake."""

from pathlib import Path

import pytest

from sbir import cli
from sbir.data import class_splits
from sbir.data.class_splits import own_list, unseen_classes
from sbir.data.files import existing_folder
from sbir.data.images import decode
from sbir.data.manifest import is_manifest, list_manifest
from sbir.embedding_file import read_embeddings
from sbir.given_weights import check_init, load
from sbir.npz_file import read_npz
from sbir.package_folder import check_free, read_package
from sbir.run_folder import check_writable, read_config
from sbir.safetensors_file import read_safetensors
from sbir.torch_file import read_torch
from sbir.types import UserError
from sbir.weight_files import read_weights

CONFIG = "configs/xmodal/teacher.py:demo"
TAKERS = {
  "data.dir": existing_folder,
  "an image": decode,
  "weights": read_weights,
  "a .pth": read_torch,
  "a .npz": read_npz,
  "a .safetensors": read_safetensors,
  "embeddings": read_embeddings,
  "a run folder": read_config,
  "a package": read_package,
  "a model": lambda path: load(path, "package", None, key="--model"),
  "data.split": unseen_classes,
  "data.seen": lambda path: own_list(path, "data.seen"),
  "init.path": lambda path: check_init({"kind": "timm", "path": path, "resample": False}, ["timm"]),
  "--config": cli.load_config,
}


@pytest.mark.parametrize(
  "path", ["x" * 300, "x/" * 30_000, "~nobody/x", "a\0b", "~\0", "\udce9"], ids=ascii
)
@pytest.mark.parametrize("what", TAKERS)
def test_a_path_that_no_system_can_have_is_a_users_mistake(what, path):
  with pytest.raises(UserError):
    TAKERS[what](path)


@pytest.mark.parametrize("check", [check_free, lambda path: check_writable(Path(path))])
def test_a_place_to_write_to_that_no_system_can_have_is_not_our_mistake(check):
  for path in ("x" * 300, "a\0b"):
    try:
      check(path)
    except UserError:
      continue


def manifest(folder, text):
  (folder / "manifest.csv").write_text(text)
  return folder


def test_a_manifest_may_name_a_path_that_is_too_long(tmp_path):
  row = f"{'x' * 300},photo,1,train\n"
  found = list_manifest("a", manifest(tmp_path, f"path,modality,instance,split\n{row}"), "train")
  assert "does not exist, but manifest.csv lists it" in found.problems[0]
  assert not is_manifest("x" * 300)


def test_a_column_that_is_there_twice_is_refused(tmp_path):
  text = "path,modality,instance,split,split\na.png,photo,1,train,test\n"
  with pytest.raises(UserError, match="has the column split twice"):
    list_manifest("a", manifest(tmp_path, text), "train")


@pytest.mark.parametrize("same", ["./a.png", "a.png/", ".//a.png"])
def test_one_path_in_two_spellings_is_there_twice(tmp_path, same):
  text = f"path,modality,instance,split\na.png,photo,1,train\n{same},photo,2,test\n"
  with pytest.raises(UserError, match=r"lists 1 paths more than once \(first: a\.png\)"):
    list_manifest("a", manifest(tmp_path, text), "train")


def test_a_list_of_classes_is_not_read_to_the_end_of_a_huge_file(tmp_path, monkeypatch):
  monkeypatch.setattr(class_splits, "MAX_LIST", 10)
  (tmp_path / "list.txt").write_text("ant\nbee\ncow")
  with pytest.raises(UserError, match="has more than 10 letters, expected a class in each line"):
    own_list(tmp_path / "list.txt", "data.seen")


NO_NUMBERS = (
  *("-" * 9000 + "1", "1" + "+1" * 9000, "(" * 150, "[" * 9000, "9" * 400, "9" * 5000, "{[]: 1}"),
)


@pytest.mark.parametrize("text", NO_NUMBERS, ids=lambda text: f"{text[:4]}x{len(text)}")
def test_a_number_that_is_none_is_a_users_mistake(text):
  with pytest.raises(UserError, match=r"optimizer.learning_rate=.*: expected float") as refused:
    cli.load_config(CONFIG, {"optimizer.learning_rate": text})
  assert len(str(refused.value)) < 300


def test_a_config_that_is_no_python_file_is_refused(tmp_path):
  (tmp_path / "config.so").write_bytes(b"\x7fELF")
  for file in (tmp_path / "config.so", "README.md"):
    with pytest.raises(UserError, match="expected a Python file with get_config"):
      cli.load_config(f"{file}:demo")

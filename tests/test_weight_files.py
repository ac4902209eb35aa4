"""Files of weights are known by what is in them; what is no file of weights says what it is."""

import hashlib
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from sbir.safetensors_file import write_safetensors
from sbir.types import UserError
from sbir.weight_files import read_weights, sha256
from tests.safetensors_files import make, tensor
from tests.torch_files import save_torch

ARRAYS = {
  "a.kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
  "a.bias": np.zeros(3, np.float32),
}


def write(path, kind):
  if kind == "safetensors":
    write_safetensors(path, ARRAYS)
  elif kind == "torch":
    save_torch(path, ARRAYS)
  else:
    save = np.savez if kind == "npz" else np.savez_compressed
    with open(path, "wb") as file:
      save(file, **ARRAYS)
  return path


def refusal(path, *names):
  with pytest.raises(UserError) as error:
    read_weights(path, *names)
  message = str(error.value)
  assert message.startswith(f"{path} ") and len(message.splitlines()) == 1
  return message.removeprefix(f"{path} ")


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth", ".bin", ""])
@pytest.mark.parametrize("kind", ["safetensors", "torch", "npz", "compressed npz"])
def test_a_file_is_known_by_what_is_in_it(tmp_path, kind, suffix):
  found = read_weights(write(tmp_path / f"weights{suffix}", kind))
  assert found.keys() == ARRAYS.keys()
  for name, array in ARRAYS.items():
    np.testing.assert_array_equal(found[name], array)


def test_the_first_entry_that_a_checkpoint_has_is_its_state_dict(tmp_path):
  path = save_torch(tmp_path / "a", {"student": ARRAYS, "teacher": {"x": np.ones(2)}, "epoch": 3})
  assert read_weights(path, "teacher", "student").keys() == {"x"}
  assert read_weights(path, "model", "student").keys() == ARRAYS.keys()
  assert "holds no state dict" in refusal(path, "model")


def test_a_header_that_begins_as_a_pickle_does_is_still_a_header(tmp_path):
  text = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x80)
  (tmp_path / "a").write_bytes(make(text, np.float32(5).tobytes()))
  assert (tmp_path / "a").read_bytes()[:1] == b"\x80"
  np.testing.assert_array_equal(read_weights(tmp_path / "a")["x"], [5])


# --- what is refused ------------------------------------------------------------------------------

PAGE = b"<!DOCTYPE html>\n<html><body>Log in</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 343249461\n"
OTHERS = {
  "empty": (b"", "is empty: its download was stopped; fetch it again"),
  "page": (PAGE, "is a web page, not weights; download the file itself"),
  "page after a line": (b"\xef\xbb\xbf\r\n" + PAGE, "is a web page"),
  "pointer": (POINTER, "is a pointer of git-lfs, not the file; fetch that with git lfs pull"),
  "single array": (b"\x93NUMPY\1\0v\0{'descr'", "is a single array, not named ones"),
  "Keras": (b"\x89HDF\r\n\x1a\n" + bytes(99), "is HDF5 (Keras), which is not read"),
  "gzip": (b"\x1f\x8b\x08" + bytes(99), "is packed with gzip; unpack it first"),
  "text": (b"hello, how are you?", "is of no kind that is read; expected a .safetensors, a .npz"),
  "one byte": (b"x", "is of no kind that is read"),
  "old PyTorch": (
    pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps({"x": 1}, 2),
    "is in PyTorch's form of before 1.6",
  ),
  "safetensors cut in its header": (
    make({"x": tensor("F32", [1], 0, 4)})[:40],
    "is refused as .safetensors (its header would have",
  ),
  "safetensors cut in its data": (
    make({"x": tensor("F32", [9], 0, 36)}, bytes(20)),
    "is refused as .safetensors (incomplete metadata, file not fully covered)",
  ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_file_of_weights_says_what_it_is(tmp_path, name):
  data, message = OTHERS[name]
  (tmp_path / "a").write_bytes(data)
  assert refusal(tmp_path / "a").startswith(message)


@pytest.mark.parametrize("kind", ["torch", "npz"])
def test_a_zip_cut_anywhere_is_refused(tmp_path, kind):
  data = write(tmp_path / "whole", kind).read_bytes()
  for end in (4, 40, len(data) // 2, len(data) - 1):
    (tmp_path / "a").write_bytes(data[:end])
    assert refusal(tmp_path / "a").startswith("is cut short or damaged (File is not a zip file)")


@pytest.mark.parametrize(
  ("members", "held"), [({"photos/1.jpg": b"", "x.npy": b""}, "'photos/1.jpg, x.npy'"), ({}, None)]
)
def test_a_zip_of_something_else_is_refused(tmp_path, members, held):
  with zipfile.ZipFile(tmp_path / "a", "w") as archive:
    for name, data in members.items():
      archive.writestr(name, data)
  message = refusal(tmp_path / "a")
  assert message.startswith(f"is a zip of something else ({held})" if held else "is of no kind")


def test_a_pickled_object_in_an_npz_is_not_loaded(tmp_path):
  np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
  assert refusal(tmp_path / "a.npz").startswith("cannot be read as .npz (Object arrays cannot be")


@pytest.mark.parametrize("num", [10**10, 10**14], ids=["40 GB", "400 TB"])
def test_an_array_of_an_npz_that_says_to_be_larger_than_the_file_is_refused(tmp_path, num):
  header = io.BytesIO()
  described = {"descr": "<f4", "fortran_order": False, "shape": (num,)}
  np.lib.format.write_array_header_1_0(header, described)
  with zipfile.ZipFile(tmp_path / "a", "w") as archive:
    archive.writestr("x.npy", header.getvalue() + bytes(16))
  assert refusal(tmp_path / "a").startswith("cannot be read as .npz (")


def test_a_folder_is_named_with_what_is_in_it(tmp_path):
  (tmp_path / "model.safetensors").touch()
  (tmp_path / "config.json").touch()
  assert refusal(tmp_path).endswith("name a file (it holds config.json, model.safetensors)")


@pytest.mark.parametrize("make_it", [lambda path: None, os.mkfifo], ids=["missing", "pipe"])
def test_what_is_not_there_or_no_file_is_named(tmp_path, make_it):
  make_it(tmp_path / "a")
  assert refusal(tmp_path / "a").startswith("is not a file; give the path of a .safetensors")


# --- sha256 ---------------------------------------------------------------------------------------


def test_sha256_is_that_of_the_bytes(tmp_path):
  data = bytes(range(256)) * 20_000
  (tmp_path / "a").write_bytes(data)
  assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_sha256_of_a_missing_file_is_one_line(tmp_path):
  with pytest.raises(UserError, match=r"a cannot be read \(No such file or directory\)"):
    sha256(tmp_path / "a")

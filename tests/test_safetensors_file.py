"""safetensors: what is written comes back, the same bytes each time; a wrong file is one line."""

import json
import os
import struct
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from sbir.safetensors_file import MAX_HEADER, WRITABLE, read_safetensors, write_safetensors
from sbir.types import UserError
from tests.paths import REPO
from tests.safetensors_files import make, tensor


def draw(*shape, dtype=np.float32):
  return (np.random.default_rng(0).normal(size=shape) * 50).astype(dtype)


def read(tmp_path, data):
  (tmp_path / "a.safetensors").write_bytes(data)
  return read_safetensors(tmp_path / "a.safetensors")


# --- what is written comes back -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", sorted(WRITABLE - {"bfloat16"}))
def test_arrays_come_back_as_they_were(tmp_path, dtype):
  arrays = {"a/b/kernel": draw(3, 4, 5, dtype=dtype), "number": draw(dtype=dtype)}
  arrays |= {"none": np.zeros((0, 4), dtype), "one": draw(1, dtype=dtype)}
  write_safetensors(tmp_path / "a", arrays)
  found = read_safetensors(tmp_path / "a")
  assert {name: array.dtype.name for name, array in found.items()} == dict.fromkeys(arrays, dtype)
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array)
    assert found[name].shape == array.shape


def test_what_is_read_may_be_written_to(tmp_path):
  write_safetensors(tmp_path / "a", {"x": draw(3), "y": draw(3)})
  found = read_safetensors(tmp_path / "a")
  found["x"][:] = 0
  np.testing.assert_array_equal(found["y"], draw(3))
  np.testing.assert_array_equal(read_safetensors(tmp_path / "a")["x"], draw(3))


def test_the_bytes_of_bfloat16_are_read_as_float32(tmp_path):
  data = bytes.fromhex("803f 00c0 4940".replace(" ", ""))  # 1, -2, 3.140625
  found = read(tmp_path, make({"x": tensor("BF16", [3], 0, 6)}, data))["x"]
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, [1, -2, 3.140625])


def test_bfloat16_is_written_as_such(tmp_path):
  array = draw(7, dtype=ml_dtypes.bfloat16)
  write_safetensors(tmp_path / "a", {"x": array})
  assert b'"BF16"' in (tmp_path / "a").read_bytes()
  np.testing.assert_array_equal(read_safetensors(tmp_path / "a")["x"], array.astype(np.float32))


def test_a_bool_of_any_byte_but_zero_is_true(tmp_path):
  found = read(tmp_path, make({"x": tensor("BOOL", [3], 0, 3)}, b"\0\1\2"))["x"]
  assert found.dtype == np.bool_ and found.tobytes() == b"\0\1\1"


@pytest.mark.parametrize("change", ["transposed", "every second", "big-endian"])
def test_how_an_array_lies_in_memory_does_not_matter(tmp_path, change):
  array = draw(4, 6)
  other = {
    "transposed": np.asfortranarray(array),
    "every second": np.repeat(array, 2, axis=1)[:, ::2],
    "big-endian": array.astype(">f4"),
  }[change]
  write_safetensors(tmp_path / "a", {"x": array})
  write_safetensors(tmp_path / "b", {"x": other})
  assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_values_lie_in_the_file_in_little_endian_order(tmp_path):
  write_safetensors(tmp_path / "a", {"x": np.array([1, 258], np.int32)})
  assert (tmp_path / "a").read_bytes()[-8:] == b"\1\0\0\0\2\1\0\0"


def test_the_same_arrays_give_the_same_bytes_in_every_process(tmp_path):
  code = (
    "import sys, numpy as np; from sbir.safetensors_file import write_safetensors;"
    "arrays = {f'layer_{i}': np.full((i, 2), i, ('f4', 'i8', '?')[i % 3]) for i in range(40)};"
    "order = sorted(arrays, reverse=sys.argv[2] == '1');"
    "write_safetensors(sys.argv[1], {n: arrays[n] for n in order}, {'format': 'pt'})"
  )
  for i in "01":
    environment = {**os.environ, "PYTHONHASHSEED": i}
    command = [sys.executable, "-c", code, str(tmp_path / i), i]
    subprocess.run(command, cwd=REPO, env=environment, check=True)
  assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


def test_metadata_is_written_only_when_given(tmp_path):
  write_safetensors(tmp_path / "a", {"x": draw(2)})
  write_safetensors(tmp_path / "b", {"x": draw(2)}, {"format": "pt"})
  headers = []
  for name in "ab":
    data = (tmp_path / name).read_bytes()
    headers.append(json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]]))
  assert "__metadata__" not in headers[0]
  assert headers[1]["__metadata__"] == {"format": "pt"}
  np.testing.assert_array_equal(read_safetensors(tmp_path / "b")["x"], draw(2))


def test_metadata_whose_order_would_change_is_refused(tmp_path):
  with pytest.raises(ValueError, match="metadata has 2 entries, expected at most one"):
    write_safetensors(tmp_path / "a", {"x": draw(2)}, {"format": "pt", "made_by": "me"})


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({}, "expected arrays"),
    ({"__metadata__": draw(2)}, "none of them named __metadata__"),
    ({"x": np.zeros(2, complex)}, "x is complex128, expected one of bfloat16, bool, float16"),
    ({"x": np.array([None])}, "x is object"),
  ],
)
def test_what_the_format_cannot_hold_is_not_written(tmp_path, arrays, message):
  with pytest.raises(ValueError, match=message):
    write_safetensors(tmp_path / "a", arrays)
  assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
  write_safetensors(tmp_path / "a", {"x": draw(2)})

  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(UserError, match=r"a cannot be written \(No space left on device\)"):
    write_safetensors(tmp_path / "a", {"x": draw(3)})
  assert [path.name for path in tmp_path.iterdir()] == ["a"]
  np.testing.assert_array_equal(read_safetensors(tmp_path / "a")["x"], draw(2))


# --- what is refused ------------------------------------------------------------------------------

ONE = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
ATTACKS = {
  "empty": (b"", "it has 0 bytes, too few for a header"),
  "three bytes": (b"abc", "it has 3 bytes"),
  "text": (b"<!DOCTYPE html><html></html>", "another kind of file"),
  "no header": (make(b""), "Expecting value"),
  "header beyond the file": (make(ONE, bytes(4), length=5000), "header would have 5000 bytes"),
  "header of 2^63 bytes": (make(ONE, bytes(4), length=2**63), "header would have 92233720"),
  "no JSON": (make(b"{x}"), "refused"),
  "not UTF-8": (make(b'{"\xff":1}'), "refused"),
  "nested": (make(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "recursion"),
  "a list": (make(b"[]"), "refused"),
  "nothing in it": (make({}), "it holds no arrays"),
  "twice": (make(b'{"x":1,' + ONE[1:], bytes(4)), "names 'x' twice"),
  "two the same": (make(ONE[:-1] + b"," + ONE[1:], bytes(4)), "names 'x' twice"),
  "two shapes": (make(ONE.replace(b'"shape"', b'"shape":[],"shape"'), bytes(4)), "'shape' twice"),
  "overlap": (
    make({"x": tensor("F32", [2], 0, 8), "y": tensor("F32", [2], 4, 12)}, bytes(12)),
    "invalid offset for tensor `y`",
  ),
  "hole": (
    make({"x": tensor("F32", [1], 0, 4), "y": tensor("F32", [1], 8, 12)}, bytes(12)),
    "invalid offset for tensor `y`",
  ),
  "backwards": (make({"x": tensor("F32", [1], 8, 4)}, bytes(12)), "invalid offset"),
  "10 GB": (make({"x": tensor("F32", [2_500_000_000], 0, 10**10)}, bytes(8)), "not fully covered"),
  "cut short": (make({"x": tensor("F32", [9], 0, 36)}, bytes(35)), "not fully covered"),
  "more behind": (make(ONE, bytes(5)), "not fully covered"),
  "other shape": (make({"x": tensor("F32", [3], 0, 8)}, bytes(8)), "invalid shape"),
  "2^80 values": (make({"x": tensor("F32", [2**40, 2**40], 0, 8)}, bytes(8)), "overflow"),
  "none of 2^62": (make({"x": tensor("F32", [0, 2**62], 0, 0)}), "refused"),
  "negative": (make({"x": tensor("F32", [-1], 0, 8)}, bytes(8)), "invalid"),
  "100 axes": (make({"x": tensor("F32", [1] * 100, 0, 4)}, bytes(4)), "maximum"),
  "float8": (make({"x": tensor("F8_E4M3", [4], 0, 4)}, bytes(4)), "'x' is F8_E4M3, expected one"),
  "complex": (make({"x": tensor("C64", [1], 0, 8)}, bytes(8)), "'x' is C64, expected one of"),
  "half bytes": (make({"x": tensor("F4", [2], 0, 1)}, bytes(1)), "'x' is F4, expected one of"),
  "unknown dtype": (make({"x": tensor("X9", [2], 0, 1)}, bytes(1)), "unknown variant `X9`"),
  "lines in a name": (make({"x\ny\r": tensor("F8_E4M3", [4], 0, 4)}, bytes(4)), "is F8_E4M3"),
  "colour in a name": (make({"\33[1m": tensor("F32", [1], 1, 5)}, bytes(5)), "tensor `?[1m`"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path, name):
  data, part = ATTACKS[name]
  with pytest.raises(UserError) as error:
    read(tmp_path, data)
  message = str(error.value)
  assert f"{tmp_path}/a.safetensors is refused as .safetensors (" in message and part in message
  assert len(message.splitlines()) == 1 and message.endswith("; fetch it again")


def test_a_file_cut_anywhere_is_refused(tmp_path):
  whole = make({"x": tensor("F32", [9], 0, 36)}, bytes(36))
  assert read(tmp_path, whole)["x"].shape == (9,)
  for end in range(len(whole)):
    with pytest.raises(UserError, match=r"is refused as \.safetensors"):
      read(tmp_path, whole[:end])


def test_a_large_file_of_another_form_is_not_read(tmp_path):
  path = tmp_path / "a.safetensors"
  path.write_bytes(b"PK\3\4 and so on: a length beyond all bounds")
  os.truncate(path, 10**13)  # takes no room on the disk
  with pytest.raises(UserError, match=r"is refused as \.safetensors"):
    read_safetensors(path)


def test_a_header_too_large_to_be_one_is_not_read(tmp_path):
  assert MAX_HEADER < 10**8
  path = tmp_path / "a.safetensors"
  path.write_bytes(make(b"{", length=MAX_HEADER + 1))
  os.truncate(path, 10**13)
  with pytest.raises(UserError, match=f"expected at most {MAX_HEADER} within"):
    read_safetensors(path)


@pytest.mark.parametrize(("name", "reason"), [("a", "No such file"), (".", "Is a directory")])
def test_a_file_that_is_not_there_is_named(tmp_path, name, reason):
  with pytest.raises(UserError, match=rf"cannot be read \({reason}.*\); check the path"):
    read_safetensors(tmp_path / name)

"""PyTorch's checkpoints are read for what is in them, and nothing in them is run."""

import argparse
import builtins
import collections
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from sbir.torch_file import read_torch, state_dict_of
from sbir.types import UserError
from tests.fuzz_pth import TENSOR, laughs, of_pickle, short_storage
from tests.paths import GOLDENS, needs_shared
from tests.torch_files import View, save_torch


def draw(*shape, dtype=np.float32):
  return np.random.default_rng(0).normal(size=shape).astype(dtype)


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.bool_])
def test_tensors_come_back_as_they_were(tmp_path, dtype):
  array = draw(3, 4, 5, dtype=dtype)
  found = read_torch(save_torch(tmp_path / "a.pth", {"x": array}))["x"]
  assert found.dtype == dtype
  np.testing.assert_array_equal(found, array)


def test_bfloat16_becomes_float32_without_a_digit_lost(tmp_path):
  array = draw(7, dtype=ml_dtypes.bfloat16)
  found = read_torch(save_torch(tmp_path / "a.pth", [array]))[0]
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found.astype(ml_dtypes.bfloat16), array)


def test_views_of_one_storage_are_arrays_of_their_own(tmp_path):
  storage = np.arange(12, dtype=np.float32)
  views = {
    "rows": View(storage, 0, (3, 4), (4, 1)),
    "transposed": View(storage, 0, (4, 3), (1, 4)),
    "every second of the last row": View(storage, 8, (2,), (2,)),
    "one": View(storage, 5, (), ()),
    "none": View(storage, 0, (0, 4), (4, 1)),
  }
  found = read_torch(save_torch(tmp_path / "a.pth", views))
  grid = storage.reshape(3, 4)
  np.testing.assert_array_equal(found["rows"], grid)
  np.testing.assert_array_equal(found["transposed"], grid.T)
  np.testing.assert_array_equal(found["every second of the last row"], [8, 10])
  assert found["one"] == 5 and found["none"].shape == (0, 4)
  found["rows"][:] = 0
  assert found["transposed"][1, 1] == 5


def test_containers_values_and_settings_come_back_plain(tmp_path):
  value = {
    "args": argparse.Namespace(lr=0.1, arch="vit_small"),
    "epoch": 5,
    "list": [1, (2.5, None, "x", True)],
    "state": collections.OrderedDict(a=draw(2)),
  }
  found = read_torch(save_torch(tmp_path / "a.pth", value))
  assert found["args"] == {"lr": 0.1, "arch": "vit_small"} and found["epoch"] == 5
  assert found["list"] == [1, (2.5, None, "x", True)]
  assert type(found["state"]) is dict
  np.testing.assert_array_equal(found["state"]["a"], draw(2))


@needs_shared
@pytest.mark.parametrize(
  ("file", "num"),
  [("dino_full_checkpoint", 38), ("pskd_student", 39), ("timm_vit", 32), ("xmodal_teacher", 150)],
)
def test_files_of_the_published_code_are_read(file, num):
  path = GOLDENS / f"import/{file}.pth"
  arrays = state_dict_of(read_torch(path), file, "teacher", "student")
  assert len(arrays) == num
  assert not any(name.startswith("module.") for name in arrays)
  assert all(np.isfinite(array).all() for array in arrays.values())


def test_a_checkpoint_without_tensors_has_no_state_dict():
  with pytest.raises(UserError, match=r"a.pth holds no state dict, .+ teacher; found epoch, args"):
    state_dict_of({"epoch": 1, "args": {}}, "a.pth", "teacher")


# --- what is refused ------------------------------------------------------------------------------


class Calls:
  """Pickles as a call of `function`."""

  def __init__(self, function, *arguments):
    self._call = function, arguments

  def __reduce__(self):
    return self._call


@pytest.fixture
def refused(tmp_path):
  """Returns refused(value, ...) -> the message; checks that the marker never appears."""

  def read(value=None, *, raw=None, **options):
    path = tmp_path / "bad.pth"
    if raw is None:
      save_torch(path, value, **options)
    else:
      path.write_bytes(raw)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UserError) as error:
      read_torch(path)
    assert sorted(os.listdir(tmp_path)) == before, "something was run"
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    return message

  return read


@pytest.mark.parametrize("nested", [False, True], ids=["bare", "nested"])
@pytest.mark.parametrize("name", ["system", "eval", "getattr"])
def test_a_pickle_that_calls_something_is_refused_before_it_runs(refused, tmp_path, name, nested):
  marker = tmp_path / "marker"
  calls = {
    "system": Calls(os.system, f"touch {marker}"),
    "eval": Calls(builtins.eval, f"open({str(marker)!r}, 'w')"),
    "getattr": Calls(getattr, os, "system"),
  }
  if name == "getattr":
    calls["getattr"] = Calls(getattr, "x", "upper")
  value = {"state": [(1, {"deep": calls[name]})]} if nested else calls[name]
  module = "posix" if name == "system" else "__builtin__"
  assert f"names {module}.{name}, which no tensor needs" in refused(value)


DICT_OF_A_LIST = b"ccollections\nOrderedDict\n]\x85R"


@pytest.mark.parametrize(
  ("code", "message"),
  [
    # Sets an attribute of the class that it names.
    (b"cargparse\nNamespace\n(N}X\5\0\0\0triedK\1stb", "a _Maker where a dict belongs"),
    (b"cargparse\nNamespace\n", "it holds a _Maker, expected tensors and plain values"),
    (DICT_OF_A_LIST, "a dict or settings of something else"),
    (b"})K\1s", "a key is tuple, expected a text or a number"),
    (b"}\x8a\x09" + bytes(8) + b"\1K\1s", "a key is int, expected a text or a number of 64 bits"),
    (b"]q\0h\0a", "something in it holds itself"),
    (b"I1\n", "the instruction INT, which no tensor needs"),
    (b"c__builtin__\neval\n", "names __builtin__.eval"),
    (b"]" * 100_000 + b"a" * 99_999, "recursion"),
  ],
)
def test_a_pickle_does_nothing_but_hold_tensors_and_plain_values(refused, code, message):
  assert message in refused(raw=of_pickle(b"\x80\2" + code + b"."))


def test_lists_that_hold_each_other_in_many_ways_are_read_once(tmp_path):
  (tmp_path / "a.pth").write_bytes(of_pickle(laughs(depth=60)))
  found = read_torch(tmp_path / "a.pth")
  for _ in range(59):
    assert found[0] is found[1]
    found = found[0]


def test_a_tensor_that_is_held_often_is_one_array(tmp_path):
  code = b"\x80\2(" + TENSOR + b"q\1" + b"h\1" * 10_000 + b"t."
  (tmp_path / "a.pth").write_bytes(of_pickle(code))
  found = read_torch(tmp_path / "a.pth")
  assert len(found) == 10_001 and all(array is found[0] for array in found)


def test_many_views_of_the_same_values_are_refused(refused):
  storage = draw(10**6)
  views = [View(storage, 0, (10**6,), (1,)) for _ in range(8)]
  assert "its tensors show the same values again and again" in refused(views)


def test_a_storage_that_is_shorter_than_the_archive_says_is_refused(refused):
  # numpy would have shown what lies behind it in memory.
  assert "its member 'a/data/0' has 8 of 4000000 bytes" in refused(raw=short_storage())


@pytest.mark.parametrize(
  ("view", "message"),
  [
    (View(draw(6), 0, (2, 4), (4, 1)), r"reaches beyond its storage of 6"),
    (View(draw(6), 5, (2,), (1,)), r"reaches beyond its storage of 6"),
    (View(draw(6), 0, (3, 3), (1, 1)), r"overlap"),
    (View(draw(6), 0, (6,), (0,)), r"overlap"),
    (View(draw(6), -1, (2,), (1,)), r"cannot be"),
    (View(draw(6), 0, (2, 3), (1,)), r"cannot be"),
    (View(draw(6), 0, (2_500_000_000,), (1,), num=2_500_000_000), r"has 24 bytes, 2500000000 of"),
  ],
)  # fmt: skip
def test_a_tensor_that_is_not_in_its_storage_is_refused(refused, view, message):
  assert message in refused({"x": view})


def test_a_storage_that_is_not_there_is_refused(refused):
  assert "storage '0' is not there" in refused({"x": draw(3)}, drop=["archive/data/0"])


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "archive/..\\outside", "C:/out"])
def test_a_member_that_leads_out_of_the_archive_is_refused(refused, name):
  assert "leads out of the archive" in refused({"x": draw(3)}, extra={name: b"x"})


def test_a_compressed_member_is_refused(refused):
  message = refused({"x": np.zeros(10**6, np.float32)}, compression=zipfile.ZIP_DEFLATED)
  assert "is compressed, torch.save never does" in message


def test_members_that_overlap_are_refused(refused, tmp_path):
  path = save_torch(tmp_path / "good.pth", {"x": draw(3000)})
  with zipfile.ZipFile(path, "a") as archive:
    info = archive.getinfo("archive/data/0")
    for i in range(1, 4):  # more names for the same bytes
      twin = zipfile.ZipInfo(f"archive/data/{i}")
      twin.header_offset, twin.CRC = info.header_offset, info.CRC
      twin.file_size = twin.compress_size = info.file_size
      archive.filelist.append(twin)
      archive.NameToInfo[twin.filename] = twin
    archive._didModify = True
  data = path.read_bytes()
  path.unlink()
  assert "they overlap" in refused(raw=data)


def test_big_endian_bytes_are_refused(refused):
  assert "big-endian" in refused({"x": draw(3)}, extra={"archive/byteorder": b"big"})


def test_the_old_form_is_refused_with_the_way_to_save_it_again(refused):
  message = refused(raw=pickle.dumps({"x": 1}, protocol=2))
  assert "form of before 1.6" in message and "save it again with torch.save(" in message


def test_a_file_cut_short_is_refused(refused, tmp_path):
  whole = save_torch(tmp_path / "whole.pth", {"x": draw(300)})
  data = whole.read_bytes()
  whole.unlink()
  for end in (0, 3, len(data) // 2, len(data) - 1):
    assert "is refused as a PyTorch checkpoint" in refused(raw=data[:end])


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(UserError, match=r"a.pth cannot be read \(No such file or directory\)"):
    read_torch(tmp_path / "a.pth")

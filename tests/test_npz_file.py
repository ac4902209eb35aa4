"""Files of Google's ViTs: what cannot be read is said in one line, and nothing in them is run."""

import zipfile

import numpy as np
import pytest

from sbir.npz_file import read_npz
from sbir.types import UserError
from tests.fuzz_npz import GOOD, npy
from tests.fuzz_zips import Entry, make_zip
from tests.released_files import augreg_arrays


@pytest.fixture
def saved(tmp_path):
  def save(arrays):
    path = tmp_path / "vit.npz"
    np.savez(path, **arrays)
    return str(path)

  return save


def corrupt(path, how):
  """Writes a file that cannot be read, in one of the ways files come to be so."""
  whole = path.read_bytes()
  if how == "cut short":
    path.write_bytes(whole[: len(whole) // 2])
  elif how == "empty":
    path.write_bytes(b"")
  elif how == "a flipped block":
    path.write_bytes(whole[:400] + bytes(200) + whole[600:])
  elif how == "a page of text":
    path.write_text("<html>404</html>")
  elif how == "a single array":
    with path.open("wb") as file:
      np.save(file, np.ones(3))
  elif how == "pickled objects":
    np.savez(path, cls=np.array([{}], object))
  elif how == "an archive of other things":
    with zipfile.ZipFile(path, "w") as archive:
      archive.writestr("readme.txt", "nothing")
  elif how == "a bomb":
    np.savez_compressed(path, cls=np.zeros(1_000_000, np.float32))


@pytest.mark.parametrize(
  "how",
  [
    "cut short",
    "empty",
    "a flipped block",
    "a page of text",
    "a single array",
    "pickled objects",
    "an archive of other things",
    "a bomb",
  ],
)
def test_a_file_that_cannot_be_read_is_named(saved, tmp_path, how):
  path = saved(augreg_arrays())
  corrupt(tmp_path / "vit.npz", how)
  with pytest.raises(UserError, match=r"vit\.npz cannot be read as \.npz \(.+\); fetch it again"):
    read_npz(path)


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
  with pytest.raises(UserError, match="is not a file"):
    read_npz(tmp_path)


def test_compressed_weights_are_read(tmp_path):
  arrays = augreg_arrays()
  np.savez_compressed(tmp_path / "vit.npz", **arrays)
  found = read_npz(tmp_path / "vit.npz")
  assert found.keys() == arrays.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array)


NUMBERS = npy(GOOD, bytes(48))
HOSTILE = {
  "encrypted": (NUMBERS, {"flags": 1}, "is encrypted"),
  "packed with lzma": (NUMBERS, {"method": 14}, "is packed as numpy never does"),
  "packed with bzip2": (NUMBERS, {"method": 12}, "is packed as numpy never does"),
  "no end of a text": (npy("'" * 3), {}, ""),
  "deep brackets": (npy("-" * 9000 + "1"), {}, ""),
  "a huge number": (npy(GOOD.replace("(2, 6)", f"({10**30},)")), {}, "its header speaks of"),
  "too large": (npy(GOOD.replace("(2, 6)", f"({2**40},)"), bytes(48)), {}, "its header speaks of"),
  "below nothing": (npy(GOOD.replace("(2, 6)", "(-2, 6)"), bytes(48)), {}, "its header speaks of"),
  "an odd dtype": (npy(GOOD.replace("<f4", "(1 2)f4")), {}, ""),
  "version 9": (npy(GOOD, bytes(48), (9, 9)), {}, "is of version (9, 9)"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_member_that_lies_is_refused(tmp_path, how):
  data, lies, message = HOSTILE[how]
  (tmp_path / "vit.npz").write_bytes(make_zip([Entry(b"cls.npy", data, lies)]))
  with pytest.raises(UserError, match=r"vit\.npz cannot be read as \.npz") as refused:
    read_npz(tmp_path / "vit.npz")
  assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("array", [np.array(["a"]), np.zeros(2, "V3"), np.zeros(2, "M8[s]")])
def test_what_is_no_number_is_no_weight(tmp_path, array):
  np.savez(tmp_path / "vit.npz", cls=array)
  with pytest.raises(UserError, match="no array of numbers"):
    read_npz(tmp_path / "vit.npz")


def test_two_members_of_one_name_are_refused(tmp_path):
  (tmp_path / "vit.npz").write_bytes(make_zip([Entry(b"cls.npy", NUMBERS)] * 2))
  with pytest.raises(UserError, match="two of its members have one name"):
    read_npz(tmp_path / "vit.npz")

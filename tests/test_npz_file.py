"""Files of Google's ViTs: what cannot be read is said in one line, and nothing in them is run."""

import zipfile

import numpy as np
import pytest

from sbir.npz_file import read_npz
from sbir.types import UserError
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

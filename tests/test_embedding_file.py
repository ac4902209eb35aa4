"""Files of embeddings from anywhere: a hostile one is refused in one line, and takes little."""

import numpy as np
import pytest

from sbir.embedding_file import read_embeddings
from sbir.types import UserError
from tests.fuzz_npz import EMBEDDING_NAMES, npy, npz_bombs
from tests.fuzz_zips import Entry, make_zip
from tests.test_npz_file import HOSTILE


def refusal(path, data):
  """Returns the one line with which a file of these bytes is refused."""
  path.write_bytes(data)
  with pytest.raises(UserError) as refused:
    read_embeddings(path)
  assert "\n" not in str(refused.value)
  return str(refused.value)


@pytest.mark.parametrize("how", HOSTILE)
def test_a_member_that_lies_is_refused(tmp_path, how):
  data, lies, _ = HOSTILE[how]
  members = [Entry(f"{name}.npy".encode(), data, lies) for name in EMBEDDING_NAMES]
  message = refusal(tmp_path / "a.npz", make_zip(members))
  assert "query cannot be read, the file is damaged" in message or "is damaged or no" in message


def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path):
  message = refusal(tmp_path / "a.npz", npz_bombs(*EMBEDDING_NAMES)[0])
  assert "is damaged or no .npz file" in message


def test_a_single_array_is_not_read_whatever_size_it_says_to_have(tmp_path):
  header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}"
  assert "is a single array, expected an .npz" in refusal(tmp_path / "a.npz", npy(header))


def test_labels_that_compress_well_are_read(tmp_path):
  arrays = {"query": np.eye(4), "gallery": np.tile(np.eye(4), (5000, 1))}
  labels = {"query_label": np.arange(4), "gallery_label": np.zeros(20_000, int)}
  np.savez_compressed(tmp_path / "a.npz", **arrays, **labels)
  assert read_embeddings(tmp_path / "a.npz").gallery.shape == (20_000, 4)

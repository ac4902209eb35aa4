"""What runs leave and models travel in may be damaged, or made to harm: refused, or passed by."""

import zlib

import numpy as np
import pytest

from sbir import provenance, run_folder
from sbir.logs import read_metrics
from sbir.package_folder import read_package
from sbir.stored_rows import StoredRows
from sbir.types import UserError
from tests.fuzz_folders import CONFIG, HOW
from tests.fuzz_npz import npy
from tests.safetensors_files import make, tensor

DEEP = b"[" * 100_000
DAMAGED = {"deep": DEEP, "not UTF-8": b"\xff", "a list": b"[1]", "cut": b'{"a": '}


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_config_of_a_run_is_refused(tmp_path, how):
  (tmp_path / "config.json").write_bytes(DAMAGED[how])
  with pytest.raises(UserError, match=r"config\.json cannot be read"):
    run_folder.read_config(tmp_path)


@pytest.mark.parametrize(
  "text",
  [*DAMAGED.values(), b'{"packages": 5, "devices": 3, "command": 7}', b'{"devices": [[], 1]}'],
  ids=[*DAMAGED, "numbers", "lists"],
)
def test_versions_of_any_kind_are_told_as_far_as_they_go(tmp_path, text):
  (tmp_path / "versions.json").write_bytes(text)
  assert provenance.commands([tmp_path]) == []
  assert all(isinstance(text, str) for text in provenance.versions(tmp_path).values())
  assert provenance.init_text(tmp_path, {"init": {"kind": "timm"}}) == "timm weights"


@pytest.mark.parametrize(
  "text",
  [
    *DAMAGED.values(),
    b'{"metrics": {"a": "x"}, "intervals": {"a": [0, 1]}, "chance": {}}',
    b'{"metrics": {"a": 1}, "intervals": {"a": 5}, "chance": {}}',
  ],
  ids=[*DAMAGED, "a word", "no pair"],
)
def test_an_evaluation_that_is_none_is_refused(tmp_path, text):
  (tmp_path / "config.json").write_text('{"data": {"name": "a"}, "protocol": "p"}')
  (tmp_path / "evaluation.json").write_bytes(text)
  with pytest.raises(UserError, match="is not a readable evaluation"):
    provenance.read_evaluation(tmp_path)


@pytest.mark.parametrize("line", [*DAMAGED.values(), b"{}", b'{"step": "1"}'], ids=ascii)
def test_metrics_are_read_up_to_the_first_line_that_is_none(tmp_path, line):
  (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
  assert read_metrics(tmp_path) == [{"step": 1}]


# --- stored rows ----------------------------------------------------------------------------------


def open_rows(root):
  return StoredRows(root, {"of": "a test"}, num_rows=4, row_shape=(3,))


HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}}}"


@pytest.mark.parametrize(
  "shard",
  [
    npy(HEADER.format("<f4", "(3, 3)"), bytes(36)),
    npy(HEADER.format("<f8", "(4, 3)"), bytes(96)),
    npy(HEADER.format("|O", "(4, 3)"), bytes(96)),
    npy(HEADER.format("<f4", "(4, 3)"), bytes(52)),
    npy("'" * 3),
    b"",
  ],
  ids=["a row less", "float64", "objects", "more behind it", "a broken header", "empty"],
)
def test_a_shard_whose_checksum_fits_but_not_its_array_is_filled_again(tmp_path, shard):
  rows = open_rows(tmp_path)
  rows.folder.mkdir()
  (rows.folder / f"0000000_{zlib.crc32(shard):08x}.npy").write_bytes(shard)
  assert open_rows(tmp_path).missing() == [0]


def test_a_folder_in_place_of_a_shard_counts_as_missing(tmp_path):
  (open_rows(tmp_path).folder / "0000000_00000000.npy").mkdir(parents=True)
  assert open_rows(tmp_path).missing() == [0]


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_description_is_none_of_ours(tmp_path, how):
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "about.json").write_bytes(DAMAGED[how])
  open_rows(tmp_path).remove_stale(lambda about: True)
  assert (tmp_path / "other" / "about.json").exists()


# --- packages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("names", "message"),
  [
    (["a", "a/b"], "'a' is an array and has others in it"),
    (["a/b/c", "a/b"], "'a/b' is an array and has others in it"),
    (["a/" * 1000], "has 1001 parts"),
  ],
  ids=["array first", "group first", "deep"],
)
def test_weights_whose_names_make_no_tree_are_refused(tmp_path, names, message):
  spans = {name: tensor("F32", [1], 4 * i, 4 * i + 4) for i, name in enumerate(names)}
  numbers = np.zeros(len(names), np.float32).tobytes()
  (tmp_path / "model.safetensors").write_bytes(make(spans, numbers))
  (tmp_path / "config.json").write_bytes(CONFIG)
  (tmp_path / "preprocessor_config.json").write_bytes(HOW)
  with pytest.raises(UserError, match="convert it again") as refused:
    read_package(tmp_path)
  assert message in str(refused.value) and len(str(refused.value)) < 400

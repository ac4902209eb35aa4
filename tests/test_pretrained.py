"""Weights of others become ours whole, or are refused with all that is wrong."""

import jax
import ml_dtypes
import numpy as np
import pytest

from sbir import trees
from sbir.network import shapes_of
from sbir.types import UserError
from tests.released_files import (
  CONVERTERS,
  LARGEST_ENTRY,
  SMALL,
  augreg_arrays,
  convert,
  released_teacher,
)
from tests.vit_layouts import count, drawn, timm_from_augreg, timm_shapes


@pytest.fixture(params=CONVERTERS)
def name(request):
  return request.param


def test_every_entry_is_used_or_left_out_with_a_reason(name):
  arrays = drawn(CONVERTERS[name][0])
  converted = convert(name, arrays)
  assert sorted([*converted.used, *converted.dead]) == sorted(arrays)
  assert all(converted.dead.values())
  used = {entry: arrays[entry] for entry in converted.used}
  assert count(trees.flatten(converted.params)) == count(used)


def test_the_description_builds_the_network_that_the_weights_are_of(name):
  converted = convert(name, drawn(CONVERTERS[name][0]))
  network = CONVERTERS[name][2](converted.network)
  trees.merge(shapes_of(network, converted.image_size), converted.params, what=name)
  assert converted.image_size == 8
  sizes = {"width": 12, "depth": 2, "num_heads": 3, "patch_size": 4}
  assert converted.network["encoder"] == sizes


@pytest.mark.parametrize("stranger", ["strange", "blocks.0.strange.weight", "Transformer/strange"])
def test_an_entry_that_nobody_expects_is_refused_by_name(name, stranger):
  arrays = drawn(CONVERTERS[name][0]) | {stranger: np.ones(3, np.float32)}
  found = (
    rf"file\.pth .* 1 of its {len(arrays)} entries have no place \({stranger} \(3,\) float32\)"
  )
  with pytest.raises(UserError, match=found):
    convert(name, arrays)


def test_all_that_is_wrong_is_said_at_once_and_in_one_line(name):
  arrays = drawn(CONVERTERS[name][0])
  entry = LARGEST_ENTRY[name]
  short = {entry.replace("1.mlp", "0.mlp").replace("block_1", "block_0"): np.ones((2, 3))}
  short = {other: array.astype(np.float32) for other, array in short.items()}
  del arrays[entry]
  with pytest.raises(UserError) as refused:
    convert(name, arrays | short | {"odd\nname": np.ones(2, np.float32)})
  line = str(refused.value)
  assert "\n" not in line and line.startswith("file.pth ")
  assert r"'odd\nname' (2,)" in line
  assert "block_1/mlp/fc1/kernel (12, 48) is missing" in line
  assert "block_0/mlp/fc1/kernel is (" in line and "the model has (12, 48)" in line


def test_a_block_missing_in_the_middle_is_refused(name):
  arrays = drawn(CONVERTERS[name][0])
  kept = {n: a for n, a in arrays.items() if "blocks.0." not in n and "encoderblock_0/" not in n}
  with pytest.raises(UserError, match=r"block_0/attention/out/bias \(12,\) is missing") as refused:
    convert(name, kept)
  missing = 24 if name == "xmodal-teacher" else 12  # and nothing else: the other is in its place
  assert f"is missing; and {missing - 8} more)" in str(refused.value)


def test_an_entry_of_other_axes_of_integers_or_not_finite_is_refused(name):
  arrays = drawn(CONVERTERS[name][0])
  entry = next(n for n in arrays if n.endswith(("norm.bias", "encoder_norm/bias")))
  for array, shown in (
    (np.ones((12, 1), np.float32), r"\(12, 1\) float32\)$"),
    (np.ones(12, np.int64), r"\(12,\) int64\)$"),
    (np.full(12, np.nan, np.float32), r"\(12,\) float32, not all finite\)$"),
    (np.full(12, 1e300), r"\(12,\) float64, not all finite\)$"),
  ):
    with pytest.raises(UserError, match=rf"1 of its .* have no place \({entry} {shown}"):
      convert(name, arrays | {entry: array})


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_weights_of_other_precision_are_read_in_float32(name, dtype):
  arrays = {n: a.astype(dtype) for n, a in drawn(CONVERTERS[name][0]).items()}
  leaves = jax.tree.leaves(convert(name, arrays).params)
  assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}


def test_an_empty_file_and_a_file_of_something_else_are_refused(name):
  with pytest.raises(UserError, match=r"file\.pth is not of the expected network.*: it is empty$"):
    convert(name, {})
  with pytest.raises(UserError, match=r"1 of its 1 entries have no place \(conv\.weight"):
    convert(name, {"conv.weight": np.ones((2, 2), np.float32)})


def test_one_network_under_both_names_becomes_one_tree():
  arrays = augreg_arrays()
  ours, theirs = convert("augreg", arrays), convert("timm", timm_from_augreg(arrays, SMALL.depth))
  jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
  assert ours.network == theirs.network


# --- attention heads ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CONVERTERS if name != "augreg"])
def test_without_a_number_of_heads_each_has_64_of_the_width(name):
  with pytest.raises(UserError, match=r"width 12 is no multiple of 64; give --heads N"):
    convert(name, drawn(CONVERTERS[name][0]), num_heads=0)
  wide = timm_shapes(128, 1, 4, 8)
  assert convert("timm", drawn(wide), num_heads=0).network["encoder"]["num_heads"] == 2


@pytest.mark.parametrize("num_heads", [5, 24, -3])
def test_heads_that_do_not_divide_the_width_are_refused(name, num_heads):
  with pytest.raises(UserError, match=rf"file\.pth .*{num_heads}"):
    convert(name, drawn(CONVERTERS[name][0]), num_heads=num_heads)


def test_googles_files_tell_their_heads():
  assert convert("augreg", augreg_arrays(), num_heads=0).network["encoder"]["num_heads"] == 3
  with pytest.raises(UserError, match="has 3 attention heads, not 2; leave --heads out"):
    convert("augreg", augreg_arrays(), num_heads=2)


def test_googles_files_of_two_numbers_of_heads_are_refused():
  arrays = augreg_arrays()
  entry = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/query/kernel"
  with pytest.raises(UserError, match="has layers of 2, 3 heads"):
    convert("augreg", arrays | {entry: arrays[entry].reshape(12, 2, 6)})


@pytest.mark.parametrize("fusion_heads", [0, -1, 5])
def test_fusion_heads_must_divide_the_width(fusion_heads):
  with pytest.raises(UserError, match=rf"--fusion-heads {fusion_heads} must divide the width 12"):
    convert("xmodal-teacher", drawn(released_teacher()), fusion_heads=fusion_heads)


# --- files ----------------------------------------------------------------------------------------

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbir import trees
from sbir.types import UserError

NAMES = st.text("abcxyz_0123456789", min_size=1, max_size=6)
LEAVES = st.builds(np.full, st.tuples(st.integers(1, 3), st.integers(1, 3)), st.integers(-9, 9))
FEW = settings(max_examples=30, deadline=None)
TREES = st.dictionaries(
  NAMES,
  st.recursive(LEAVES, lambda below: st.dictionaries(NAMES, below, min_size=1, max_size=3)),
  min_size=1,
  max_size=4,
)
PARAMS = {
  "encoder": {"norm": {"scale": np.ones(2)}, "fc": {"kernel": np.ones((2, 3)), "bias": np.ones(3)}},
  "head": {"kernel": np.zeros((3, 1))},
}


def assert_same(left, right):
  jax.tree.map(np.testing.assert_array_equal, left, right)


def test_leaves_are_named_by_their_path():
  assert list(trees.flatten(PARAMS)) == [
    "encoder/fc/bias",
    "encoder/fc/kernel",
    "encoder/norm/scale",
    "head/kernel",
  ]


@FEW
@given(tree=TREES)
def test_a_tree_is_what_its_names_say(tree):
  assert_same(trees.unflatten(trees.flatten(tree)), tree)


@FEW
@given(tree=TREES, chosen=st.sets(st.integers(0, 20)))
def test_a_tree_that_was_split_merges_to_itself(tree, chosen):
  named = trees.flatten(tree)
  here = {name: leaf for i, (name, leaf) in enumerate(named.items()) if i in chosen}
  there = {name: leaf for i, (name, leaf) in enumerate(named.items()) if i not in chosen}
  fresh = jax.tree.map(np.zeros_like, tree)
  assert_same(trees.merge(fresh, trees.unflatten(there | here), what="parts"), tree)


def test_merging_needs_only_the_shapes_of_the_target():
  shapes = jax.eval_shape(lambda: PARAMS)
  assert_same(trees.merge(shapes, PARAMS, what="file"), PARAMS)


def test_a_mask_says_for_each_leaf_by_name_and_value():
  is_matrix_of_encoder = trees.mask(PARAMS, lambda n, x: n.startswith("encoder") and x.ndim == 2)
  assert trees.flatten(is_matrix_of_encoder) == {
    "encoder/fc/bias": False,
    "encoder/fc/kernel": True,
    "encoder/norm/scale": False,
    "head/kernel": False,
  }


def test_a_pattern_is_searched_anywhere_in_the_name():
  masked = trees.flatten(trees.mask_by_pattern(PARAMS, r"norm/|bias$"))
  assert [name for name, is_found in masked.items() if is_found] == [
    "encoder/fc/bias",
    "encoder/norm/scale",
  ]


def test_every_misfit_is_named_at_once():
  source = {
    "encoder": {"fc": {"kernel": np.ones((2, 4)), "bias": np.ones(3)}, "extra": np.ones(5)},
    "head": {"kernel": np.zeros((3, 1))},
  }
  with pytest.raises(UserError) as raised:
    trees.merge(PARAMS, source, what="weights.npz")
  assert str(raised.value) == (
    "weights.npz does not fit this model, check its config (3): "
    "encoder/norm/scale (2,) is missing; encoder/extra (5,) has no place; "
    "encoder/fc/kernel is (2, 4), the model has (2, 3)"
  )


def test_of_many_misfits_the_first_are_named_and_the_rest_counted():
  target = {f"block_{i:02d}": np.ones(1) for i in range(11)}
  with pytest.raises(UserError, match=r"\(11\): .*block_07 \(1,\) is missing; and 3 more$"):
    trees.merge(target, {}, what="weights.npz")

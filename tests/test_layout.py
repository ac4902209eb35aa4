"""Which axis of which array is cut, and what is left on each device."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.pskd import student as pskd_student
from configs.xmodal import student as xmodal_student
from configs.xmodal import teacher as xmodal_teacher
from pskd.stages import make_net
from pskd.tasks import init_net
from sbir import layout, mesh
from sbir.types import UserError
from tests.paths import REPO
from xmodal import stages

SHAPES = st.lists(st.integers(1, 64), max_size=4).map(tuple)


def teacher(name):
  config = xmodal_teacher.get_config(name)
  images = np.zeros((1, config.image_size, config.image_size, 3), np.float32)
  init = lambda key: stages.make_teacher(config).init(key, images, images)["params"]
  return jax.eval_shape(init, jax.random.key(0))


def student(name):
  config = xmodal_student.get_config(name)
  images = np.zeros((1, config.image_size, config.image_size, 3), np.float32)
  init = lambda key: stages.make_student(config, 96).init(key, images)["params"]
  return jax.eval_shape(init, jax.random.key(0))


def two_token(name):
  config = pskd_student.get_config(name)
  net = make_net(config, 100)
  return jax.eval_shape(lambda key: init_net(net, key, config.image_size), jax.random.key(0))


NETWORKS = {
  "xmodal teacher, published": lambda: teacher("shoe_v2"),
  "xmodal student, published": lambda: student("shoe_v2"),
  "pskd, published": lambda: two_token("sketchy21"),
  "xmodal teacher, demo": lambda: teacher("demo"),
  "xmodal student, demo": lambda: student("demo"),
  "pskd, demo": lambda: two_token("demo"),
}


def share_of_one(params, num_shards):
  """Returns the part of all parameters' bytes that one of `num_shards` devices holds."""
  whole = cut = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    axis = layout.axis_to_cut(name, leaf.shape, num_shards)
    whole += leaf.size
    cut += leaf.size if axis is None else leaf.size // num_shards
  return cut / whole


@pytest.mark.parametrize("network", NETWORKS)
def test_with_eight_shards_a_device_holds_at_most_a_sixth_of_the_parameters(network):
  assert share_of_one(NETWORKS[network](), 8) <= 1 / 6


def test_what_the_devices_hold_is_what_the_rules_say():
  code = """if True:
    import jax, numpy as np
    from sbir.layout import layout_of
    from sbir.mesh import make_mesh
    from tests.test_layout import share_of_one, teacher
    shapes = teacher("demo")
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    params = jax.device_put(params, layout_of(params, make_mesh(data=1, fsdp=8)))
    held = {device: 0 for device in jax.devices()}
    for leaf in jax.tree.leaves(params):
      for shard in leaf.addressable_shards:
        held[shard.device] += shard.data.nbytes
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert len(held) == 8 and max(held.values()) <= whole / 6, (held, whole)
    assert max(held.values()) == round(whole * share_of_one(shapes, 8)), (held, whole)
  """
  environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
  subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO, env=environment)


@given(shape=SHAPES, num_shards=st.sampled_from([2, 3, 4, 8]), min_size=st.sampled_from([1, 64]))
def test_only_an_axis_that_divides_is_cut_and_the_longest_of_those(shape, num_shards, min_size):
  axis = layout.axis_to_cut("name", shape, num_shards, (), min_size=min_size)
  fitting = [length for length in shape if length % num_shards == 0]
  if axis is None:
    assert not fitting or np.prod(shape) < min_size
  else:
    assert shape[axis] == max(fitting) and np.prod(shape) >= min_size


def test_the_first_rule_that_is_found_in_a_name_decides():
  rules = (("kernel$", 0), ("mu/", None))
  assert layout.axis_to_cut("mu/head/kernel", (64, 128), 8, rules) == 0
  assert layout.axis_to_cut("mu/head/scale", (64, 128), 8, rules) is None
  assert layout.axis_to_cut("nu/head/scale", (64, 128), 8, rules) == 1


@pytest.mark.parametrize("rule", [("kernel", 1), ("kernel", 2)])
def test_a_rule_that_cannot_be_followed_is_refused(rule):
  message = rf"rule 'kernel' cuts axis {rule[1]} of head/kernel \(64, 129\), .*mesh.fsdp=8"
  with pytest.raises(UserError, match=message):
    layout.axis_to_cut("head/kernel", (64, 129), 8, (rule,))


def test_queues_stay_whole_and_moments_are_cut_as_their_parameters():
  of = lambda name: layout.axis_to_cut(name, (384, 1152), 8)
  assert of("extra/queue/keys") is None
  assert of("params/block_0/kernel") == of("opt_state/1/mu/block_0/kernel") == 1


def test_without_shards_everything_is_whole():
  tree = {"a": np.zeros((64, 128)), "b": np.zeros(3)}
  everywhere = mesh.make_mesh()
  assert layout.layout_of(tree, everywhere) == dict.fromkeys("ab", mesh.replicated(everywhere))

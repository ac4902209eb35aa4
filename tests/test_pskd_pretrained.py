"""The weights that PSKD's networks can begin from: DINO's, a plain ViT's, the authors' own."""

import ast

import jax
import numpy as np
import pytest

from pskd.begin import begin
from pskd.model import Head, TwoTokenNet, TwoTokenViT
from pskd.pretrained import convert_released
from pskd.tasks import init_net
from sbir import trees
from sbir.nn.vit import ViT
from sbir.torch_file import read_torch
from sbir.types import UserError
from sbir.vit_rules import DINO_HEAD
from tests.paths import GOLDENS, needs_shared
from tests.pskd_tiny import IMAGE, PATCH, make_net, random_params
from tests.released_files import augreg_arrays
from tests.torch_files import save_torch
from tests.vit_layouts import dino_shapes, drawn, timm_shapes
from tests.xmodal_tiny import quick_jit


def dino_arrays(seed=0, with_head=True):
  """Returns random weights of a DINO checkpoint that fit the tiny network."""
  if with_head:
    return drawn(dino_shapes(24, 1, PATCH, IMAGE, hidden=16, bottleneck=12, outputs=7), seed)
  return drawn(timm_shapes(24, 1, PATCH, IMAGE), seed)


def begun_from(path, fresh, kind="dino", *, image_size=IMAGE, num_heads=2):
  """Returns the parameters that a training begins from."""
  init = {"kind": kind, "path": str(path), "resample": False}
  return begin({"init": init, "image_size": image_size}, fresh, num_heads)[0]


@pytest.fixture
def fresh():
  return random_params(make_net(), seed=3)


@pytest.fixture
def start(tmp_path, fresh):
  """Returns start(arrays) -> the parameters that begin from these, read from a file."""

  def run(arrays, kind="dino"):
    np.savez(tmp_path / "weights.npz", **arrays)
    return begun_from(tmp_path / "weights.npz", fresh, kind)

  return run


def test_both_tokens_begin_as_the_class_token_in_its_place(start):
  arrays = dino_arrays()
  begun = start(arrays)["backbone"]
  for name in ("dist_token", "fusion_token"):
    np.testing.assert_array_equal(begun[name], arrays["backbone.cls_token"])
  positions = arrays["backbone.pos_embed"][0]
  np.testing.assert_array_equal(begun["pos_embed"][0], positions[[0, 0, 1, 2, 3, 4]])


def test_the_mlp_begins_as_dinos_and_the_classifier_at_random(start, fresh):
  arrays = dino_arrays()
  begun = start(arrays)["head"]
  for place, name in DINO_HEAD.items():
    np.testing.assert_array_equal(begun[name]["kernel"], arrays[f"head.mlp.{place}.weight"].T)
    np.testing.assert_array_equal(begun[name]["bias"], arrays[f"head.mlp.{place}.bias"])
  jax.tree.map(np.testing.assert_array_equal, begun["classifier"], fresh["head"]["classifier"])


@pytest.mark.parametrize("with_head", [True, False], ids=["full checkpoint", "backbone file"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_of_torch_begins_as_its_entries_do(start, fresh, tmp_path, with_head, prefix):
  arrays = dino_arrays(with_head=with_head)
  state = {f"{prefix}{name}": array for name, array in arrays.items()}
  saved = {"teacher": state, "student": {}, "epoch": 9} if with_head else state
  path = save_torch(tmp_path / "dino.pth", saved)
  begun = begun_from(path, fresh)
  jax.tree.map(np.testing.assert_array_equal, begun, start(arrays))


@pytest.mark.parametrize("kind", ["dino", "augreg"])
def test_without_a_head_in_the_file_the_mlp_stays_random_and_that_is_said(
  start, fresh, capfd, kind
):
  plain = ViT(24, 1, 2, PATCH)
  arrays = dino_arrays(with_head=False) if kind == "dino" else augreg_arrays(plain, side=IMAGE)
  begun = start(arrays, kind)
  jax.tree.map(np.testing.assert_array_equal, begun["head"], fresh["head"])
  cls_token = arrays["cls_token" if kind == "dino" else "cls"]
  np.testing.assert_array_equal(begun["backbone"]["fusion_token"], cls_token)
  assert "has no head: its MLP begins from random weights" in capfd.readouterr().err


def test_a_random_start_is_left_alone(fresh):
  assert begun_from("", fresh, "random") is fresh


def without(name):
  arrays = dino_arrays()
  del arrays[name]
  return arrays


def with_one(name, shape, dtype=np.float32):
  return dino_arrays() | {name: np.zeros(shape, dtype)}


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    (
      with_one("backbone.pos_embed", (1, 10, 24)),
      r"was trained on images of 24 px, this model takes 16",
    ),
    (with_one("head.mlp.2.weight", (9, 16)), r"head/fc2/kernel is \(16, 9\), the model has"),
    (with_one("backbone.strange", (2,)), r"1 of its \d+ entries have no place \(backbone.strange"),
    (with_one("backbone.norm.bias", (24, 1)), r"have no place \(backbone.norm.bias"),
    (with_one("backbone.norm.bias", (24,), np.int32), r"norm.bias \(24,\) int32"),
    (without("backbone.norm.bias"), r"encoder/norm/bias \(24,\) is missing"),
    (without("backbone.cls_token"), r"encoder/cls_token \(1, 1, 24\) is missing"),
    (without("backbone.pos_embed"), r"encoder has no positions"),
    (without("head.mlp.2.weight"), r"head/fc2/kernel \(16, 16\) is missing"),
    (without("head.mlp.4.bias"), r"head/fc3/bias \(12,\) is missing"),
  ],
)
def test_weights_of_another_network_are_refused_by_name(start, arrays, message):
  with pytest.raises(UserError, match=message) as refused:
    start(arrays)
  assert "init.path=" in str(refused.value)


def test_a_vit_of_another_number_of_heads_is_refused(start):
  with pytest.raises(UserError, match=r"it has 3 attention heads, this model 2"):
    start(augreg_arrays(ViT(24, 1, 3, PATCH), side=IMAGE), "augreg")


def test_a_head_of_which_a_layer_is_missing_is_refused(start):
  arrays = {name: x for name, x in dino_arrays().items() if not name.startswith("head.mlp.2")}
  with pytest.raises(UserError, match=r"head/fc2/kernel \(16, 16\) is missing"):
    start(arrays)


# --- files of the authors' ------------------------------------------------------------------------

SIZES = {  # of the goldens' network
  "image_size": 32,
  "patch_size": 8,
  "dim": 36,
  "depth": 2,
  "num_heads": 3,
  "head_hidden": 48,
  "bottleneck": 24,
  "num_classes": 7,
}
PLACES = ("dim", "depth", "num_heads", "patch_size")


@pytest.fixture(scope="module")
def expected():
  return dict(np.load(GOLDENS / "import" / "expected.npz"))


def golden_net():
  """Returns the network that the goldens were made with."""
  head = Head(SIZES["num_classes"], SIZES["head_hidden"], SIZES["bottleneck"])
  return TwoTokenNet(TwoTokenViT(*(SIZES[name] for name in PLACES)), head)


def fresh_golden():
  shapes = jax.eval_shape(lambda key: init_net(golden_net(), key, 32), jax.random.key(0))
  return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


@pytest.fixture(scope="module")
def dino():
  """The teacher of a full DINO checkpoint, by its own names."""
  return read_torch(GOLDENS / "import" / "dino_full_checkpoint.pth")["teacher"]


def close(ours, theirs):
  np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@needs_shared
def test_a_student_that_begins_from_dino_gives_the_published_fusion_token(expected, dino, tmp_path):
  np.savez(tmp_path / "dino.npz", **dino)
  path = tmp_path / "dino.npz"
  params = begun_from(path, fresh_golden(), image_size=32, num_heads=3)
  with jax.default_matmul_precision("highest"):
    out = quick_jit(golden_net().apply)(
      {"params": params}, expected["dino_image"].transpose(0, 2, 3, 1)
    )
  close(out.fusion, expected["pskd_init_fusion_token"])
  close(out.dist, expected["pskd_init_fusion_token"])  # one and the same at the start


@pytest.fixture(scope="module")
def released():
  """The student of a PSKD checkpoint, without the name of its wrapper."""
  saved = read_torch(GOLDENS / "import" / "pskd_student.pth")["student"]
  return {name.removeprefix("module."): array for name, array in saved.items()}


@needs_shared
def test_a_released_checkpoint_fills_the_network(released):
  loaded = convert_released(released, num_heads=3, what="checkpoint").params
  params = trees.merge(fresh_golden(), loaded, what="checkpoint")
  classifier = params["head"]["classifier"]["kernel"]
  np.testing.assert_array_equal(classifier, released["head_fusion.fc.weight"].T)


@needs_shared
def test_the_unused_head_of_a_released_checkpoint_is_left_out(released):
  unused = {"head.mlp.0.weight": np.ones((2, 2), np.float32)}
  unused |= {"head_dist.fc.bias": np.ones(2, np.float32)}
  converted = convert_released(released | unused, num_heads=3, what="checkpoint")
  assert converted.dead.keys() == unused.keys()
  assert set(converted.params["head"]) == {"fc1", "fc2", "fc3", "classifier"}


@needs_shared
@pytest.mark.parametrize(
  "stranger",
  ["backbone.cls_token", "head_fusion.mlp.1.weight", "epoch", "module.backbone.norm.bias"],
)
def test_a_strange_entry_of_a_released_checkpoint_is_refused(released, stranger):
  with pytest.raises(UserError, match=rf"1 of its \d+ entries have no place \({stranger}"):
    convert_released(released | {stranger: np.zeros((1, 1, 36), np.float32)}, what="file")


@needs_shared
def test_the_goldens_are_of_the_sizes_said_here():
  config = ast.literal_eval(str(np.load(GOLDENS / "pskd_a.npz")["config"]))
  assert {name: config[name] for name in SIZES} == SIZES

"""Others' files, converted, give what the code they come from gives on the same images."""

import ast

import jax
import numpy as np
import pytest

from pskd.packaged import build as build_pskd
from pskd.pretrained import convert_released
from sbir import plain_vit
from sbir.npz_file import read_npz
from sbir.pretrained import convert_vit
from sbir.torch_file import read_torch, state_dict_of
from tests.paths import GOLDENS, needs_shared
from tests.xmodal_tiny import quick_jit
from xmodal.packaged import build_student, build_teacher
from xmodal.pretrained import convert_student, convert_teacher

pytestmark = needs_shared
IMPORT = GOLDENS / "import"


@pytest.fixture(autouse=True)
def _exact():
  with jax.default_matmul_precision("highest"):
    yield


@pytest.fixture(scope="module")
def goldens():
  files = {"expected": IMPORT / "expected.npz"}
  files |= {name: GOLDENS / f"{name}.npz" for name in ("xmodal_a", "pskd_a")}
  return {name: dict(np.load(path)) for name, path in files.items()}


def state_dict(name, *entries):
  return state_dict_of(read_torch(IMPORT / name), name, *entries)


def forward(network, converted, **images):
  """Returns the outputs for images that lie as PyTorch has them."""
  images = {name: pixels.transpose(0, 2, 3, 1) for name, pixels in images.items()}
  return quick_jit(network.forward)(converted.params, images)


def assert_close(ours, theirs, relative=1e-5):
  assert ours.shape == theirs.shape
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * np.abs(theirs).max())


def sizes(golden, key="config"):
  return ast.literal_eval(str(golden[key]))


def check_encoder(encoder, said, prefix=""):
  depth, heads, width = (
    f"{prefix}depth",
    f"{prefix}heads" if prefix else "num_heads",
    f"{prefix}dim",
  )
  expected = {"width": said[width], "depth": said[depth], "num_heads": said[heads]}
  assert encoder == expected | {"patch_size": said["patch_size"]}


@pytest.mark.parametrize("modality", ["photo", "sketch"])
def test_dinos_full_checkpoint_gives_dinos_token_and_bottleneck(goldens, modality):
  golden = goldens["expected"]
  said = sizes(golden)
  arrays = state_dict("dino_full_checkpoint.pth", "teacher")
  converted = convert_vit(arrays, "dino", num_heads=said["num_heads"], what="dino")
  check_encoder(converted.network["encoder"], said)
  assert converted.network["hidden"] == said["head_hidden"]
  assert converted.network["bottleneck"] == said["bottleneck"]
  assert sorted(converted.dead) == ["head.last_layer.weight_g", "head.last_layer.weight_v"]
  network = plain_vit.build(converted.network)
  out = forward(network, converted, **{modality: golden["dino_image"]})
  assert_close(out[modality], golden["dino_cls"])
  assert_close(out[f"{modality}_bottleneck"], golden["dino_head_bottleneck"])


def test_dinos_backbone_file_is_the_same_without_a_head(goldens):
  golden = goldens["expected"]
  full = state_dict("dino_full_checkpoint.pth", "teacher")
  arrays = {n.removeprefix("backbone."): a for n, a in full.items() if n.startswith("backbone.")}
  converted = convert_vit(arrays, "dino", num_heads=sizes(golden)["num_heads"], what="dino")
  out = forward(plain_vit.build(converted.network), converted, photo=golden["dino_image"])
  assert list(out) == ["photo"] and not converted.dead
  assert_close(out["photo"], golden["dino_cls"])


@pytest.mark.parametrize("kind", ["augreg", "timm"])
def test_googles_file_and_timms_are_the_same_network(goldens, kind):
  golden = goldens["expected"]
  said = sizes(golden, "augreg_config")
  arrays = read_npz(IMPORT / "augreg_vit.npz") if kind == "augreg" else state_dict("timm_vit.pth")
  num_heads = 0 if kind == "augreg" else said["num_heads"]
  converted = convert_vit(arrays, kind, num_heads=num_heads, what=kind)
  check_encoder(converted.network["encoder"], said)
  assert converted.image_size == said["image_size"] and len(converted.dead) == 2
  out = forward(plain_vit.build(converted.network), converted, photo=golden["augreg_image"])
  assert_close(out["photo"], golden["augreg_cls"])


@pytest.mark.parametrize("which", ["q", "k"])
def test_the_authors_teacher_gives_their_fused_vectors(goldens, which):
  golden = goldens["xmodal_a"]
  said = sizes(golden)
  heads = {"num_heads": said["num_heads"], "fusion_heads": said["fusion_heads"]}
  converted = convert_teacher(state_dict("xmodal_teacher.pth"), **heads, what="teacher")
  check_encoder(converted.network["encoder"], said)
  assert converted.network["fusion_depth"] == said["fusion_depth"] * said["cross_attn_depth"]
  assert converted.network["fusion_order"] == "sequential"
  network = build_teacher(converted.network)
  assert network.together
  out = forward(network, converted, photo=golden["photo"], sketch=golden[f"sketch_{which}"])
  assert_close(out["photo"], golden[f"fused_photo_{which}"])
  assert_close(out["sketch"], golden[f"fused_sketch_{which}"])


def test_the_authors_student_gives_their_vectors(goldens):
  golden = goldens["xmodal_a"]
  said = sizes(golden)
  arrays = state_dict("xmodal_photo_student.pth")
  converted = convert_student(arrays, num_heads=said["student_heads"], what="student")
  check_encoder(converted.network["encoder"], said, "student_")
  assert converted.network["embed_dim"] == said["dim"]
  network = build_student(converted.network)
  out = forward(network, converted, photo=golden["photo"], sketch=golden["sketch_q"])
  assert_close(out["photo"], golden["student_photo"])
  assert_close(out["sketch"], golden["student_sketch_q"])


@pytest.mark.parametrize("is_released", [True, False], ids=["as released", "positions as they are"])
def test_the_authors_pskd_gives_their_tokens_logits_and_bottleneck(goldens, is_released):
  golden = goldens["pskd_a"]
  said = sizes(golden)
  arrays = state_dict("pskd_student.pth", "student")
  converted = convert_released(arrays, num_heads=said["num_heads"], what="pskd")
  check_encoder(converted.network["encoder"], said)
  assert converted.network["dino_posembed_resample"]
  network = build_pskd({**converted.network, "dino_posembed_resample": is_released})
  out = forward(network, converted, photo=golden["photo"][0, : said["micro_batch"]])
  suffix = "" if is_released else "_plain_pos"
  assert_close(out["photo"], golden[f"fusion_token{suffix}"])
  assert_close(out["photo_dist"], golden[f"dist_token{suffix}"])
  if is_released:
    assert_close(out["photo_logits"], golden["logits"])
    assert_close(out["photo_bottleneck"], golden["bottleneck"])

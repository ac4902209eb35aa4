"""Networks that are none of ours are refused, with the reason where it is known."""

import numpy as np
import pytest

from sbir.pretrained import convert_vit
from sbir.types import UserError
from tests.released_files import FULL_DINO, TIMM, augreg_arrays, convert
from tests.vit_layouts import dino_shapes, drawn, timm_shapes
from xmodal.pretrained import convert_student


@pytest.mark.parametrize(
  ("entry", "shape", "reason"),
  [
    ("dist_token", (1, 1, 12), r"a distilled DeiT has two tokens; use the plain deit_"),
    ("head_dist.weight", (7, 12), r"a distilled DeiT has two tokens; use the plain deit_"),
    ("fc_norm.weight", (12,), "averages its patches"),
    ("blocks.0.ls1.gamma", (12,), "LayerScale"),
    ("blocks.0.gamma_1", (12,), "LayerScale"),
    ("reg_token", (1, 4, 12), "register tokens"),
    ("mask_token", (1, 12), "mask token"),
    ("blocks.0.mlp.w12.weight", (64, 12), "SwiGLU"),
    ("norm_pre.weight", (12,), "CLIP"),
    ("blocks.0.attn.q_norm.weight", (4,), "norms queries and keys"),
    ("blocks.0.attn.rel_pos.bias", (9, 3), "relative"),
    ("patch_embed.backbone.stem.conv.weight", (12, 3, 7, 7), "hybrid"),
    ("vit.embeddings.cls_token", (1, 1, 12), "Hugging Face's transformers"),
  ],
)
@pytest.mark.parametrize("kind", ["timm", "deit", "dino"])
def test_another_kind_of_vit_is_refused_with_what_is_known_of_it(kind, entry, shape, reason):
  arrays = drawn(timm_shapes(*TIMM) | {entry: shape})
  with pytest.raises(UserError, match=rf"{reason}.* have no place \({entry} "):
    convert(kind, arrays)


def test_a_vit_without_a_class_token_is_refused():
  shapes = timm_shapes(*TIMM) | {"pos_embed": (1, 4, 12)}
  del shapes["cls_token"]
  message = r"has 4 positions, of them 1 .* other 3 are no square of patches; it has no class token"
  with pytest.raises(UserError, match=message):
    convert("timm", drawn(shapes))


@pytest.mark.parametrize("positions", [1, 3, 7])
def test_patches_that_are_no_square_are_refused_with_their_number(positions):
  arrays = drawn(timm_shapes(*TIMM) | {"pos_embed": (1, positions, 12)})
  with pytest.raises(UserError, match=rf"the other {positions - 1} are no square of patches"):
    convert("timm", arrays)


@pytest.mark.parametrize("shape", [(12, 1, 4, 4), (12, 3, 4, 2), (12, 3, 2, 4, 4)])
def test_patches_of_another_form_are_refused(shape):
  arrays = drawn(timm_shapes(*TIMM) | {"patch_embed.proj.weight": shape})
  with pytest.raises(UserError, match=r"have no place \(patch_embed.proj.weight"):
    convert("timm", arrays)


def test_a_hybrid_of_googles_is_refused():
  strangers = {f"ResNet_0/conv_{i}/kernel": np.ones((1, 1, 3, 4), np.float32) for i in range(10)}
  with pytest.raises(
    UserError, match=r"a ResNet makes its patches; 10 of its 50 entries .*conv_7.*and 2 more"
  ):
    convert("augreg", augreg_arrays() | strangers)


def test_a_block_without_its_keys_is_refused():
  arrays = augreg_arrays()
  del arrays["Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/kernel"]
  with pytest.raises(UserError, match=r"block_1/attention/qkv/kernel \(12, 36\) is missing"):
    convert("augreg", arrays)


def test_a_head_of_batch_norm_is_refused():
  arrays = drawn(dino_shapes(*TIMM, **FULL_DINO) | {"head.mlp.1.weight": (20,)})
  with pytest.raises(UserError, match="its head has batch norm"):
    convert("dino", arrays)


@pytest.mark.parametrize("lost", ["head.mlp.0.weight", "head.mlp.2.weight", "head.mlp.4.weight"])
def test_a_head_of_which_a_layer_is_missing_is_refused(lost):
  arrays = drawn(dino_shapes(*TIMM, **FULL_DINO))
  del arrays[lost]
  layer = {"0": "fc1", "2": "fc2", "4": "fc3"}[lost.split(".")[2]]
  with pytest.raises(UserError, match=rf"head.*{layer}"):
    convert("dino", arrays)


def test_dinos_head_without_its_backbone_is_refused():
  arrays = drawn(dino_shapes(*TIMM, **FULL_DINO))
  arrays = {entry: array for entry, array in arrays.items() if entry.startswith("head.")}
  with pytest.raises(UserError, match="encoder has no patch embedding and no positions"):
    convert("dino", arrays)


def test_an_unknown_kind_or_modality_is_refused():
  with pytest.raises(UserError, match="'swin' is unknown; choose one of augreg, timm, dino, deit"):
    convert_vit({}, "swin", what="file.pth")
  with pytest.raises(UserError, match="'both' is unknown; choose one of photo, sketch, either"):
    convert_student({}, modality="both", what="file.pth")


@pytest.mark.parametrize("number", ["9" * 4, "9" * 5000])
def test_a_block_of_an_absurd_number_is_refused(number):
  stranger = {f"blocks.{number}.norm1.bias": np.ones(12, np.float32)}
  with pytest.raises(UserError, match=r"file\.pth is not of the expected") as refused:
    convert("timm", drawn(timm_shapes(*TIMM)) | stranger)
  assert "package" not in str(refused.value)  # it is none

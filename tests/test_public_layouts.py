"""Public models by their published layouts: what their files hold comes to the published sizes.

Names, shapes and counts: google-research/vision_transformer (AugReg, arXiv:2106.10270) models_vit
and configs/models; facebookresearch/dino vision_transformer (arXiv:2104.14294), --out_dim 65536;
facebookresearch/deit models (arXiv:2012.12877); timm 0.5.4 vision_transformer. The weights are
zeros.

A ViT of width d, depth L, patch p and n patches has 12 L d^2 + 13 L d parameters in its blocks,
3 p^2 d + d in its patch embedding, (n + 1) d positions, d of a class token, 2 d of the last norm.
"""

from typing import Any, NamedTuple

import pytest

from sbir import plain_vit, trees
from sbir.network import shapes_of
from sbir.pretrained import convert_vit
from sbir.types import UserError
from tests.vit_layouts import augreg_shapes, count, dino_shapes, linear, timm_shapes, zeros

HEAD = {"hidden": 2048, "bottleneck": 256}
NO_HEAD = {"hidden": 0, "bottleneck": 0}
TINY, SMALL, BASE = (192, 12), (384, 12), (768, 12)


class Public(NamedTuple):
  """A file and what is published of it."""

  kind: str
  shapes: dict[str, tuple[int, ...]]
  in_file: int  # numbers in the file
  in_ours: int  # of them in our network
  encoder: tuple[int, int, int, int]  # width, depth, heads, patch
  image_size: int
  head: dict[str, Any] = NO_HEAD
  dead: tuple[str, ...] = ()


AUGREG_HEAD, TIMM_HEAD = ("head/bias", "head/kernel"), ("head.bias", "head.weight")
DINO_LAST = ("head.last_layer.weight_g", "head.last_layer.weight_v")
PUBLIC = {
  "AugReg B/16, 224 px, fine-tuned on ImageNet-1k": Public(
    "augreg",
    augreg_shapes(*BASE, 12, 16, 224, classes=1000),
    86_567_656,
    85_798_656,
    (768, 12, 12, 16),
    224,
    dead=AUGREG_HEAD,
  ),
  "AugReg B/16, 384 px, fine-tuned on ImageNet-1k": Public(
    "augreg",
    augreg_shapes(*BASE, 12, 16, 384, classes=1000),
    86_859_496,
    86_090_496,
    (768, 12, 12, 16),
    384,
    dead=AUGREG_HEAD,
  ),
  "AugReg Ti/16, ImageNet-21k": Public(
    "augreg",
    augreg_shapes(*TINY, 3, 16, 224, classes=21_843),
    5_524_416 + 193 * 21_843,
    5_524_416,
    (192, 12, 3, 16),
    224,
    dead=AUGREG_HEAD,
  ),
  "AugReg S/16, ImageNet-21k": Public(
    "augreg",
    augreg_shapes(*SMALL, 6, 16, 224, classes=21_843),
    21_665_664 + 385 * 21_843,
    21_665_664,
    (384, 12, 6, 16),
    224,
    dead=AUGREG_HEAD,
  ),
  "ViT B/16, ImageNet-21k, with the layer before its classifier": Public(
    "augreg",
    augreg_shapes(*BASE, 12, 16, 224, classes=21_843, pre_logits=768),
    85_798_656 + 769 * 768 + 769 * 21_843,
    85_798_656,
    (768, 12, 12, 16),
    224,
    dead=(*AUGREG_HEAD, "pre_logits/bias", "pre_logits/kernel"),
  ),
  "timm vit_base_patch32_224": Public(
    "timm",
    timm_shapes(*BASE, 32, 224, classes=1000),
    88_224_232,
    87_455_232,
    (768, 12, 12, 32),
    224,
    dead=TIMM_HEAD,
  ),
  "timm vit_small_patch16_224, without a classifier": Public(
    "timm", timm_shapes(*SMALL, 16, 224), 21_665_664, 21_665_664, (384, 12, 6, 16), 224
  ),
  "DINO S/16, backbone": Public(
    "dino", timm_shapes(*SMALL, 16, 224), 21_665_664, 21_665_664, (384, 12, 6, 16), 224
  ),
  "DINO S/8, backbone": Public(
    "dino", timm_shapes(*SMALL, 8, 224), 21_670_272, 21_670_272, (384, 12, 6, 8), 224
  ),
  "DINO S/8, full checkpoint": Public(
    "dino",
    dino_shapes(*SMALL, 8, 224, **HEAD, outputs=65_536),
    21_670_272 + 5_509_376 + 65_536 * 257,
    21_670_272 + 5_509_376,
    (384, 12, 6, 8),
    224,
    HEAD,
    DINO_LAST,
  ),
  "DINO S/16, full checkpoint": Public(
    "dino",
    dino_shapes(*SMALL, 16, 224, **HEAD, outputs=65_536),
    21_665_664 + 5_509_376 + 65_536 * 257,
    21_665_664 + 5_509_376,
    (384, 12, 6, 16),
    224,
    HEAD,
    DINO_LAST,
  ),
  "DeiT-Ti": Public(
    "deit",
    timm_shapes(*TINY, 16, 224, classes=1000),
    5_717_416,
    5_524_416,
    (192, 12, 3, 16),
    224,
    dead=TIMM_HEAD,
  ),
  "DeiT-S": Public(
    "deit",
    timm_shapes(*SMALL, 16, 224, classes=1000),
    22_050_664,
    21_665_664,
    (384, 12, 6, 16),
    224,
    dead=TIMM_HEAD,
  ),
}


@pytest.fixture(params=PUBLIC, scope="module")
def public(request):
  return PUBLIC[request.param]


@pytest.fixture(scope="module")
def converted(public):
  return convert_vit(zeros(public.shapes), public.kind, what="file")


def test_the_layout_has_the_published_number_of_parameters(public):
  assert count(public.shapes) == public.in_file


def test_a_plain_vit_has_as_many_as_the_formula_says(public):
  width, depth, _, patch = public.encoder
  blocks = 12 * depth * width**2 + 13 * depth * width
  tokens = ((public.image_size // patch) ** 2 + 4) * width  # positions, class token, norm
  head = (width + public.head["hidden"] + 2) * public.head["hidden"]
  head += (public.head["hidden"] + 1) * public.head["bottleneck"]
  assert blocks + (3 * patch**2 + 1) * width + tokens + head == public.in_ours


def test_sizes_heads_and_image_size_are_read_off_the_file(public, converted):
  encoder = dict(zip(("width", "depth", "num_heads", "patch_size"), public.encoder, strict=True))
  assert converted.architecture == "vit"
  assert converted.network == {"encoder": encoder, **public.head}
  assert converted.image_size == public.image_size


def test_all_but_what_is_dead_is_taken(public, converted):
  assert tuple(sorted(converted.dead)) == public.dead
  assert sorted([*converted.used, *converted.dead]) == sorted(public.shapes)
  assert count(trees.flatten(converted.params)) == public.in_ours


def test_the_network_has_these_parameters(converted):
  network = plain_vit.build(converted.network)
  trees.merge(shapes_of(network, converted.image_size), converted.params, what="file")


@pytest.mark.parametrize("kind", ["deit", "timm"])
def test_a_distilled_deit_is_refused_with_the_reason(kind):
  shapes = {"dist_token": (1, 1, 192), **timm_shapes(*TINY, 16, 224, classes=1000)}
  shapes |= {"pos_embed": (1, 198, 192), **linear("head_dist", 192, 1000)}
  assert count(shapes) == 5_910_800
  message = "a distilled DeiT has two tokens; use the plain deit_.*dist_token.*head_dist.weight"
  with pytest.raises(UserError, match=message):
    convert_vit(zeros(shapes), kind, what="deit_tiny_distilled_patch16_224-b40b3cf7.pth")

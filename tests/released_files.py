"""Files of weights of every kind that is read, by their layouts, tiny; and what converts them."""

from pskd.packaged import build as build_pskd
from pskd.pretrained import convert_released
from sbir import plain_vit
from sbir.nn.vit import ViT
from sbir.pretrained import VIT_KINDS, convert_vit
from tests.vit_layouts import augreg_shapes, dino_shapes, drawn, linear, timm_shapes
from xmodal.packaged import build_student, build_teacher
from xmodal.pretrained import convert_student, convert_teacher

SMALL = ViT(width=12, depth=2, num_heads=3, patch_size=4)
TIMM = (12, 2, 4, 8)  # width, depth, patch, image


def augreg_arrays(model=SMALL, side=8):
  """Returns random weights under the names of Google's files."""
  sizes = (model.width, model.depth, model.num_heads, model.patch_size)
  return drawn(augreg_shapes(*sizes, side, classes=7))


def released_student():
  vit = {f"encoder.{name}": shape for name, shape in timm_shapes(*TIMM, classes=5).items()}
  head = {"mlp_head.0.weight": (12,), "mlp_head.0.bias": (12,)}
  return vit | head | linear("mlp_head.1", 12, 18)


def released_teacher(blocks=2, layers=1):
  """Returns {name: shape} of a teacher of the authors', without what is dead in it."""
  shapes = {
    f"transformer_enc_branch_{branch}.encoder.{name}": shape
    for branch in (1, 2)
    for name, shape in timm_shapes(*TIMM).items()
  }
  for block in range(blocks):
    for layer in range(layers):
      prefix = f"x_modal_transformers.{block}.cross_attn_layers.{layer}"
      for place in (0, 1, 3, 4):
        shapes |= linear(f"{prefix}.{place}", 12, 12)
      for place in (2, 5):
        attend = f"{prefix}.{place}"
        shapes |= {f"{attend}.norm.weight": (12,), f"{attend}.norm.bias": (12,)}
        shapes |= {f"{attend}.fn.to_{part}.weight": (12, 12) for part in "qkv"}
        shapes |= linear(f"{attend}.fn.to_out.0", 12, 12)
  return shapes


def released_pskd():
  vit = timm_shapes(*TIMM)
  tokens = {"dist_img_token": vit.pop("cls_token"), "fusion_token": (1, 1, 12)}
  vit |= {"pos_embed": (1, 6, 12)}
  shapes = {f"backbone.{name}": shape for name, shape in (tokens | vit).items()}
  for place, rows, columns in ((0, 12, 20), (2, 20, 20), (4, 20, 10)):
    shapes |= linear(f"head_fusion.mlp.{place}", rows, columns)
  return shapes | linear("head_fusion.fc", 10, 9) | linear("head_dist.fc", 10, 9)


FULL_DINO = {"hidden": 20, "bottleneck": 10, "outputs": 30}
CONVERTERS = {  # name: (shapes of a file, what converts it, what builds the network)
  "augreg": (augreg_shapes(12, 2, 3, 4, 8, classes=7, pre_logits=12), convert_vit, plain_vit.build),
  "timm": (timm_shapes(*TIMM, classes=7), convert_vit, plain_vit.build),
  "deit": (timm_shapes(*TIMM, classes=7), convert_vit, plain_vit.build),
  "dino": (timm_shapes(*TIMM), convert_vit, plain_vit.build),
  "dino, full": (dino_shapes(*TIMM, **FULL_DINO), convert_vit, plain_vit.build),
  "xmodal-teacher": (released_teacher(), convert_teacher, build_teacher),
  "xmodal-student": (released_student(), convert_student, build_student),
  "pskd": (released_pskd(), convert_released, build_pskd),
}
LARGEST_ENTRY = {  # of each: one that carries no size, so that its lack shows as itself
  "augreg": "Transformer/encoderblock_1/MlpBlock_3/Dense_0/kernel",
  "timm": "blocks.1.mlp.fc1.weight",
  "deit": "blocks.1.mlp.fc1.weight",
  "dino": "blocks.1.mlp.fc1.weight",
  "dino, full": "backbone.blocks.1.mlp.fc1.weight",
  "xmodal-teacher": "transformer_enc_branch_2.encoder.blocks.1.mlp.fc1.weight",
  "xmodal-student": "encoder.blocks.1.mlp.fc1.weight",
  "pskd": "backbone.blocks.1.mlp.fc1.weight",
}


def convert(name, arrays, **words):
  """Returns the arrays of a file of CONVERTERS as a network; its heads are 3 wherever untold."""
  function = CONVERTERS[name][1]
  kind = name.split(",")[0]
  words = {"num_heads": 3, "what": "file.pth"} | words
  return function(arrays, kind, **words) if kind in VIT_KINDS else function(arrays, **words)

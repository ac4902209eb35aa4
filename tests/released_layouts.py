"""Names and shapes of the checkpoints that the authors of both methods released."""

from tests.vit_layouts import linear, timm_shapes


def below(prefix, shapes):
  return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def norm(name, width):
  return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def xmodal_teacher_shapes(width, depth, patch, side, *, fusion_depth=1, inner=None):
  """Returns {name: shape} of the modality fusion network (xmodal-vit@11426c9)."""
  shapes = {}
  for branch in (1, 2):
    encoder = timm_shapes(width, depth, patch, side, classes=7)
    shapes |= below(f"transformer_enc_branch_{branch}.encoder.", encoder)
    shapes |= norm(f"transformer_enc_branch_{branch}.mlp_head.0", width)
    shapes |= linear(f"transformer_enc_branch_{branch}.mlp_head.1", width, 5)
  for i in range(fusion_depth):
    layer = f"x_modal_transformers.{i}.cross_attn_layers.0"
    for part in (0, 1, 3, 4):
      shapes |= linear(f"{layer}.{part}", width, width)
    for part in (2, 5):
      shapes |= norm(f"{layer}.{part}.norm", width)
      for name in ("to_q", "to_k", "to_v"):
        shapes[f"{layer}.{part}.fn.{name}.weight"] = (width, width)
      shapes |= linear(f"{layer}.{part}.fn.to_out.0", width, width)
  shapes |= norm("mlp_head.0", 2 * width)
  return shapes | linear("mlp_head.1", 2 * width, 1)


def xmodal_student_shapes(width, depth, patch, side, *, embed_dim):
  """Returns {name: shape} of a student (xmodal-vit@11426c9)."""
  shapes = below("encoder.", timm_shapes(width, depth, patch, side, classes=7))
  return shapes | norm("mlp_head.0", width) | linear("mlp_head.1", width, embed_dim)


def pskd_shapes(width, depth, patch, side, *, hidden, bottleneck, classes):
  """Returns {name: shape} of the two-token network of either stage (PSKD@a505f9f)."""
  vit = timm_shapes(width, depth, patch, side)
  del vit["cls_token"]
  vit |= {"dist_img_token": (1, 1, width), "fusion_token": (1, 1, width)}
  vit["pos_embed"] = (1, (side // patch) ** 2 + 2, width)
  shapes = below("backbone.", vit) | linear("head_fusion.fc", bottleneck, classes)
  shapes |= linear("head_fusion.mlp.0", width, hidden) | linear("head_fusion.mlp.2", hidden, hidden)
  return shapes | linear("head_fusion.mlp.4", hidden, bottleneck)

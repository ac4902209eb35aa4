"""Weights of others become ours whole, or are refused with all that is wrong."""

import jax
import ml_dtypes
import numpy as np
import pytest

from pskd.packaged import build as build_pskd
from pskd.pretrained import convert_released
from sbir import plain_vit, trees
from sbir.network import shapes_of
from sbir.nn.vit import ViT
from sbir.pretrained import VIT_KINDS, convert_vit, read_npz
from sbir.types import UserError
from tests.vit_layouts import (
  augreg_shapes,
  count,
  dino_shapes,
  drawn,
  linear,
  timm_from_augreg,
  timm_shapes,
)
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


# --- attention heads ------------------------------------------------------------------------------


def test_without_a_number_of_heads_each_has_64_of_the_width(name):
  if name == "augreg":
    pytest.skip("its files tell")
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


# --- the methods' own -----------------------------------------------------------------------------


@pytest.mark.parametrize(("blocks", "layers"), [(1, 1), (2, 3), (3, 1)])
def test_all_layers_of_all_blocks_of_a_teacher_come_one_after_another(blocks, layers):
  arrays = drawn(released_teacher(blocks, layers))
  converted = convert("xmodal-teacher", arrays)
  assert converted.network["fusion_depth"] == blocks * layers
  last = f"x_modal_transformers.{blocks - 1}.cross_attn_layers.{layers - 1}.4.bias"
  update = converted.params["fusion"][f"sketch_update_{blocks * layers - 1}"]
  np.testing.assert_array_equal(update["project"]["bias"], arrays[last])


def test_a_layer_missing_between_others_of_a_teacher_is_refused():
  arrays = drawn(released_teacher(3))
  kept = {n: a for n, a in arrays.items() if not n.startswith("x_modal_transformers.1.")}
  with pytest.raises(UserError, match=r"fusion/photo_update_1/.* is missing"):
    convert("xmodal-teacher", kept)


def test_a_teacher_of_two_sizes_is_refused():
  shapes = released_teacher()
  shapes["transformer_enc_branch_2.encoder.pos_embed"] = (1, 10, 12)
  with pytest.raises(UserError, match=r"sketch_encoder/pos_embed is \(1, 10, 12\), the model has"):
    convert("xmodal-teacher", drawn(shapes))


def test_a_student_is_not_a_teacher_and_neither_is_a_plain_vit():
  for given in (released_student(), released_pskd(), timm_shapes(*TIMM)):
    with pytest.raises(UserError, match="have no place"):
      convert("xmodal-teacher", drawn(given))


@pytest.mark.parametrize("modality", ["photo", "sketch", "either"])
def test_a_student_is_of_the_modality_that_is_said(modality):
  converted = convert("xmodal-student", drawn(released_student()), modality=modality)
  assert converted.network["modality"] == modality and converted.network["embed_dim"] == 18


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


def test_pskds_sizes_are_read_off_the_shapes():
  network = convert("pskd", drawn(released_pskd())).network
  del network["encoder"]
  expected = {"hidden": 20, "bottleneck": 10, "num_classes": 9, "dino_posembed_resample": True}
  assert network == expected


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
  def save(arrays):
    path = tmp_path / "vit.npz"
    np.savez(path, **arrays)
    return str(path)

  return save


def corrupt(path, how):
  """Writes a file that cannot be read, in one of the ways files come to be so."""
  whole = path.read_bytes()
  if how == "cut short":
    path.write_bytes(whole[: len(whole) // 2])
  elif how == "empty":
    path.write_bytes(b"")
  elif how == "a flipped block":
    path.write_bytes(whole[:400] + bytes(200) + whole[600:])
  elif how == "a page of text":
    path.write_text("<html>404</html>")
  elif how == "a single array":
    with path.open("wb") as file:
      np.save(file, np.ones(3))
  elif how == "pickled objects":
    np.savez(path, cls=np.array([{}], object))
  elif how == "an archive of other things":
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
      archive.writestr("readme.txt", "nothing")


@pytest.mark.parametrize(
  "how",
  [
    "cut short",
    "empty",
    "a flipped block",
    "a page of text",
    "a single array",
    "pickled objects",
    "an archive of other things",
  ],
)
def test_a_file_that_cannot_be_read_is_named(saved, tmp_path, how):
  path = saved(augreg_arrays())
  corrupt(tmp_path / "vit.npz", how)
  with pytest.raises(UserError, match=r"vit\.npz cannot be read as \.npz \(.+\); fetch it again"):
    read_npz(path)


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
  with pytest.raises(UserError, match="is not a file"):
    read_npz(tmp_path)

import ast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir import trees
from sbir.nn.vit import ViT
from sbir.pretrained import check_init, from_augreg, from_timm, warm_start
from sbir.types import UserError
from tests.paths import GOLDENS, needs_shared

AUGREG = GOLDENS / "import" / "augreg_vit.npz"
SMALL = ViT(width=12, depth=2, num_heads=3, patch_size=4)


def fresh(model, side):
  images = jnp.zeros((1, side, side, 3))
  return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


def augreg_arrays(model=SMALL, side=8):
  """Returns random weights under the names of Google's files."""
  draw = np.random.default_rng(0)
  width, patch = model.width, model.patch_size
  heads, attention = model.num_heads, "MultiHeadDotProductAttention_1"
  shapes = {
    "cls": (1, 1, width),
    "embedding/kernel": (patch, patch, 3, width),
    "embedding/bias": (width,),
    "head/kernel": (width, 7),
    "head/bias": (7,),
    "Transformer/posembed_input/pos_embedding": (1, (side // patch) ** 2 + 1, width),
    "Transformer/encoder_norm/scale": (width,),
    "Transformer/encoder_norm/bias": (width,),
  }
  for i in range(model.depth):
    block = f"Transformer/encoderblock_{i}"
    for part in ("query", "key", "value"):
      shapes[f"{block}/{attention}/{part}/kernel"] = (width, heads, width // heads)
      shapes[f"{block}/{attention}/{part}/bias"] = (heads, width // heads)
    shapes[f"{block}/{attention}/out/kernel"] = (heads, width // heads, width)
    shapes[f"{block}/{attention}/out/bias"] = (width,)
    for norm in ("LayerNorm_0", "LayerNorm_2"):
      shapes |= {f"{block}/{norm}/scale": (width,), f"{block}/{norm}/bias": (width,)}
    for dense, (rows, columns) in (
      ("Dense_0", (width, 4 * width)),
      ("Dense_1", (4 * width, width)),
    ):
      shapes[f"{block}/MlpBlock_3/{dense}/kernel"] = (rows, columns)
      shapes[f"{block}/MlpBlock_3/{dense}/bias"] = (columns,)
  return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def saved(tmp_path):
  def save(arrays):
    path = tmp_path / "vit.npz"
    np.savez(path, **arrays)
    return str(path)

  return save


@needs_shared
def test_googles_weights_give_googles_class_token():
  expected = np.load(GOLDENS / "import" / "expected.npz")
  sizes = ast.literal_eval(str(expected["augreg_config"]))
  model = ViT(sizes["dim"], sizes["depth"], sizes["num_heads"], sizes["patch_size"])
  params = warm_start(
    fresh(model, sizes["image_size"]),
    kind="augreg",
    path=str(AUGREG),
    num_heads=sizes["num_heads"],
  )
  images = expected["augreg_image"].transpose(0, 2, 3, 1)
  with jax.default_matmul_precision("highest"):
    ours = jax.jit(model.apply)({"params": params}, images)[:, 0]
  theirs = expected["augreg_cls"]
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def timm_from_augreg(arrays):
  """Returns the same weights as timm names and lays them out."""
  found = {
    "cls_token": arrays["cls"],
    "pos_embed": arrays["Transformer/posembed_input/pos_embedding"],
    "patch_embed.proj.weight": arrays["embedding/kernel"].transpose(3, 2, 0, 1),
    "patch_embed.proj.bias": arrays["embedding/bias"],
    "norm.weight": arrays["Transformer/encoder_norm/scale"],
    "norm.bias": arrays["Transformer/encoder_norm/bias"],
    "head.weight": arrays["head/kernel"].T,
    "head.bias": arrays["head/bias"],
  }
  for i in range(SMALL.depth):
    theirs, ours = f"Transformer/encoderblock_{i}/", f"blocks.{i}."
    attention = f"{theirs}MultiHeadDotProductAttention_1/"
    width = SMALL.width
    parts = [arrays[f"{attention}{part}/kernel"] for part in ("query", "key", "value")]
    found[f"{ours}attn.qkv.weight"] = np.concatenate([p.reshape(width, width).T for p in parts])
    parts = [arrays[f"{attention}{part}/bias"] for part in ("query", "key", "value")]
    found[f"{ours}attn.qkv.bias"] = np.concatenate([part.ravel() for part in parts])
    found[f"{ours}attn.proj.weight"] = arrays[f"{attention}out/kernel"].reshape(width, width).T
    found[f"{ours}attn.proj.bias"] = arrays[f"{attention}out/bias"]
    for layer, norm in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
      found[f"{ours}{norm}.weight"] = arrays[f"{theirs}{layer}/scale"]
      found[f"{ours}{norm}.bias"] = arrays[f"{theirs}{layer}/bias"]
    for layer, dense in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
      found[f"{ours}mlp.{dense}.weight"] = arrays[f"{theirs}MlpBlock_3/{layer}/kernel"].T
      found[f"{ours}mlp.{dense}.bias"] = arrays[f"{theirs}MlpBlock_3/{layer}/bias"]
  return found


def test_one_network_under_both_names_becomes_one_tree(saved):
  arrays = augreg_arrays()
  ours = from_augreg(saved(arrays))
  jax.tree.map(np.testing.assert_array_equal, from_timm(timm_from_augreg(arrays)), ours)
  trees.merge(fresh(SMALL, 8), ours, what="both")


def test_entries_outside_the_prefix_are_the_callers_business():
  weights = timm_from_augreg(augreg_arrays())
  below = {f"module.encoder.{name}": array for name, array in weights.items()}
  found = from_timm(below | {"module.other": np.ones(2)}, "module.encoder.")
  jax.tree.map(np.testing.assert_array_equal, found, from_timm(weights))


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"dist_token": np.ones((1, 1, 12), np.float32)}, r"\(dist_token \(1, 1, 12\) float32\)"),
    ({"fc_norm.weight": np.ones(12, np.float32)}, r"fc_norm\.weight"),
    ({"head_dist.weight": np.ones((7, 12), np.float32)}, r"head_dist\.weight"),
    ({"norm.bias": np.ones((12, 1), np.float32)}, r"norm\.bias \(12, 1\)"),
    ({"norm.bias": np.ones(12, np.int64)}, r"norm\.bias \(12,\) int64"),
  ],
)
def test_an_entry_without_a_place_in_a_plain_vit_is_refused(changed, message):
  weights = timm_from_augreg(augreg_arrays()) | changed
  with pytest.raises(UserError, match=rf"deit\.pth is not of .* 1 of its .*{message}"):
    from_timm(weights, what="deit.pth")


def test_a_prefix_under_which_there_is_nothing_is_refused():
  with pytest.raises(UserError, match=r"backbone\.pth is not of the expected network.*is empty"):
    from_timm(timm_from_augreg(augreg_arrays()), "nowhere.", what="backbone.pth")


def test_half_precision_weights_are_read_in_float32():
  weights = {n: a.astype(np.float16) for n, a in timm_from_augreg(augreg_arrays()).items()}
  assert {leaf.dtype for leaf in jax.tree.leaves(from_timm(weights))} == {np.dtype("float32")}


def start(path, model=SMALL, side=8):
  return warm_start(fresh(model, side), kind="augreg", path=path, num_heads=model.num_heads)


def test_random_weights_stay_as_they_are():
  params = fresh(SMALL, 8)
  assert warm_start(params, kind="random", path="", num_heads=3) is params


@pytest.mark.parametrize(
  ("kind", "path", "message"),
  [
    ("imagenet", "", "init.kind='imagenet' is unknown; choose one of random, augreg"),
    ("random", "a.npz", "init.path=a.npz is not read with init.kind=random; set init.kind=augreg"),
    ("augreg", "", "init.kind=augreg needs a file of weights; set init.path to a ViT .npz"),
    ("augreg", "no/a.npz", "init.path=no/a.npz is not a file; set it to"),
  ],
)
def test_kind_and_path_that_do_not_go_together_are_refused(kind, path, message):
  with pytest.raises(UserError, match=message):
    check_init(kind, path)
  with pytest.raises(UserError, match=message):
    warm_start({}, kind=kind, path=path, num_heads=3)


@pytest.mark.parametrize(
  ("model", "side", "message"),
  [
    (SMALL, 16, r"on 4 patches an image, this model has 16; set image_size=8$"),
    (SMALL.clone(num_heads=2), 8, r"another model.size: it has 3 attention heads, this model 2$"),
    (SMALL.clone(patch_size=2), 8, r"patch_embed/kernel is \(48, 12\), the model has \(12, 12\)"),
    (SMALL.clone(width=24), 8, r"attention/out/bias is \(12,\), the model has \(24,\)"),
    (SMALL.clone(depth=1), 8, r"check its config \(12\): block_1/.* has no place"),
    (SMALL.clone(depth=3), 8, r"check its config \(12\): block_2/.* is missing"),
  ],
  ids=["grid", "heads", "patch", "width", "shallower", "deeper"],
)
def test_weights_of_another_architecture_are_refused(saved, model, side, message):
  path = saved(augreg_arrays())
  with pytest.raises(UserError, match=message) as raised:
    start(path, model, side)
  assert str(raised.value).startswith(f"init.path={path} ")
  assert "\n" not in str(raised.value)


def test_a_block_without_its_keys_is_refused(saved):
  arrays = augreg_arrays()
  del arrays["Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/kernel"]
  with pytest.raises(UserError, match=r"block_1/attention/qkv/kernel \(12, 36\) is missing"):
    start(saved(arrays))


def test_a_hybrid_or_other_network_is_refused(saved):
  strangers = {f"ResNet_0/conv_{i}/kernel": np.ones((1, 1, 3, 4), np.float32) for i in range(10)}
  with pytest.raises(UserError, match=r"10 of its 50 entries .*ResNet_0/conv_7.*; and 2 more"):
    start(saved(augreg_arrays() | strangers))


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
    start(path)


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
  with pytest.raises(UserError, match="is not a file"):
    from_augreg(tmp_path)

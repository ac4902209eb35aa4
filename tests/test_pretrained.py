import ast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir.nn.vit import ViT
from sbir.pretrained import check_init, read_npz, warm_start
from sbir.types import UserError
from tests.paths import GOLDENS, needs_shared
from tests.vit_layouts import augreg_shapes, drawn

AUGREG = GOLDENS / "import" / "augreg_vit.npz"
SMALL = ViT(width=12, depth=2, num_heads=3, patch_size=4)


def fresh(model, side):
  images = jnp.zeros((1, side, side, 3))
  return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


def augreg_arrays(model=SMALL, side=8):
  """Returns random weights under the names of Google's files."""
  sizes = (model.width, model.depth, model.num_heads, model.patch_size)
  return drawn(augreg_shapes(*sizes, side, classes=7))


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
    read_npz(tmp_path)

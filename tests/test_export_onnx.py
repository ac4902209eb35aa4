"""ONNX files do what the model does, for runtimes that know nothing of JAX."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir import onnx_file, trees
from sbir.exported import as_half
from sbir.preprocessing import IMAGENET, Preprocessing
from sbir.types import UserError
from tests.exports import call, near, needs_onnx, refused, views, write
from tests.packages import SIDE, noise, save_package

OUTPUTS = {  # what each takes, and gives
  "vit": (["photo"], ["photo_embedding", "photo_bottleneck"]),
  "xmodal-teacher": (["photo", "sketch"], ["photo_embedding", "sketch_embedding"]),
  "xmodal-student": (["photo"], ["photo_embedding"]),
  "pskd": (["photo"], ["photo_embedding", "photo_dist", "photo_bottleneck", "photo_logits"]),
}
GRADIENTS = Preprocessing(SIDE, "trim", True, *IMAGENET)


def run(path, images):
  """Returns the outputs of a file by name, as a stranger would ask for them."""
  import onnxruntime

  session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
  names = [output.name for output in session.get_outputs()]
  return dict(zip(names, session.run(None, images), strict=True))


def graph(path):
  import onnx

  return onnx.load(path).graph


def operators(path):
  return [node.op_type for node in graph(path).node]


def renamed(outputs, inputs):
  return {f"{n}_embedding" if n in inputs else n: np.asarray(x) for n, x in outputs.items()}


# --- the same numbers -----------------------------------------------------------------------------


@needs_onnx
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_file_of_any_batch_gives_what_forward_gives(tmp_path, name):
  model, path = write(tmp_path, name, "onnx", "--dynamic-batch")
  inputs, outputs = OUTPUTS[name]
  for num in (1, 5):
    images = {modality: views(model, num, seed) for seed, modality in enumerate(inputs)}
    found = run(path, images)
    assert set(found) == set(outputs)
    near(found, renamed(model.forward(**images), inputs))


@needs_onnx
def test_a_file_of_batch_1_takes_one_image(tmp_path):
  model, path = write(tmp_path, "pskd", "onnx")
  near(run(path, {"photo": views(model, 1)}), renamed(model.forward(views(model, 1)), ["photo"]))
  with pytest.raises(Exception, match=r"index: 0 Got: 5 Expected: 1"):
    run(path, {"photo": views(model, 5)})


@needs_onnx
def test_of_a_pair_the_one_asked_for_is_written(tmp_path):
  model, path = write(tmp_path, "xmodal-pair", "onnx", "--modality", "sketch")
  images = {"sketch": views(model, 1)}
  near(run(path, images), renamed(model.forward(**images), ["sketch"]))


@needs_onnx
@pytest.mark.parametrize("how", [GRADIENTS, GRADIENTS._replace(gradients=False)])
def test_from_pixels_it_encodes_as_the_model_does(tmp_path, how):
  model, path = write(tmp_path, "vit", "onnx", "--pixels", "--dynamic-batch", how=how)
  found = run(path, {"photo": noise(3)})
  assert list(found) == ["embedding"]
  # Squares of noise have no white margin to trim, but get one.
  expected = model.network.forward(model.params, {"photo": model.preprocessing.view(noise(3))})
  expected = np.asarray(expected["photo"])
  near(found, {"embedding": expected / np.linalg.norm(expected, axis=1, keepdims=True)})


@needs_onnx
def test_from_pixels_of_the_right_shape_it_is_encode_photos(tmp_path):
  model, path = write(tmp_path, "pskd", "onnx", "--pixels", "--dynamic-batch")
  near(run(path, {"photo": noise(3)}), {"embedding": model.encode_photos(list(noise(3)))})


@needs_onnx
def test_tracing_leaves_jax_as_it_was(tmp_path):
  model, _ = write(tmp_path, "vit", "onnx")
  forward = lambda: jax.jit(lambda p, x: model.network.forward(p, {"photo": x}))
  before = forward()(model.params, views(model, 2))
  write(tmp_path, "vit", "onnx")
  after = forward()(model.params, views(model, 2))
  jax.tree.map(np.testing.assert_array_equal, before, after)


# --- what is in the file --------------------------------------------------------------------------


@needs_onnx
def test_gelu_is_exact_norms_are_whole_and_nothing_is_unrolled(tmp_path):
  model, path = write(tmp_path, "xmodal-pair", "onnx", "--modality", "sketch")  # two blocks
  names = operators(path)
  assert names.count("Gelu") == 2 and names.count("LayerNormalization") == 2 * 2 + 2
  assert "Tanh" not in names and "Erf" not in names and len(names) < 100
  gelu = [node for node in graph(path).node if node.op_type == "Gelu"]
  assert all(attribute.s == b"none" for node in gelu for attribute in node.attribute)
  used = {name for node in graph(path).node for name in node.input}
  assert {tensor.name for tensor in graph(path).initializer} <= used
  stored = sum(int(np.prod(tensor.dims)) for tensor in graph(path).initializer)
  needed = sum(leaf.size for leaf in trees.flatten(model.params["sketch"]).values())
  assert needed <= stored < needed + 300


@needs_onnx
def test_the_head_is_not_in_a_file_that_gives_no_logits(tmp_path):
  model, path = write(tmp_path, "pskd", "onnx", "--pixels")
  stored = sum(int(np.prod(tensor.dims)) for tensor in graph(path).initializer)
  backbone = sum(leaf.size for leaf in trees.flatten(model.params["backbone"]).values())
  assert backbone <= stored < backbone + 300


@needs_onnx
def test_a_file_tells_how_its_images_are_prepared(tmp_path):
  import onnx

  _, path = write(tmp_path, "vit", "onnx", how=GRADIENTS)
  told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
  assert told["architecture"] == "vit"
  assert json.loads(told["preprocessing"]) == {
    "image_size": SIDE,
    "fit": "trim",
    "gradients": True,
    "mean": list(IMAGENET[0]),
    "std": list(IMAGENET[1]),
  }


# --- float16 --------------------------------------------------------------------------------------


@needs_onnx
def test_half_stores_every_weight_in_two_bytes_and_computes_in_four(tmp_path):
  import onnx

  model, path = write(tmp_path, "pskd", "onnx", "--half", "--dynamic-batch")
  half = [t for t in graph(path).initializer if t.data_type == onnx.TensorProto.FLOAT16]
  weights = sum(leaf.size for leaf in trees.flatten(model.params).values())
  assert sum(int(np.prod(tensor.dims)) for tensor in half) >= weights
  rounded = jax.tree.map(lambda x: x.astype(np.float32), as_half(model.params))
  images = {"photo": views(model, 5)}
  found = run(path, images)
  near(found, renamed(model.network.forward(rounded, images), images))
  full = renamed(model.forward(**images), images)
  assert np.abs(found["photo_embedding"] - full["photo_embedding"]).max() > 1e-4
  assert all(value.dtype == np.float32 for value in found.values())


@needs_onnx
def test_a_constant_that_float16_would_change_stays_as_it_is():
  import onnx

  shape = jax.ShapeDtypeStruct((1, 2, 2, 3), jnp.float32)
  kept, small = np.float32([0.1, 1e6, 3]), np.float32([0.5, 1024, 3])
  function = lambda images: {"out": images["photo"] * kept + small}
  data = onnx_file.to_onnx(function, {"photo": shape}, half=True, metadata={})
  kinds = sorted(t.data_type for t in onnx.load_from_string(data).graph.initializer)
  assert kinds == [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16]
  ones = np.ones((1, 2, 2, 3), np.float32)
  np.testing.assert_array_equal(onnx_file.load(data)({"photo": ones})["out"], ones * kept + small)


def test_weights_too_large_for_float16_are_refused():
  with pytest.raises(UserError, match="--half: a/b has values above 65504"):
    as_half({"a": {"b": np.float32([1, 1e5])}})


# --- what must not be written ---------------------------------------------------------------------


@needs_onnx
def test_a_file_that_differs_from_jax_is_not_written(tmp_path, monkeypatch, capfd):
  load = onnx_file.load

  def off(data):
    call = load(data)
    return lambda images: {n: x + 2e-4 * (n == "photo_dist") for n, x in call(images).items()}

  monkeypatch.setattr(onnx_file, "load", off)
  folder, out = save_package(tmp_path / "package", "pskd"), tmp_path / "exported"
  line = refused(capfd, "--model", folder, "--format", "onnx", "--out", out)
  assert "its output photo_dist differs from JAX by 2.0e-04 on single images" in line
  assert not out.exists() and [path.name for path in tmp_path.iterdir()] == ["package"]


@needs_onnx
def test_weights_beyond_what_protobuf_holds_are_refused(tmp_path, monkeypatch, capfd):
  monkeypatch.setattr(onnx_file, "MAX_BYTES", 9_000)
  folder = save_package(tmp_path / "package", "vit")
  arguments = ["--model", folder, "--format", "onnx", "--out", tmp_path / "exported"]
  assert "an ONNX file holds 0.0 at most; add --half" in refused(capfd, *arguments)
  monkeypatch.setattr(onnx_file, "MAX_BYTES", 12_000)
  assert call(*arguments) == 2 and call(*arguments, "--half") == 0


def test_without_the_libraries_the_next_move_is_named(tmp_path, monkeypatch, capfd):
  find = importlib.util.find_spec
  gone = ("jax2onnx", "onnxruntime")
  monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in gone else find(n))
  line = refused(capfd, "--model", tmp_path, "--format", "onnx", "--out", tmp_path / "exported")
  assert "jax2onnx and onnxruntime" in line and line.endswith("run ./launch.sh setup --with export")

"""StableHLO files are forward, frozen with its weights; read back by jax.export alone."""

import jax
import numpy as np
import pytest
from jax import export

from sbir import trees
from sbir.exported import as_half
from tests.exports import near, views, write
from tests.packages import noise

INPUTS = {
  "vit": ["photo"],
  "xmodal-teacher": ["photo", "sketch"],
  "xmodal-student": ["photo"],
  "pskd": ["photo"],
}


def read(path):
  return export.deserialize(bytearray(path.read_bytes()))


@pytest.mark.parametrize("name", INPUTS)
def test_a_program_of_any_batch_gives_what_forward_gives(tmp_path, name):
  model, path = write(tmp_path, name, "stablehlo", "--dynamic-batch")
  program = read(path)
  assert program.platforms == ("cpu", "cuda", "tpu")
  for num in (1, 5):
    images = {modality: views(model, num, seed) for seed, modality in enumerate(INPUTS[name])}
    near(program.call(images), model.forward(**images))


def test_a_program_of_batch_1_takes_one_image(tmp_path):
  model, path = write(tmp_path, "xmodal-pair", "stablehlo", "--modality", "sketch")
  images = {"sketch": views(model, 1)}
  near(read(path).call(images), model.forward(**images))
  with pytest.raises(ValueError, match="5"):
    read(path).call({"sketch": views(model, 5)})


def test_from_pixels_it_is_encode_photos(tmp_path):
  model, path = write(tmp_path, "vit", "stablehlo", "--pixels", "--dynamic-batch")
  found = read(path).call({"photo": noise(3)})
  near(found, {"embedding": model.encode_photos(list(noise(3)))})


def test_half_stores_weights_in_two_bytes_and_computes_in_four(tmp_path):
  wide = {"encoder": {"width": 48, "depth": 1, "num_heads": 2, "patch_size": 8}}
  model, path = write(tmp_path, "vit", "stablehlo", "--half", **wide)
  weights = sum(leaf.size for leaf in trees.flatten(model.params).values())
  assert 2 * weights < path.stat().st_size < 3 * weights
  rounded = jax.tree.map(lambda x: x.astype(np.float32), as_half(model.params))
  images = {"photo": views(model, 1)}
  found = read(path).call(images)
  near(found, model.network.forward(rounded, images))
  assert {value.dtype.name for value in found.values()} == {"float32"}
  assert np.abs(found["photo"] - model.forward(**images)["photo"]).max() > 1e-4

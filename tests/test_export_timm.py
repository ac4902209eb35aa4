"""State dicts under timm's names, and PSKD's, come back as the same weights bit for bit."""

import jax
import numpy as np
import pytest

from pskd.pretrained import convert_released
from sbir import trees
from sbir.pretrained import convert_vit
from sbir.safetensors_file import read_safetensors
from sbir.timm_names import to_timm
from tests.exports import write
from tests.packages import ENCODER, NETWORKS, SIDE
from tests.vit_layouts import timm_shapes

ENCODERS = {  # architecture, flags: where the encoder's parameters are
  ("vit",): ("encoder",),
  ("xmodal-student",): ("encoder",),
  ("xmodal-teacher", "--modality", "sketch"): ("sketch_encoder",),
  ("xmodal-teacher", "--modality", "photo"): ("photo_encoder",),
  ("xmodal-pair", "--modality", "sketch"): ("sketch", "encoder"),
}


def same(found, expected):
  found, expected = trees.flatten(found), trees.flatten(expected)
  assert found.keys() == expected.keys()
  for name, leaf in expected.items():
    np.testing.assert_array_equal(found[name], leaf, err_msg=name, strict=True)


@pytest.mark.parametrize("asked", ENCODERS)
def test_an_encoder_is_read_back_as_it_was(tmp_path, asked):
  architecture, *flags = asked
  model, path = write(tmp_path, architecture, "timm", *flags)
  expected = model.params
  for name in ENCODERS[asked]:
    expected = expected[name]
  found = convert_vit(read_safetensors(path), "timm", num_heads=2, what="file")
  same(found.params["encoder"], expected)


def test_names_and_shapes_are_those_of_timms_vit(tmp_path):
  _, path = write(tmp_path, "vit", "timm")
  shapes = {name: array.shape for name, array in read_safetensors(path).items()}
  expected = timm_shapes(ENCODER["width"], ENCODER["depth"], ENCODER["patch_size"], SIDE)
  assert shapes == {name: tuple(shape) for name, shape in expected.items()}
  assert b'"__metadata__":{"format":"pt"}' in path.read_bytes()[:4000]


@pytest.mark.parametrize("resample", [True, False])
def test_pskd_is_read_back_as_it_was(tmp_path, capsys, resample):
  model, path = write(tmp_path, "pskd", "timm", dino_posembed_resample=resample)
  found = convert_released(read_safetensors(path), num_heads=2, what="file")
  same(found.params, model.params)
  assert found.network == {**NETWORKS["pskd"], "dino_posembed_resample": True}
  printed = capsys.readouterr().out
  assert "PSKD's released code; timm has no ViT of two tokens" in printed
  assert ("which this model does not" in printed) == (not resample)


def test_what_is_not_of_the_encoder_is_named(tmp_path, capsys):
  write(tmp_path, "xmodal-student", "timm")
  assert "head, head_norm: not of the encoder" in capsys.readouterr().out


def test_a_leaf_that_timm_has_not_is_an_error():
  with pytest.raises(ValueError, match="dist_token has no name"):
    to_timm({"dist_token": jax.numpy.zeros((1, 1, 4))})

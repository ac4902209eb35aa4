"""The released checkpoints of both methods: what their names say, and what is not one of them."""

import numpy as np
import pytest

from sbir.types import UserError
from tests.released_files import (
  TIMM,
  convert,
  released_pskd,
  released_student,
  released_teacher,
)
from tests.vit_layouts import drawn, timm_shapes


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


def test_pskds_sizes_are_read_off_the_shapes():
  network = convert("pskd", drawn(released_pskd())).network
  del network["encoder"]
  expected = {"hidden": 20, "bottleneck": 10, "num_classes": 9, "dino_posembed_resample": True}
  assert network == expected

"""PSKD's parameters under the released code's names: what `pretrained.convert_released` reads."""

import numpy as np

from sbir.timm_names import VIT, Name, below, linear, renamed, same
from sbir.types import Params

HEAD = {"fc1": 0, "fc2": 2, "fc3": 4}  # places of the linear layers in their nn.Sequential

RELEASED = (
  Name(r"backbone/dist_token", "backbone.dist_img_token", same),
  Name(r"backbone/fusion_token", "backbone.fusion_token", same),
  *below(r"backbone/", "backbone.", VIT),
  *(
    Name(f"head/{ours}/{leaf}", f"head_fusion.mlp.{place}.{theirs}", form)
    for ours, place in HEAD.items()
    for leaf, theirs, form in (("kernel", "weight", linear), ("bias", "bias", same))
  ),
  Name(r"head/classifier/kernel", "head_fusion.fc.weight", linear),
  Name(r"head/classifier/bias", "head_fusion.fc.bias", same),
)


def to_released(params: Params) -> dict[str, np.ndarray]:
  """Returns the state dict, as the released code names it, of our network's parameters.

  Source: acmmm22anonymous/PSKD@a505f9f vision_transformer.py, utils.MultiCropWrapper. Its second
  head, of the dist token, is never called; we have none, and none is written.
  """
  return renamed(params, RELEASED)

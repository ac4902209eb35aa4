"""Find photos from drawings: the core that XModalViT and PSKD share.

import sbir
model = sbir.from_pretrained("DIR")            # or "hf:org/name"
model.encode_photos(["a.jpg", "b.jpg"]) @ model.encode_sketches(["drawing.png"]).T
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
  import os

  from sbir.models import Model

__all__ = ["from_pretrained"]


def from_pretrained(place: "str | os.PathLike[str]") -> "Model":
  """Returns the model of a package: a folder, or "hf:org/name[@revision]" on the Hugging Face Hub.

  Raises: sbir.types.UserError (a ValueError) if there is none, or it is damaged.
  """
  from sbir import models  # jax and the networks: not before they are needed

  return models.from_pretrained(place)

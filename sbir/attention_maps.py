"""Where a model looked: its attention over the patches of an image, as numbers and as pictures.

maps = class_token_attention(model, squares, "sketch")       # f32[b, rows, columns], 0..1
picture = laid_over(squares[0], maps[0])                     # u8[s, s, 3]
"""

import numpy as np
from jaxtyping import Float, UInt8

from sbir.drawing import laid_over as laid_over
from sbir.models import Model
from sbir.nn.class_attention import as_maps


def class_token_attention(
  model: Model, images: UInt8[np.ndarray, "b s s 3"], modality: str
) -> Float[np.ndarray, "b gh gw"]:
  """Returns how much the token that becomes the embedding looks at each patch in the last block.

  The mean over heads, divided by the largest of each image: 1 is where it looks most, 0 where it
  does not look. That token is the class token, of PSKD the fusion token; a teacher's is that of its
  encoder of the modality. `images` are squares of the model's size (`sbir.data.fit.fit_square`).
  What this says of why a photo was found is little: the blocks before have mixed the patches.

  Raises: UserError if the images are of another size or kind, or the model does not take them.
  """
  return as_maps(model.attention(modality, images))


def attention_pictures(
  model: Model, images: UInt8[np.ndarray, "b s s 3"], modality: str
) -> UInt8[np.ndarray, "b s s 3"]:
  """Returns the images with their maps laid over them. Raises: as `class_token_attention`."""
  maps = class_token_attention(model, images, modality)
  return np.stack([laid_over(image, heat) for image, heat in zip(images, maps, strict=True)])

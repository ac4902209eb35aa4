"""The page's panel that shows where the model looked on the sketch."""

from typing import Any

import numpy as np

from sbir.data.fit import fit_square
from sbir.data.images import as_jpeg
from sbir.page_sketch import read_sketch, to_data_url

SHOWN = 256  # pixels of the picture's side; the model's own square can be as small as 64


def look_at(model: Any, data: bytes) -> str:
  """Returns the panel's HTML for an uploaded sketch. Raises: PageError if it cannot be read."""
  from sbir.attention_maps import class_token_attention, laid_over

  how, sketch = model.preprocessing, read_sketch(data)
  square = fit_square(sketch, how.image_size, how.fit)
  heat = class_token_attention(model, square[None], "sketch")[0]
  picture = laid_over(fit_square(sketch, SHOWN, how.fit), heat)
  return (
    f'<figure class="look"><img src="{to_data_url(as_jpeg(np.asarray(picture)))}" '
    'alt="The sketch, darker where the model looked"><figcaption><b>Where the model looked</b>'
    "<span>Attention of the token that becomes the sketch's embedding. A small model may rest on "
    "bare paper.</span></figcaption></figure>"
  )

"""The pictures of the README: there, small, and made by docs/pictures.py."""

import re
import runpy

import numpy as np
from PIL import Image

from tests.paths import REPO

SCRIPT = runpy.run_path(str(REPO / "docs/pictures.py"))


def test_every_picture_of_the_readme_is_there_and_small():
  named = set(re.findall(r"\]\((docs/[^)]+)\)", (REPO / "README.md").read_text()))
  assert {f"docs/{name}.jpg" for name in SCRIPT["PICTURES"]} <= named
  for path in named:
    assert (REPO / path).stat().st_size < 200_000, path


def test_a_picture_is_as_good_as_fits():
  noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8)
  sizes = [len(SCRIPT["as_jpeg"](Image.fromarray(noise), quality)) for quality in (92, 40)]
  assert sizes[0] > SCRIPT["MOST"] > sizes[1]

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


def test_a_picture_is_as_good_as_fits(tmp_path):
  noise = np.random.default_rng(0).integers(0, 256, (800, 1000, 3)).astype(np.uint8)
  for method, name, _ in SCRIPT["PICTURES"].values():
    folder = tmp_path / method / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise if name == "grid.png" else noise // 255).save(folder / name)
  SCRIPT["main"](tmp_path, tmp_path)
  sizes = {path.stem: path.stat().st_size for path in tmp_path.glob("*.jpg")}
  assert sizes.keys() == SCRIPT["PICTURES"].keys()
  assert 100_000 < sizes["demo_grid"] < SCRIPT["MOST"]

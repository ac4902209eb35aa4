"""Random weights of the size of the tests' networks, in the form of every kind of file."""

import numpy as np

from sbir import convert
from tests.released_layouts import pskd_shapes, xmodal_student_shapes, xmodal_teacher_shapes
from tests.torch_files import save_torch
from tests.vit_layouts import augreg_shapes, dino_shapes, drawn, timm_shapes

SIDE, PATCH, WIDTH, DEPTH, HEADS = 16, 8, 48, 1, 3
VIT = (WIDTH, DEPTH, PATCH, SIDE)
# One step that changes nothing: the rate is far below what float32 can add.
STANDING = {"steps": "1", "optimizer.learning_rate": "1e-30", "eval_every": "0"}
SHAPES = {
  "augreg": augreg_shapes(WIDTH, DEPTH, HEADS, PATCH, SIDE, classes=5),
  "timm": timm_shapes(*VIT, classes=5),
  "dino": dino_shapes(*VIT, hidden=32, bottleneck=16, outputs=8),
  "deit": timm_shapes(*VIT, classes=5),
  "xmodal-teacher": xmodal_teacher_shapes(*VIT),
  "xmodal-student": xmodal_student_shapes(*VIT, embed_dim=WIDTH),
  "pskd": pskd_shapes(*VIT, hidden=32, bottleneck=16, classes=4),
}
WRAPPED = {"dino": "teacher", "deit": "model", "pskd": "student"}
VIT_KINDS = ("augreg", "timm", "dino", "deit")


def make_sources(root):
  """Writes a file of each kind and converts it; returns {kind: (file, its package)}."""
  found = {}
  for kind, shapes in SHAPES.items():
    arrays = {name: 0.2 * array for name, array in drawn(shapes).items()}
    path = root / f"{kind}.npz"
    if kind == "augreg":
      np.savez(path, **arrays)
    else:
      value = {WRAPPED[kind]: arrays, "epoch": 3} if kind in WRAPPED else arrays
      path = save_torch(path.with_suffix(".pth"), value)
    heads = [] if kind == "augreg" else ["--heads", str(HEADS)]
    out = str(root / f"{kind}_package")
    convert.main(["--from", kind, "--in", str(path), "--out", out, *heads])
    found[kind] = (str(path), out)
  return found

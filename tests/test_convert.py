"""Other people's files become packages, and the packages give other people's numbers."""

import ast
import functools
import json

import jax
import numpy as np
import pytest

import sbir
from sbir import convert
from sbir.convert import grouped
from sbir.torch_file import read_torch
from sbir.types import UserError
from tests.paths import GOLDENS, needs_shared
from tests.torch_files import save_torch
from tests.vit_layouts import timm_shapes
from tests.xmodal_runs import start

IMPORT = GOLDENS / "import"
FILES = {
  "augreg": "augreg_vit.npz",
  "timm": "timm_vit.pth",
  "dino": "dino_full_checkpoint.pth",
  "xmodal-teacher": "xmodal_teacher.pth",
  "xmodal-student": "xmodal_photo_student.pth",
  "pskd": "pskd_student.pth",
}


@functools.cache
def golden(name):
  return dict(np.load(GOLDENS / name))


def images(name, key, part=...):
  return golden(name)[key][part].transpose(0, 2, 3, 1)


def near(found, expected):
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
  """Returns {kind: folder}, each made by the command line; the heads are what no .pth tells."""
  root = tmp_path_factory.mktemp("packages")
  for kind, file in FILES.items():
    heads = [] if kind == "augreg" else ["--heads", "3"]
    arguments = ["--from", kind, "--in", str(IMPORT / file), "--out", str(root / kind), *heads]
    convert.main(arguments)
  with jax.default_matmul_precision("highest"):
    yield {kind: sbir.from_pretrained(root / kind) for kind in FILES}


@needs_shared
@pytest.mark.parametrize("kind", ["augreg", "timm"])
def test_one_network_in_two_formats_gives_googles_class_token(packages, kind):
  view = images("import/expected.npz", "augreg_image")
  for modality in ("photo", "sketch"):
    found = packages[kind].forward(**{modality: view})
    near(found[modality], golden("import/expected.npz")["augreg_cls"])


@needs_shared
def test_dino_gives_its_class_token_and_its_bottleneck(packages):
  found = packages["dino"].forward(photo=images("import/expected.npz", "dino_image"))
  near(found["photo"], golden("import/expected.npz")["dino_cls"])
  near(found["photo_bottleneck"], golden("import/expected.npz")["dino_head_bottleneck"])


@needs_shared
def test_the_authors_teacher_gives_their_fused_vectors(packages):
  photo, sketch = (images("xmodal_a.npz", key) for key in ("photo", "sketch_q"))
  found = packages["xmodal-teacher"].forward(photo=photo, sketch=sketch)
  near(found["photo"], golden("xmodal_a.npz")["fused_photo_q"])
  near(found["sketch"], golden("xmodal_a.npz")["fused_sketch_q"])


@needs_shared
def test_the_authors_student_gives_their_vectors(packages):
  photo, sketch = (images("xmodal_a.npz", key) for key in ("photo", "sketch_q"))
  found = packages["xmodal-student"].forward(photo=photo, sketch=sketch)
  near(found["photo"], golden("xmodal_a.npz")["student_photo"])
  near(found["sketch"], golden("xmodal_a.npz")["student_sketch_q"])


@needs_shared
def test_the_authors_pskd_gives_their_tokens_logits_and_bottleneck(packages):
  found = packages["pskd"].forward(photo=images("pskd_a.npz", "photo", (0, slice(4))))
  for ours, theirs in (
    ("photo", "fusion_token"),
    ("photo_dist", "dist_token"),
    ("photo_logits", "logits"),
    ("photo_bottleneck", "bottleneck"),
  ):
    near(found[ours], golden("pskd_a.npz")[theirs])


@needs_shared
@pytest.mark.parametrize("kind", FILES)
def test_what_the_file_tells_is_in_the_config(packages, kind):
  name = {"xmodal-teacher": "xmodal_a.npz", "xmodal-student": "xmodal_a.npz"}
  key = "augreg_config" if kind in ("augreg", "timm") else "config"
  sizes = ast.literal_eval(str(golden(name.get(kind, "import/expected.npz"))[key]))
  config = packages[kind].config
  encoder = config["network"]["encoder"]
  prefix = "student_" if kind == "xmodal-student" else ""
  heads = "student_heads" if prefix else "num_heads"
  assert encoder == {
    "width": sizes[f"{prefix}dim"],
    "depth": sizes[f"{prefix}depth"],
    "num_heads": sizes[heads],
    "patch_size": sizes["patch_size"],
  }
  assert config["image_size"] == sizes["image_size"]
  assert config["source"]["file"] == FILES[kind]
  assert len(config["source"]["sha256"]) == 64


@needs_shared
def test_the_listing_names_what_is_used_and_what_is_left_out(tmp_path):
  done = start(
    *("-m", "sbir.convert", "--from", "xmodal-teacher", "--in", IMPORT / FILES["xmodal-teacher"]),
    *("--out", tmp_path / "teacher", "--heads", "3", "--fusion_heads", "3"),
  )
  assert done.returncode == 0, done.stderr
  lines = [line.strip() for line in done.stdout.splitlines()]
  num = len(read_torch(IMPORT / FILES["xmodal-teacher"]))
  assert lines[0] == f"xmodal_teacher.pth: {num} entries"
  used, dead = (int(line.split()[-1]) for line in lines if line.startswith(("used:", "left out")))
  assert used + dead == num
  assert "mlp_head.*.weight: the pair score, never trained" in lines
  assert any("fusion_order sequential" in line for line in lines)
  card = (tmp_path / "teacher" / "README.md").read_text()
  assert "mlp_head.*.weight, mlp_head.*.bias: the pair score, never trained" in card
  assert "| jax | " in card
  assert str(tmp_path) not in card + (tmp_path / "teacher" / "config.json").read_text()


def random_timm(size=16, patch=8, width=12, seed=0):
  draw = np.random.default_rng(seed)
  shapes = timm_shapes(width, 1, patch, size, classes=3)
  return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def run(tmp_path, arrays, *flags, kind="timm"):
  path = save_torch(tmp_path / "vit.pth", arrays)
  out = tmp_path / "out"
  convert.main(["--from", kind, "--in", str(path), "--out", str(out), *flags])
  return sbir.from_pretrained(out)


def test_positions_are_resampled_when_asked_and_the_card_says_so(tmp_path):
  model = run(tmp_path, random_timm(), "--heads", "2", "--image_size", "32")
  assert model.params["encoder"]["pos_embed"].shape == (1, 17, 12)
  assert model.config["image_size"] == model.preprocessing.image_size == 32
  assert "resampled (bicubic) from images of 16 px" in model.card


@pytest.mark.parametrize(
  ("flags", "mean"), [((), 0.5), (("--normalise", "imagenet"), 0.485), (("--normalise", "none"), 0)]
)
def test_mean_and_std_are_the_kinds_unless_told(tmp_path, flags, mean):
  model = run(tmp_path, random_timm(), "--heads", "2", *flags)
  assert model.preprocessing.mean[0] == mean


@pytest.mark.parametrize(
  ("flags", "changed", "message"),
  [
    ((), {}, r"number of attention heads, and its width 12 is no multiple of 64; give --heads N"),
    (("--heads", "5"), {}, r"has width 12, which 5 attention heads do not divide"),
    (("--heads", "2"), {"extra": np.ones(2, np.float32)}, r"extra \(2,\)"),
    (("--heads", "2", "--image_size", "33"), {}, r"image_size=33 must divide by patch_size=8"),
  ],
)
def test_what_cannot_be_converted_leaves_nothing(tmp_path, flags, changed, message):
  with pytest.raises(UserError, match=message) as raised:
    run(tmp_path, random_timm() | changed, *flags)
  assert "\n" not in str(raised.value)
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("place", "message"),
  [
    ("nowhere.pth", r"--in=.*nowhere.pth is not there; give a file, a package's folder, or hf:"),
    ("", r"--in=.* is a folder without weights, expected one of model.safetensors"),
    ("two", r"--in=.*two has several files of weights \(a.npz, b.npz\); give one of them"),
    ("run", r"--in=.*run is a run folder, expected a package; make one of it with .*sbir.package"),
  ],
)
def test_a_place_without_weights_is_named(tmp_path, place, message):
  (tmp_path / "two").mkdir()
  (tmp_path / "run" / "checkpoints").mkdir(parents=True)
  for name in ("a", "b"):
    np.savez(tmp_path / "two" / f"{name}.npz", x=np.ones(2))
  with pytest.raises(UserError, match=message):
    convert.main(["--from", "timm", "--in", str(tmp_path / place), "--out", str(tmp_path / "out")])


def test_a_folder_with_one_file_of_weights_will_do(tmp_path):
  (tmp_path / "model").mkdir()
  save_torch(tmp_path / "model" / "pytorch_model.bin", random_timm())
  arguments = ["--from", "timm", "--in", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
  convert.main([*arguments, "--heads", "2"])
  config = json.loads((tmp_path / "out" / "config.json").read_text())
  assert config["source"]["file"] == "pytorch_model.bin"


def test_block_numbers_are_counted_together():
  names = ["blocks.0.norm1.weight", "blocks.11.norm1.weight", "norm1.weight", "a/encoderblock_3/b"]
  assert grouped(names) == {"blocks.*.norm1.weight": 2, "norm1.weight": 1, "a/encoderblock_*/b": 1}


@pytest.mark.parametrize("heads", ["0", "-1", "x", "1.5"])
def test_a_number_of_heads_that_is_none_is_refused(heads, capsys):
  with pytest.raises(SystemExit) as stopped:
    convert.main(["--from", "timm", "--in", "a", "--out", "b", "--heads", heads])
  assert stopped.value.code == 2
  assert f"{heads!r} must be a whole number, at least 1" in capsys.readouterr().err

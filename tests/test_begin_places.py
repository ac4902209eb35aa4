"""Where given weights go in each network, and which have no place in it."""

import jax
import numpy as np
import pytest

import sbir
from pskd import begin as pskd_begin
from sbir import cli, convert
from sbir import package as sbir_package
from sbir.package_folder import read_package, write_package
from sbir.types import UserError
from tests import pskd_runs, xmodal_runs
from tests.vit_layouts import augreg_shapes, drawn
from tests.weight_sources import DEPTH, HEADS, PATCH, SIDE, STANDING, WIDTH, make_sources
from xmodal import begin as xmodal_begin
from xmodal.stages import train_stage


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
  return make_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
  return xmodal_runs.make_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.mark.parametrize(
  ("main", "kind", "changes", "message"),
  [
    ("teacher", "xmodal-student", {}, r"is a xmodal-student, which has no place in a teacher"),
    (
      "teacher",
      "xmodal-teacher",
      {},
      r"another fusion; set --config.model.fusion_order=sequential",
    ),
    ("teacher", "timm", {"model.size": "tiny"}, r"has no place|does not fit this model"),
    ("teacher", "package", {}, r"timm.pth is no model package, expected a folder with config.json"),
  ],
)
def test_weights_of_another_model_are_refused(
  sources, pairs, tmp_path, main, kind, changes, message
):
  file = sources["timm" if kind == "package" else kind][0]
  settings = {"data.dir": str(pairs), "init.kind": kind, "init.path": file, **changes}
  config = cli.load_config(
    f"configs/xmodal/{main}.py:shoe304", xmodal_runs.TINY | STANDING | settings
  )
  with pytest.raises(UserError, match=message) as raised:
    train_stage(config, str(tmp_path / "run"))
  assert "\n" not in str(raised.value)
  assert not (tmp_path / "run").exists()


def fresh(package):
  """Returns zeros in the form of a package's parameters."""
  return jax.tree.map(np.zeros_like, sbir.from_pretrained(package).params)


def configured(method, stage, kind, path, **changes):
  name = {"xmodal": "shoe304", "pskd": "sketchy_mini"}[method]
  tiny = {"xmodal": xmodal_runs.TINY, "pskd": pskd_runs.TINY}[method]
  settings = {**tiny, "init.kind": kind, "init.path": path, **changes}
  if stage != "teacher":
    settings.pop("model.fusion_depth", None)
  return cli.load_config(f"configs/{method}/{stage}.py:{name}", settings)


@pytest.mark.parametrize("given", ["file", "pair"])
def test_both_sides_of_a_baseline_begin_as_the_students(sources, tmp_path, given):
  file, package = sources["xmodal-student"]
  student = sbir.from_pretrained(package).params
  kind, path = "xmodal-student", file
  if given == "pair":
    kind, path = "package", str(tmp_path / "pair")
    sbir_package.main(["--photo", package, "--sketch", package, "--out", path])
  params = {"photo": fresh(package), "sketch": fresh(package)}
  begun, _ = xmodal_begin.begin(configured("xmodal", "baseline", kind, path), params, HEADS)
  for side in ("photo", "sketch"):
    jax.tree.map(np.testing.assert_array_equal, begun[side], student)


@pytest.mark.parametrize("modality", ["photo", "sketch"])
def test_a_student_begins_as_its_side_of_a_pair(sources, tmp_path, modality):
  package = sources["xmodal-student"][1]
  other = str(tmp_path / "other")
  write_package(other, twice_as_large(package))
  sides = {"photo": package, "sketch": other}
  flags = ["--photo", sides["photo"], "--sketch", sides["sketch"]]
  sbir_package.main([*flags, "--out", str(tmp_path / "pair")])
  config = configured("xmodal", "student", "package", str(tmp_path / "pair"), modality=modality)
  begun, _ = xmodal_begin.begin(config, fresh(package), HEADS)
  expected = sbir.from_pretrained(sides[modality]).params
  jax.tree.map(np.testing.assert_array_equal, begun, expected)


def twice_as_large(folder):
  package = read_package(folder)
  return package._replace(params=jax.tree.map(lambda x: 2 * x, package.params))


@pytest.mark.parametrize(("num_classes", "is_kept"), [(4, True), (6, False)])
def test_a_classifier_of_other_classes_begins_anew_and_that_is_said(
  sources, capfd, num_classes, is_kept
):
  file, package = sources["pskd"]
  params = fresh(package)
  params["head"]["classifier"] = {
    "kernel": np.zeros((16, num_classes), np.float32),
    "bias": np.zeros(num_classes, np.float32),
  }
  changes = {"model.dino_posembed_resample": "true"}
  config = configured("pskd", "student", "pskd", file, **changes)
  begun, _ = pskd_begin.begin(config, params, HEADS)
  assert np.any(begun["head"]["classifier"]["kernel"]) == is_kept
  assert np.any(begun["head"]["fc1"]["kernel"])
  is_said = "knows 4 classes, here are 6: the classifier begins anew" in capfd.readouterr().err
  assert is_said != is_kept


def test_a_network_that_stretches_its_positions_wants_a_model_that_does(sources):
  file, package = sources["pskd"]
  config = configured("pskd", "student", "pskd", file)
  message = r"trained with dino_posembed_resample=True; set --config.model.*=true"
  with pytest.raises(UserError, match=message):
    pskd_begin.begin(config, fresh(package), HEADS)


def test_a_network_of_the_other_method_has_no_place(sources):
  package = sources["xmodal-student"][1]
  config = configured("pskd", "student", "package", package)
  with pytest.raises(UserError, match="is a xmodal-student, which has no place in PSKD's network"):
    pskd_begin.begin(config, fresh(sources["pskd"][1]), HEADS)


@pytest.mark.parametrize(
  ("kind", "source", "message"),
  [
    ("package", "many_heads", r"it has 6 attention heads, this model 3$"),
    ("augreg", "many_heads.npz", r"it has 6 attention heads, this model 3$"),
    ("dino", "package", r"is a package made of 'timm', not of 'dino'; set the kind to package$"),
  ],
)
def test_other_heads_and_other_kinds_are_refused(sources, pairs, tmp_path, kind, source, message):
  path = sources["timm"][1]
  if source == "many_heads":
    path = str(tmp_path / source)
    convert.main(["--from", "timm", "--in", sources["timm"][0], "--heads", "6", "--out", path])
  elif source == "many_heads.npz":
    path = str(tmp_path / source)
    np.savez(path, **drawn(augreg_shapes(WIDTH, DEPTH, 6, PATCH, SIDE)))
  settings = {"data.dir": str(pairs), "init.kind": kind, "init.path": path}
  config = cli.load_config("configs/xmodal/teacher.py:shoe304", xmodal_runs.TINY | settings)
  with pytest.raises(UserError, match=message) as raised:
    train_stage(config, str(tmp_path / "run"))
  assert str(raised.value).startswith(f"init.path={path} ")
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("kind", "path", "message"),
  [
    ("imagenet", "", r"init.kind='imagenet' is unknown; choose one of random, augreg, timm, dino"),
    (
      "random",
      "a.npz",
      r"init.path=a.npz is not read with init.kind=random; set init.kind as well",
    ),
    ("dino", "", r"init.kind=dino needs weights; set init.path to DINO's backbone file or .* hf:"),
    ("package", "no/where", r"init.path=no/where is not a file or folder; set it to the folder of"),
    ("timm", "hf:timm", r"'hf:timm' is no place on the hub, expected hf:org/name"),
  ],
)
@pytest.mark.parametrize("method", ["xmodal", "pskd"])
def test_a_kind_and_a_path_that_do_not_go_together_are_refused(method, kind, path, message):
  name = {"xmodal": "shoe304", "pskd": "sketchy_mini"}[method]
  settings = {"init.kind": kind, "init.path": path}
  config = cli.load_config(f"configs/{method}/teacher.py:{name}", settings)
  module = __import__(f"{method}.checks", fromlist=["check_training"])
  with pytest.raises(UserError, match=message):
    module.check_training(config)

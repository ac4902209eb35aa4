"""A run becomes a package, and the package embeds as the run's own evaluation did."""

import json

import numpy as np
import pytest

import sbir
from pskd import pipeline as pskd_pipeline
from pskd.measure import evaluate_network
from sbir import cli, package
from sbir.mesh import make_mesh
from sbir.package_folder import write_package
from sbir.types import UserError
from tests import pskd_runs, xmodal_runs
from tests.packages import make_package, noise, save_package
from tests.xmodal_runs import start
from xmodal import pipeline as xmodal_pipeline
from xmodal.encoders import load_encoder
from xmodal.measure import evaluate_encoders
from xmodal.stages import open_split, train_stage

FILES = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]


@pytest.fixture(scope="module")
def xmodal(tmp_path_factory):
  """The workdir of a pipeline of two steps, with a baseline of one beside its stages."""
  folder = tmp_path_factory.mktemp("xmodal")
  data = str(xmodal_runs.make_pairs(folder / "data"))
  settings = xmodal_runs.TINY | {"steps": "2", "eval_every": "0", "data.dir": data}
  xmodal_pipeline.run("shoe304", folder, settings)
  settings.pop("model.fusion_depth")
  baseline = cli.load_config("configs/xmodal/baseline.py:shoe304", settings)
  train_stage(baseline, str(folder / "baseline"))
  return folder


@pytest.fixture(scope="module")
def pskd(tmp_path_factory):
  """The workdir of a pipeline of one epoch."""
  folder = tmp_path_factory.mktemp("pskd")
  data = pskd_runs.of_data(pskd_runs.make_classes(folder / "data"))
  settings = pskd_runs.TINY | {"epochs": "1", "warmup_epochs": "1", "loss.ila_group": "2", **data}
  pskd_pipeline.run("sketchy_mini", folder, settings)
  return folder


def files_of(source, modality, folder):
  return [folder / record.key for record in source.records if record.modality == modality]


@pytest.mark.slow
def test_a_pipelines_package_embeds_as_its_students(xmodal):
  model = sbir.from_pretrained(xmodal / "package")
  for modality, encode in (("photo", model.encode_photos), ("sketch", model.encode_sketches)):
    encoder = load_encoder(str(xmodal / f"{modality}_student"), modality)
    source = open_split(encoder.config, "test")
    expected = encoder.embed(source, batch_size=8, mesh=make_mesh())
    files = files_of(source, modality, xmodal / "data")
    np.testing.assert_allclose(encode(files), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_pskd_package_embeds_as_its_evaluation(pskd):
  model, saved = sbir.from_pretrained(pskd / "package"), np.load(pskd / "evaluation/embeddings.npz")
  folders = [pskd / "data" / "sketch" / name for name in pskd_runs.UNSEEN]
  files = sorted(file for folder in folders for file in folder.iterdir())
  expected = saved["query"] / np.linalg.norm(saved["query"], axis=1, keepdims=True)
  np.testing.assert_allclose(model.encode_sketches(files), expected, rtol=0, atol=1e-5)
  assert model.config["classes"] == ["ant", "cow", "doe", "fox"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["xmodal", "pskd"])
def test_the_command_makes_the_pipelines_own_package_again(method, request, tmp_path):
  folder = request.getfixturevalue(method)
  package.main(["--run", str(folder), "--out", str(tmp_path / "out")])
  for name in FILES:
    assert (tmp_path / "out" / name).read_bytes() == (folder / "package" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("method", ["xmodal", "pskd"])
def test_a_card_has_what_the_run_tells_and_nothing_of_the_disk(method, request):
  folder = request.getfixturevalue(method)
  report = json.loads((folder / "evaluation" / "evaluation.json").read_text())
  card = (folder / "package" / "README.md").read_text()
  for name, (low, high) in report["intervals"].items():
    shown = (
      f"| {name} | {100 * report['metrics'][name]:.1f} | {100 * low:.1f} to {100 * high:.1f} |"
    )
    assert shown in card
  assert f"split: {report['about']['split']}" in card
  assert "SHA-256" in report["about"]["split"]
  for heading in ("## Use", "## Model", "## Measured", "## Commands", "## Versions", "## Limits"):
    assert heading in card
  assert "began from random weights" in card
  texts = card + (folder / "package" / "config.json").read_text()
  assert str(folder) not in texts
  assert str(folder.parent) not in texts


@pytest.mark.slow
def test_a_package_is_measured_as_its_runs_are(xmodal, pskd, tmp_path):
  data = {"data.dir": str(xmodal / "data")}
  sides = {name: str(xmodal / "package") for name in ("photo", "sketch")}
  config = cli.load_config("configs/xmodal/evaluate.py:shoe304", data | sides)
  report = evaluate_encoders(config, tmp_path / "xmodal")
  saved = json.loads((xmodal / "evaluation" / "evaluation.json").read_text())
  assert report.metrics == saved["metrics"]

  settings = pskd_runs.of_data(pskd / "data") | {"model": str(pskd / "package")}
  config = cli.load_config("configs/pskd/evaluate.py:sketchy_mini", settings)
  report = evaluate_network(config, tmp_path / "pskd")
  saved = json.loads((pskd / "evaluation" / "evaluation.json").read_text())
  assert report.metrics == pytest.approx(saved["metrics"], abs=1e-12)
  about = json.loads((tmp_path / "pskd" / "evaluation.json").read_text())["about"]
  assert about["network"] == f"package {pskd / 'package'}"


@pytest.mark.slow
@pytest.mark.parametrize(
  ("key", "architecture", "message"),
  [
    ("photo", "pskd", r"photo=.* is a package of pskd \(both\), expected a photo student's"),
    ("sketch", "xmodal-student", r"sketch=.* is a package of xmodal-student \(photo\), expected a"),
  ],
)
def test_a_package_of_another_kind_is_not_measured(xmodal, tmp_path, key, architecture, message):
  package = str(save_package(tmp_path / "package", architecture))
  sides = {name: str(xmodal / "package") for name in ("photo", "sketch")} | {key: package}
  settings = {"data.dir": str(xmodal / "data"), **sides}
  config = cli.load_config("configs/xmodal/evaluate.py:shoe304", settings)
  with pytest.raises(UserError, match=message):
    evaluate_encoders(config, tmp_path / "out")
  assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_converted_network_is_measured_and_its_classes_said_to_be_unknown(pskd, tmp_path, capfd):
  how = make_package("pskd").preprocessing._replace(image_size=16)
  package = make_package("pskd", how=how)
  package = package._replace(config={**package.config, "classes": [], "training": {"x": 1}})
  write_package(tmp_path / "package", package)
  settings = pskd_runs.of_data(pskd / "data") | {"model": str(tmp_path / "package")}
  config = cli.load_config("configs/pskd/evaluate.py:sketchy_mini", settings)
  assert evaluate_network(config, tmp_path / "out").queries == 6
  assert "does not tell its classes" in capfd.readouterr().err
  config.select = "best"
  with pytest.raises(UserError, match=r"select=best, but model=.* is a package: use select=last"):
    evaluate_network(config, tmp_path / "other")


@pytest.mark.slow
def test_every_stage_has_a_package_of_its_own(xmodal, pskd, tmp_path):
  runs = {
    xmodal / "teacher": "xmodal-teacher",
    xmodal / "sketch_student": "xmodal-student",
    xmodal / "baseline": "xmodal-pair",
    pskd / "teacher": "pskd",
  }
  for run, architecture in runs.items():
    package.main(["--run", str(run), "--out", str(tmp_path / run.name / architecture)])
    model = sbir.from_pretrained(tmp_path / run.name / architecture)
    assert model.config["architecture"] == architecture
  assert "| map@all[voc] |" in model.card
  assert "network: teacher teacher, step 3 of 3" in model.card  # not the student's evaluation
  alone = sbir.from_pretrained(tmp_path / "sketch_student" / "xmodal-student")
  assert alone.network.modalities == ("sketch",)
  assert "Nothing yet" in alone.card  # the evaluation beside it is of the pair
  pair = sbir.from_pretrained(xmodal / "package")
  images = noise(2)
  np.testing.assert_array_equal(alone.encode_sketches(images), pair.encode_sketches(images))


@pytest.mark.slow
def test_two_students_become_a_pair_whether_runs_or_packages(xmodal, tmp_path):
  sides = {name: xmodal / f"{name}_student" for name in ("photo", "sketch")}
  package.main(["--run", str(sides["photo"]), "--out", str(tmp_path / "photo")])
  ours = (xmodal / "package" / "model.safetensors").read_bytes()
  for i, photo in enumerate((sides["photo"], tmp_path / "photo")):
    out = tmp_path / f"pair{i}"
    package.main(["--photo", str(photo), "--sketch", str(sides["sketch"]), "--out", str(out)])
    assert (out / "model.safetensors").read_bytes() == ours


@pytest.mark.slow
@pytest.mark.parametrize(
  ("photo", "sketch", "message"),
  [
    ("sketch_student", "photo_student", r"is the run folder of a sketch student, expected a photo"),
    ("teacher", "sketch_student", r"is the run folder of a teacher, expected a photo student's"),
    ("photo_student", "baseline", r"do not belong together: \(stage, width, images\)"),
    ("photo_student", "nowhere", r"run folder .*nowhere does not exist"),
  ],
)
def test_runs_that_make_no_pair_are_refused(xmodal, tmp_path, photo, sketch, message):
  flags = ["--photo", str(xmodal / photo), "--sketch", str(xmodal / sketch)]
  with pytest.raises(UserError, match=message):
    package.main([*flags, "--out", str(tmp_path / "out")])
  assert not (tmp_path / "out").exists()


def student(folder, modality, **changes):
  return str(save_package(folder, "xmodal-student", modality=modality, **changes))


def test_packages_of_two_students_are_joined(tmp_path):
  photo, sketch = student(tmp_path / "p", "photo"), student(tmp_path / "s", "either", seed=1)
  package.main(["--photo", photo, "--sketch", sketch, "--out", str(tmp_path / "pair")])
  pair = sbir.from_pretrained(tmp_path / "pair")
  images = noise(2)
  for encode, single in (("encode_photos", photo), ("encode_sketches", sketch)):
    expected = getattr(sbir.from_pretrained(single), encode)(images)
    np.testing.assert_allclose(getattr(pair, encode)(images), expected, atol=1e-6)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"modality": "photo"}, r"sketch=.* is a photo student, expected a sketch .*exchange"),
    ({"modality": "sketch", "embed_dim": 6}, r"do not belong together: \(width of embeddings"),
    ({"modality": "sketch", "how": make_package("vit").preprocessing._replace(fit="trim")},
     r"do not belong together: .*trim"),
  ],
)  # fmt: skip
def test_packages_that_make_no_pair_are_refused(tmp_path, changes, message):
  photo, sketch = student(tmp_path / "p", "photo"), student(tmp_path / "s", **changes)
  with pytest.raises(UserError, match=message):
    package.main(["--photo", photo, "--sketch", sketch, "--out", str(tmp_path / "pair")])


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ([], "give either --run W, or --photo and --sketch"),
    (["--run", "a", "--photo", "b"], "give either --run W, or --photo and --sketch"),
    (["--photo", "b"], "--photo and --sketch go together"),
    (["--run", "nowhere"], "--run nowhere is neither a training's run folder nor the workdir"),
  ],
)
def test_a_command_line_that_asks_for_nothing_is_one_line(flags, message, tmp_path):
  done = start("-m", "sbir.package", *flags, "--out", tmp_path / "out")
  assert done.returncode == 2
  assert done.stderr.startswith("error: ") and message in done.stderr
  assert len(done.stderr.splitlines()) == 1
  assert not (tmp_path / "out").exists()

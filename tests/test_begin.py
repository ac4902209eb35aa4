"""A training begins from weights of every kind: what it embeds before its first step is theirs."""

import contextlib
import hashlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import pskd.package_run
import sbir
import xmodal.package_run
from pskd import train_teacher as pskd_teacher
from sbir import cli, models
from sbir.package_folder import write_package
from sbir.types import UserError
from tests import pskd_runs, xmodal_runs
from tests.packages import noise
from tests.weight_sources import SIDE, STANDING, VIT_KINDS, WIDTH, make_sources
from xmodal import train_photo_student, train_teacher
from xmodal.stages import train_stage


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
  return make_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
  return xmodal_runs.make_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
  return pskd_runs.make_classes(tmp_path_factory.mktemp("classes"))


def run(main, arguments):
  with contextlib.suppress(SystemExit), pytest.raises(SystemExit) as stopped:
    cli.run(main, arguments)
  assert stopped.value.code == 0


def train(main, workdir, data, init, config="teacher.py:shoe304", **changes):
  kind, path = init
  settings = xmodal_runs.TINY | STANDING | {"init.kind": kind, "init.path": path} | changes
  if config.startswith("student"):
    settings.pop("model.fusion_depth")
  run(main, xmodal_runs.arguments(config, workdir, {**settings, "data.dir": str(data)}))
  return workdir


def train_pskd(workdir, data, init, **changes):
  kind, path = init
  settings = pskd_runs.TINY | {
    "epochs": "1",
    "warmup_epochs": "1",
    "optimizer.lr": "1e-30",
    "optimizer.min_lr": "0",
    "init.kind": kind,
    "init.path": path,
    **pskd_runs.of_data(data),
    **changes,
  }
  run(pskd_teacher.main, pskd_runs.arguments("teacher.py:sketchy_mini", workdir, settings))
  return workdir


def images():
  return (noise(3, SIDE) / 255).astype(np.float32)


def close(found, expected):
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", VIT_KINDS)
def test_both_encoders_of_a_teacher_begin_as_the_plain_vit(sources, pairs, tmp_path, kind):
  file, package = sources[kind]
  workdir = train(train_teacher.main, tmp_path, pairs, (kind, file))
  expected = sbir.from_pretrained(package).forward(photo=images())["photo"]
  params = models.Model(xmodal.package_run.package_run(workdir)).params
  plain = sbir.from_pretrained(package).network.forward
  for encoder in ("photo_encoder", "sketch_encoder"):
    begun = {"encoder": params[encoder]}
    if kind == "dino":
      begun["head"] = sbir.from_pretrained(package).params["head"]
    close(plain(begun, {"photo": images()})["photo"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("given", ["file", "package"])
def test_a_teacher_begins_as_the_authors_teacher(sources, pairs, tmp_path, given):
  file, package = sources["xmodal-teacher"]
  init = ("xmodal-teacher", file) if given == "file" else ("package", package)
  changes = {"model.fusion_order": "sequential", "model.fusion_heads": "3"}
  workdir = train(train_teacher.main, tmp_path, pairs, init, **changes)
  both = {"photo": images(), "sketch": images()[::-1]}
  found = models.Model(xmodal.package_run.package_run(workdir)).forward(**both)
  expected = sbir.from_pretrained(package).forward(**both)
  for name in both:
    close(found[name], expected[name])


@pytest.mark.slow
def test_a_student_begins_as_the_authors_student(sources, pairs, tmp_path):
  teacher = train(train_teacher.main, tmp_path / "teacher", pairs, ("random", ""))
  file, package = sources["xmodal-student"]
  workdir = train(
    train_photo_student.main,
    tmp_path / "student",
    pairs,
    ("xmodal-student", file),
    "student.py:shoe304",
    teacher=str(teacher),
  )
  found = models.Model(xmodal.package_run.package_run(workdir)).forward(photo=images())
  close(found["photo"], sbir.from_pretrained(package).forward(photo=images())["photo"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", VIT_KINDS)
def test_pskd_begins_with_both_tokens_the_class_token(sources, classes, tmp_path, kind, capfd):
  file, package = sources[kind]
  workdir = train_pskd(tmp_path, classes, (kind, file))
  found = models.Model(pskd.package_run.package_run(workdir))
  source = sbir.from_pretrained(package).params
  encoder, backbone = source["encoder"], found.params["backbone"]
  tokens = found.forward(photo=images())
  close(tokens["photo_dist"], tokens["photo"])  # nothing tells the two tokens apart yet
  for name in ("dist_token", "fusion_token"):
    np.testing.assert_array_equal(backbone[name], encoder["cls_token"])
  for block in ("block_0", "patch_embed", "norm"):
    jax.tree.map(np.testing.assert_array_equal, backbone[block], encoder[block])
  np.testing.assert_array_equal(backbone["pos_embed"][:, 1:], encoder["pos_embed"])
  if kind == "dino":
    for name in ("fc1", "fc2", "fc3"):
      jax.tree.map(np.testing.assert_array_equal, found.params["head"][name], source["head"][name])
  assert ("its MLP begins from random weights" in capfd.readouterr().err) == (kind != "dino")


@pytest.mark.slow
def test_pskd_begins_as_the_authors_network(sources, classes, tmp_path):
  file, package = sources["pskd"]
  changes = {"model.dino_posembed_resample": "true"}
  workdir = train_pskd(tmp_path, classes, ("pskd", file), **changes)
  found = models.Model(pskd.package_run.package_run(workdir)).forward(sketch=images())
  expected = sbir.from_pretrained(package).forward(sketch=images())
  for name in ("sketch", "sketch_dist", "sketch_bottleneck", "sketch_logits"):
    close(found[name], expected[name])


@pytest.mark.slow
def test_the_run_folder_records_the_file_and_its_hash(sources, classes, tmp_path):
  file, _ = sources["augreg"]
  workdir = train_pskd(tmp_path / "run", classes, ("augreg", file))
  digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
  record = json.loads((workdir / "versions.json").read_text())["init"]
  assert record == {"path": file, "kind": "augreg", "file": "augreg.npz", "sha256": digest}
  package = pskd.package_run.package_run(workdir)
  assert f"augreg weights, augreg.npz, SHA-256 {digest}" in package.card
  write_package(tmp_path / "package", package)
  assert str(tmp_path) not in (tmp_path / "package" / "config.json").read_text()


@pytest.mark.slow
def test_positions_of_another_grid_are_resampled_when_asked_only(sources, pairs, tmp_path):
  file, _ = sources["timm"]
  larger = {"image_size": "32"}
  config = cli.load_config(
    "configs/xmodal/teacher.py:shoe304",
    xmodal_runs.TINY
    | STANDING
    | larger
    | {"data.dir": str(pairs), "init.kind": "timm", "init.path": file},
  )
  with pytest.raises(
    UserError, match=r"images of 16 px, this model takes 32; .*init.resample=true"
  ):
    train_stage(config, str(tmp_path / "refused"))
  assert not (tmp_path / "refused").exists()
  changes = {**larger, "init.resample": "true"}
  workdir = train(train_teacher.main, tmp_path / "run", pairs, ("timm", file), **changes)
  params = xmodal.package_run.package_run(workdir).params
  assert params["photo_encoder"]["pos_embed"].shape == (1, 17, WIDTH)

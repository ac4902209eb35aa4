"""Settings and data that PSKD cannot work with, through its mains: one line that helps, status 2,
nothing written."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from pskd import checks
from sbir import cli
from tests.pskd_refusals import MAINS, data, refuse, runs, with_list  # noqa: F401
from tests.pskd_runs import arguments, make_classes, of_data
from tests.refusals import cut, line_of
from tests.test_bad_input import numbers

# --- the config -----------------------------------------------------------------------------------

OF_BOTH = [
  ("epochs=0", "epochs=0 must be at least 1, for instance --config.epochs=1"),
  ("warmup_epochs=-1", "warmup_epochs=-1 must be at least 0"),
  ("warmup_epochs=7", "warmup_epochs=7 must be at most epochs=6; set --config.warmup_epochs=6"),
  ("skt_factor=0", "skt_factor=0 must be at least 1"),
  ("accumulation=0", "accumulation=0 must be at least 1"),
  (
    "accumulation=3",
    "accumulation=3 must divide by skt_factor=2, for sketches make that many fewe",
  ),
  ("accumulation=3", "nearest: 2 or 4"),
  ("batch_size=5", "batch_size=5 must divide by accumulation=2; nearest: 4 or 6"),
  ("batch_size=0", "batch_size=0 must be at least 1"),
  ("image_size=20", "image_size=20 must divide by patch_size=8; nearest: 16 or 24"),
  ("model.size=huge", "vit size 'huge' is unknown; one of: nano, micro, tiny, small, base"),
  ("model.hidden=0", "model.hidden=0 must be at least 1"),
  ("model.position_std=0", "model.position_std=0.0 must be above 0"),
  ("model.head_std=-1", "model.head_std=-1.0 must be at least 0"),
  ("compute_dtype=float16", "compute_dtype='float16' must be one of: float32, bfloat16"),
  ("loss.smoothing=1", "loss.smoothing=1.0 must be at least 0 and below 1"),
  ("augment.crop=(0.9,0.5)", "augment.crop=(0.9, 0.5) must be two shares of the area, rising"),
  ("augment.crop=(0.0,1.0)", "above 0 and at most 1; for instance --config.augment.crop='(0.14, 1"),
  ("augment.crop=(0.5,1.5)", "augment.crop=(0.5, 1.5) must be two shares"),
  ("augment.crop=(0.5,)", "augment.crop=(0.5,) must be two shares"),
  ("augment.crop=('a','b')", "augment.crop=('a', 'b') must be two shares"),
  ("augment.crop=0.5", "--config.augment.crop=0.5: expected tuple"),
  ("augment.mean=(0.5,)", "augment.mean=(0.5,) must be three numbers"),
  (
    "augment.std=(0.5,0.0,0.5)",
    "augment.std=(0.5, 0.0, 0.5) must be three numbers, all above 0, one",
  ),
  ("augment.flip=1.5", "augment.flip=1.5 must be from 0 to 1"),
  ("augment.blur=-0.1", "augment.blur=-0.1 must be from 0 to 1"),
  ("optimizer.lr=0", "optimizer.lr=0.0 must be above 0"),
  ("optimizer.backbone_lr=-1", "optimizer.backbone_lr=-1.0 must be at least 0"),
  ("optimizer.clip_grad=-1", "optimizer.clip_grad=-1.0 must be at least 0"),
  ("keep=0", "keep=0 must be at least 1"),
  ("seed=-1", "seed=-1 must be from 0 to"),
  ("mesh.data=3", "mesh.data=3 x mesh.fsdp=1 does not make the 1 devices there are"),
  ("init.kind=imagenet", "init.kind='imagenet' is unknown; choose one of random, augreg, timm"),
  ("init.kind=dino", "init.kind=dino needs weights; set init.path to DINO's backbone"),
  ("init.path=dino.npz", "init.path=dino.npz is not read with init.kind=random; set init.kind as"),
  ("epoch=3", "--config.epoch=3: there is no such key in the config; nearest: epochs"),
  ("epochs=few", "--config.epochs=few: expected int, like "),
]
OF_THE_STUDENT = [
  ("loss.ila_group=3", "loss.ila_group=3 must divide the 2 samples of a micro-batch"),
  ("loss.ila_group=-1", "loss.ila_group=-1 must be at least 0"),
  ("loss.skd=-1", "loss.skd=-1.0 must be at least 0"),
  ("batch_size=2", "batch_size=2 makes micro-batches of 1, expected at least 2: instances are"),
]


@pytest.mark.parametrize(
  ("stage", "setting", "message"),
  [("teacher", *case) for case in OF_BOTH] + [("student", *case) for case in OF_THE_STUDENT],
)
def test_a_setting_that_cannot_work_is_refused(stage, setting, message, refuse):
  key, value = setting.split("=")
  assert message in refuse(stage, {key: value})


def test_all_numbers_out_of_range_are_named_at_once(refuse):
  line = refuse("teacher", {"epochs": "-1", "augment.jitter": "7"})
  assert "epochs=-1 must be" in line and "augment.jitter=7.0 must be" in line


def test_a_loss_of_no_terms_is_refused(refuse):
  line = refuse("student", {"loss.skd": "0", "loss.ce": "0", "loss.ila": "0"})
  assert "are all 0, expected one above 0: nothing would be learnt; set --config.loss.ce=1" in line


def test_a_file_of_weights_that_is_none_is_refused(refuse, tmp_path):
  start_from = {"init.kind": "dino", "init.path": tmp_path / "dino.npz"}
  (tmp_path / "dino.npz").write_bytes(b"weights")
  line = refuse("teacher", start_from)
  assert "dino.npz is of no kind that is read; expected a .safetensors, a .npz or a .pth" in line
  np.savez(tmp_path / "dino.npz", cls_token=np.zeros((1, 1, 96), np.float32))
  line = refuse("teacher", start_from)
  assert "dino.npz is not of the expected network" in line
  assert "encoder has no patch embedding and no positions and no blocks" in line


@pytest.mark.parametrize("name", ["sketchy21", "sketchy_mini"])
def test_every_number_of_a_config_has_a_range(name):
  for file, ranges in {
    "teacher.py": checks.TRAINING,
    "student.py": checks.TRAINING,
    "evaluate.py": checks.EVALUATION | checks.TRAINING,
  }.items():
    there = set(numbers(cli.load_config(f"configs/pskd/{file}:{name}")))
    assert there - ranges.keys() == {"mesh.data", "mesh.fsdp"}, file  # sbir.mesh checks these two


def test_every_number_that_only_an_evaluation_reads_has_a_range():
  config = cli.load_config("configs/pskd/evaluate.py:sketchy21")
  own = ConfigDict({key: value for key, value in config.items() if key not in ("data", "mesh")})
  assert set(numbers(own)) <= checks.EVALUATION.keys()


@pytest.mark.parametrize("stage", MAINS)
def test_an_unknown_config_is_answered_with_the_near_ones(stage, refuse):
  assert "'sketchy' is unknown; nearest: sketchy2" in refuse(stage, {}, config="sketchy")


def test_a_config_of_another_stage_is_refused(tmp_path, capsys):
  for stage, (main, own) in MAINS.items():
    for file in {file for _, file in MAINS.values()} - {own}:
      words = arguments(f"{file}:sketchy_mini", tmp_path / "run", {})
      line = line_of(lambda main=main, words=words: cli.run(main.main, words), capsys)
      assert f"give --config configs/pskd/{own}:NAME" in line, stage
  assert not (tmp_path / "run").exists()


# --- the data -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", MAINS)
def test_a_class_list_with_an_unknown_class_is_answered_with_the_nearest(stage, refuse, tmp_path):
  line = refuse(stage, with_list(tmp_path, "bee", "cowl"))
  assert "1 of its 2 classes not in the data: cowl; nearest there: cow" in line


def test_a_class_on_both_lists_is_refused(refuse, tmp_path):
  line = refuse("teacher", with_list(tmp_path, "ant", "bee", key="data.seen"))
  assert "1 of the classes both seen and unseen: bee" in line


@pytest.mark.parametrize(
  ("setting", "message"),
  [
    ("data.dir=/nowhere", "data folder /nowhere does not exist"),
    ("data.dir=", "data.dir='', expected the folder of the data set"),
    ("data.source=files", "data.source='files', expected one of synthetic, folder, manifest"),
    ("data.split=sketchy20", "data.split='sketchy20': expected one of sketchy21,"),
    ("data.split=sketchy21", "not in the data"),
    ("data.validation_classes=4", "data.validation_classes=4, expected 0 to 3: at least one of th"),
    ("data.held_out_photos=3", "data.held_out_photos=3, but class 'ant' has 3 photos, expected at"),
    ("data.fit=crop", "data.fit='crop' must be one of: stretch, trim"),
    ("data.cache=ram", "data.cache='ram' must be 'memory', 'disk' or 'none'"),
    ("data.read_size=-1", "data.read_size=-1 must be at least 0"),
    ("batch_size=16", "num_photos=16 of a batch is more than the 12 of an epoch"),
  ],
)
def test_data_that_is_not_there_is_asked_for(setting, message, refuse):
  key, value = setting.split("=")
  assert message in refuse("teacher", {key: value})


@pytest.mark.parametrize(
  ("modality", "message"),
  [
    ("sketch", "1 of 4 classes have no sketches (cow)"),
    ("photo", "4 classes have no photos (cow)"),
  ],
)
def test_a_class_without_one_side_is_named(modality, message, refuse, tmp_path):
  root = make_classes(tmp_path / "own")
  manifest = root / "manifest.csv"
  rows = manifest.read_text().splitlines(keepends=True)
  manifest.write_text("".join(row for row in rows if f"{modality}/cow/" not in row))
  assert message in refuse("teacher", of_data(root))


def test_an_image_that_is_cut_off_stops_before_anything_is_written(refuse, tmp_path):
  root = make_classes(tmp_path / "own", ending="jpg")
  for path in root.glob("photo/*/*"):
    cut(path)
  line = refuse("teacher", of_data(root))
  assert "not a readable image" in line and f"{root}/photo/" in line and "copy it again" in line

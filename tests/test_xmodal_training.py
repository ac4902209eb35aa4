"""XModalViT through its own mains: learns by heart, reports, is shown on the embedded data."""

import csv
import json
import re
from itertools import islice

import jax
import numpy as np
import pytest
from PIL import Image

from sbir import cli
from sbir.data.partial_sketch import GUESSED
from sbir.data.pipeline import train_batches
from sbir.data.prepare import prepare
from sbir.logs import read_metrics
from sbir.nn import vit
from sbir.nn.vit import ViT
from tests.data_folders import make_qmul
from tests.released_files import augreg_arrays
from tests.xmodal_runs import TINY, make_pairs, start
from xmodal import pipeline, stages
from xmodal.begin import ENCODERS
from xmodal.measure import evaluate_encoders
from xmodal.stages import open_split, train_stage

STAGES = ("teacher", "photo_student", "sketch_student", "baseline")
STEPS = 60
PICTURES = tuple(f"{name}.png" for name in ("grid", "ranks", "attention", "partial", "map"))
BY_HEART = {  # nothing drawn at random: what is to be learnt is the same at every step
  **TINY,
  "model.size": "micro",
  "steps": STEPS,
  "eval_every": STEPS,
  "optimizer.learning_rate": "1e-3",
  "optimizer.schedule": "constant",
  "loss.in_batch": "true",
  "loss.queue_size": "0",  # stale keys let so fast a learner collapse
  "loss.target": "own",
  "loss.photo_drop": "0",
  "loss.sketch_drop": "0",
  "augment.flip": "0",
  "augment.scale": "0",
  "augment.shift": "0",
  "augment.gray": "0",
  "augment.gradients": "false",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(folder of a whole pipeline and a baseline, its settings): the test split is the 8 training
  pairs again, so the scores say how well these are known."""
  folder = tmp_path_factory.mktemp("by_heart")
  settings = {key: str(value) for key, value in BY_HEART.items()}
  settings["data.dir"] = str(make_pairs(folder / "data"))
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(vit.SIZES, "micro", (96, 1, 3))  # one block: a third of the time to compile
    pipeline.run("shoe304", folder, settings)
    known = set(cli.config_keys(cli.load_config("configs/xmodal/baseline.py:shoe304")))
    settings_of_both = {key: text for key, text in settings.items() if key in known}
    baseline = cli.load_config("configs/xmodal/baseline.py:shoe304", settings_of_both)
    train_stage(baseline, str(folder / "baseline"))
    yield folder, settings


def evaluate(run, workdir, **changes):
  """Returns evaluation.json of the run's students, measured anew with `changes`."""
  folder, settings = run
  students = {name: str(folder / f"{name}_student") for name in ("photo", "sketch")}
  changes = {"data.dir": settings["data.dir"], **students, **changes}
  config = cli.load_config("configs/xmodal/evaluate.py:shoe304", changes)
  evaluate_encoders(config, workdir)
  return json.loads((workdir / "evaluation.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_eight_pairs_are_learnt_by_heart(run, stage):
  last = read_metrics(run[0] / stage)[-1]
  assert last["step"] == STEPS
  assert last["test_acc@1"] == 1.0


@pytest.mark.slow
def test_every_sketch_of_the_eight_finds_its_photo(run):
  report = json.loads((run[0] / "evaluation" / "evaluation.json").read_text())
  assert (report["queries"], report["gallery"], report["protocol"]) == (16, 8, "full")
  assert report["metrics"]["acc@1"] == 1.0
  assert report["chance"]["acc@1"] == 1 / 8


@pytest.mark.slow
def test_the_baseline_is_evaluated_from_its_one_folder(run, tmp_path):
  both = str(run[0] / "baseline")
  assert evaluate(run, tmp_path, photo=both, sketch=both)["metrics"]["acc@1"] == 1.0


@pytest.mark.slow
def test_an_evaluation_leaves_numbers_text_list_and_pictures(run):
  folder = run[0] / "evaluation"
  names = {f"evaluation.{ending}" for ending in ("json", "txt", "csv")}
  assert {path.name for path in folder.iterdir()} == names | {
    "config.json",
    "versions.json",
    "report.html",
    *PICTURES,
  }
  for picture in PICTURES:
    with Image.open(folder / picture) as image:
      assert min(image.size) > 100


@pytest.mark.slow
def test_the_page_of_an_evaluation_holds_all_its_pictures_and_says_how_sketches_were_cut(run):
  page = (run[0] / "evaluation" / "report.html").read_text()
  assert page.count("data:image/png;base64,") == len(PICTURES)
  headings = re.findall(r"<h2[^>]*>([^<]*)", page)
  assert headings == [
    "What was measured",
    "How well",
    "What is found",
    "Where it looks",
    "Sketches in part",
    "The space",
  ]
  assert GUESSED in page and "arXiv:2203.02053" in page


@pytest.mark.slow
def test_the_list_has_a_line_for_each_sketch_with_the_rank_and_the_ten_nearest(run):
  with (run[0] / "evaluation" / "evaluation.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert sorted(row["query"] for row in rows) == [
    f"test/sketch/{i}_{k}.png" for i in range(8) for k in range(2)
  ]
  photos = {f"id{i}" for i in range(8)}
  for row in rows:
    nearest = [row[f"top{place}"] for place in range(1, 11)]
    assert nearest[int(row["rank"]) - 1] == row["photo"] == f"id{row['query'][12]}"
    assert set(nearest[:8]) == photos and nearest[8:] == ["", ""]


@pytest.mark.slow
def test_the_released_protocol_says_that_it_is_not_the_standard(run, tmp_path):
  report = evaluate(run, tmp_path, protocol="released")
  assert (report["protocol"], report["queries"]) == ("released", 8)
  assert "not comparable with the full gallery" in report["protocol_text"]
  assert "protocol released: as in the authors' script" in (tmp_path / "evaluation.txt").read_text()


@pytest.mark.slow
def test_a_second_pipeline_trains_nothing_and_reports_the_same(run, capfd):
  folder, settings = run
  report = (folder / "evaluation" / "evaluation.json").read_text()
  trained = lambda: {
    path: path.stat().st_mtime_ns
    for stage in STAGES[:3]
    for path in sorted((folder / stage).rglob("*"))
  }
  before = trained()
  pipeline.run("shoe304", folder, settings)
  assert capfd.readouterr().err.count("steps are done; skipped") == 3
  assert trained() == before
  assert (folder / "evaluation" / "evaluation.json").read_text() == report


@pytest.mark.slow
def test_a_prepared_set_gives_the_batches_of_its_folder(tmp_path):
  folder = make_qmul(tmp_path / "shoes", train=[str(i) for i in range(5)])
  prepare("shoe_v2", folder, tmp_path / "tfds")
  batches = []
  for source, place in (("folder", folder), ("tfds", tmp_path / "tfds")):
    changes = {"data.source": source, "data.dir": str(place), "image_size": "16"}
    config = cli.load_config("configs/xmodal/teacher.py:shoe_v2", changes)
    split = open_split(config, "train")
    batches.append(islice(train_batches(split, image_size=16, batch_size=4, seed=2), 4))
  count = 0
  for one, other in zip(*batches, strict=True):
    count += 1
    assert one.keys() == other.keys() == {"photo", "sketch", "sketch_positive", "id"}
    for name in one:
      np.testing.assert_array_equal(one[name], other[name])
  assert count == 4  # 16 rows of epochs of 10: the second epoch too


@pytest.mark.parametrize("stage", ["teacher", "baseline"])
def test_weights_from_a_file_go_into_both_encoders_and_nowhere_else(stage, tmp_path, monkeypatch):
  arrays = augreg_arrays(ViT(*vit.SIZES["nano"], 8), side=16)
  np.savez(tmp_path / "vit.npz", **arrays)
  start_from = {"init.kind": "augreg", "init.path": str(tmp_path / "vit.npz")}
  changes = {**TINY, **start_from, "data.dir": str(make_pairs(tmp_path)), "eval_every": "0"}
  if stage == "baseline":
    changes.pop("model.fusion_depth")
  config = cli.load_config(f"configs/xmodal/{stage}.py:shoe304", changes)
  given = {}
  monkeypatch.setattr(stages, "train", lambda task, **arguments: given.update(arguments, task=task))
  train_stage(config, str(tmp_path / "run"))
  shapes, _ = jax.eval_shape(given["task"].init, jax.random.key(0), next(given["batches"]))
  fresh = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  begun, record = given["warm_start"](fresh)
  assert record["file"] == "vit.npz"
  for name in ENCODERS[stage]:
    loaded, zeros = begun, fresh
    for part in name.split("/"):
      loaded, zeros = loaded[part], zeros[part]
    np.testing.assert_array_equal(loaded["cls_token"], arrays["cls"])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(loaded))
    jax.tree.map(lambda leaf: leaf.fill(1), zeros)  # what is left of the zeros is not encoders'
  changed = sum(np.any(leaf) for leaf in jax.tree.leaves(begun))
  assert changed == sum(np.any(leaf) for leaf in jax.tree.leaves(fresh))


def test_the_stages_of_one_process_share_what_they_have_read(tmp_path):
  changes = {"data.dir": str(make_pairs(tmp_path)), **TINY}
  teacher = cli.load_config("configs/xmodal/teacher.py:shoe304", changes)
  changes.pop("model.fusion_depth")
  student = cli.load_config("configs/xmodal/student.py:shoe304", changes)
  assert open_split(teacher, "test") is open_split(student, "test")
  assert open_split(teacher, "test") is not open_split(teacher, "train")
  changes["image_size"] = "32"
  larger = cli.load_config("configs/xmodal/student.py:shoe304", changes)
  assert open_split(larger, "test").image(0).shape == (32, 32, 3)


@pytest.mark.slow
def test_the_demo_ends_with_one_json_object_on_its_last_line(tmp_path):
  changes = {**TINY, "steps": 2, "eval_every": 0, "cache.views": 1}
  flags = [f"--config.{key}={value}" for key, value in changes.items()]
  in_full = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}  # as a user has it
  done = start("-m", "xmodal.demo", "--json", "--workdir", tmp_path / "demo", *flags, **in_full)
  assert done.returncode == 0, done.stderr
  last = json.loads(done.stdout.splitlines()[-1])
  assert set(last) == {
    "method",
    "acc@1",
    "acc@5",
    "acc@10",
    "queries",
    "gallery",
    "chance_acc@1",
    "untrained_acc@1",
    "seconds",
    "workdir",
  }
  assert last["method"] == "xmodal" and last["workdir"] == str(tmp_path / "demo")
  assert last["queries"] >= last["gallery"] >= 100
  assert last["chance_acc@1"] == pytest.approx(1 / last["gallery"])
  assert 0 <= last["acc@1"] <= last["acc@5"] <= last["acc@10"] <= 1
  for row in ("chance", "untrained students", "photo + sketch students", "teacher, sees both"):
    assert f"\n{row}" in done.stdout
  report = next(line for line in done.stdout.splitlines() if line.startswith("report:"))
  assert report.split()[1] == str(tmp_path / "demo" / "evaluation" / "report.html")

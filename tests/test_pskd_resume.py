"""PSKD's mains in processes of their own: teacher, student, evaluation; and killed on the way."""

import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from pskd.validation import CHOOSE_BY
from sbir import run_folder
from sbir.checkpoint import read_arrays
from sbir.logs import TIMING_FIELDS, read_metrics
from tests.paths import REPO
from tests.pskd_runs import RESTART, SEEN, UNSEEN, arguments, make_classes, of_data
from tests.xmodal_runs import KILLED, QUICK

STAGES = ("teacher", "student")


def begin(*words):
  """Starts `python ...` at the repository's root; `finish` waits for it."""
  return subprocess.Popen(
    [sys.executable, *map(str, words)],
    cwd=REPO,
    env={**os.environ, **QUICK},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process, status=0):
  """Returns what the process wrote on stdout and stderr; it must have ended with `status`."""
  out, err = process.communicate(timeout=600)
  assert process.returncode == status, err
  return out, err


def train(stage, workdir, settings, *, die=False):
  killed = KILLED.format(method="pskd", main=f"train_{stage}")
  program = ["-c", killed] if die else ["-m", f"pskd.train_{stage}"]
  return begin(*program, *arguments(f"{stage}.py:sketchy_mini", workdir, settings))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder in which everything was run once: {stage}, killed_{stage}, evaluation; two at a time.

  While there is training, all images of the test classes are empty files.
  """
  root = tmp_path_factory.mktemp("runs")
  data = make_classes(root / "data")
  images = {path: path.read_bytes() for name in UNSEEN for path in data.glob(f"*/{name}/*")}
  for path in images:
    path.write_bytes(b"")
  settings = {"teacher": {**RESTART, **of_data(data)}}
  settings["student"] = {**settings["teacher"], "loss.ila_group": "2", "teacher": root / "teacher"}
  started = {}
  for stage in STAGES:
    straight = train(stage, root / stage, settings[stage])
    finish(train(stage, root / f"killed_{stage}", settings[stage], die=True), -signal.SIGKILL)
    assert [row["step"] for row in read_metrics(root / f"killed_{stage}")] == [1, 2, 3]
    finish(straight)
    started[stage] = train(stage, root / f"killed_{stage}", settings[stage])
  for stage in STAGES:
    assert "resumed after step 2" in finish(started[stage])[1]
  for path, whole in images.items():
    path.write_bytes(whole)
  evaluation = {**of_data(data), "model": root / "student", "grid_rows": "1"}
  words = arguments("evaluate.py:sketchy_mini", root / "evaluation", evaluation)
  (root / "printed.txt").write_text(finish(begin("-m", "pskd.evaluate", *words))[0])
  return root


@pytest.fixture(scope="module", params=STAGES)
def both(folder, request):
  """(run without a pause, run killed after step 3, of which step 2 was saved, and resumed)."""
  return folder / request.param, folder / f"killed_{request.param}"


# --- killed and resumed ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("part", ["params", "rest"])
def test_a_resumed_run_ends_in_the_bits_of_the_straight_one(both, part):
  straight, resumed = (read_arrays(run / "checkpoints/6" / part) for run in both)
  jax.tree.map(np.testing.assert_array_equal, straight, resumed)
  assert part == "params" or straight["step"] == 6


@pytest.mark.slow
def test_a_resumed_run_has_seen_the_same_data_and_logged_the_same_numbers(both):
  rows = [
    [{name: row[name] for name in row if name not in TIMING_FIELDS} for row in read_metrics(run)]
    for run in both
  ]
  assert rows[0] == rows[1]
  assert [row["step"] for row in rows[0]] == [1, 2, 3, 4, 5, 6]
  assert [row["step"] for row in rows[0] if CHOOSE_BY in row] == [2, 4, 6]
  positions = [(run / "checkpoints/6/batches/metadata").read_text() for run in both]
  assert positions[0] == positions[1] != ""


@pytest.mark.slow
def test_a_resumed_run_keeps_the_best_step_of_the_straight_one(both):
  scores = {row["step"]: row[CHOOSE_BY] for row in read_metrics(both[0]) if CHOOSE_BY in row}
  kept = [run_folder.saved_steps(run) for run in both]
  assert kept[0] == kept[1]
  assert max(scores.values()) in {scores[step] for step in kept[0]}


@pytest.mark.slow
def test_both_stages_were_trained_while_no_image_of_a_test_class_could_be_read(folder):
  for stage in STAGES:
    assert run_folder.is_finished(folder / stage, 6)
    config = json.loads((folder / stage / "config.json").read_text())
    assert config["classes"] == list(SEEN)


PICTURES = ("grid", "ranks", "classes", "attention", "partial", "map", "prototypes")


# --- what an evaluation leaves --------------------------------------------------------------------


@pytest.mark.slow
def test_an_evaluation_leaves_a_report_numbers_lists_pictures_and_embeddings(folder):
  pictures = {f"{name}.png" for name in PICTURES}
  numbers = {f"evaluation{ending}" for ending in (".json", ".txt", "_queries.csv", "_classes.csv")}
  there = {path.name for path in (folder / "evaluation").iterdir()}
  assert there == pictures | numbers | {
    "config.json",
    "versions.json",
    "report.html",
    "embeddings.npz",
  }
  for picture in pictures:
    with Image.open(folder / "evaluation" / picture) as image:
      assert min(image.size) > 100


@pytest.fixture(scope="module")
def report(folder):
  return json.loads((folder / "evaluation" / "evaluation.json").read_text())


@pytest.mark.slow
def test_all_test_sketches_are_asked_for_all_test_photos(report, folder):
  assert (report["queries"], report["gallery"], report["dim"]) == (6, 6, 48)
  assert [row["class"] for row in report["classes"]] == list(UNSEEN)
  assert "step 6 of 6 (last)" in report["about"]["network"]
  assert "2 unseen classes" in report["about"]["split"]
  text = (folder / "evaluation" / "evaluation.txt").read_text()
  assert (folder / "printed.txt").read_text() == text


@pytest.mark.slow
def test_the_saved_embeddings_give_the_same_figures_to_the_tool_that_measures_any(report, folder):
  file = folder / "evaluation" / "embeddings.npz"
  out, _ = finish(begin("-m", "sbir.evaluate", "--embeddings", file, "--json"))
  summary = json.loads(out)
  assert summary == {name: report[name] for name in summary}
  assert {"metrics", "presets"} <= summary.keys()


@pytest.mark.slow
def test_the_report_is_one_file_that_needs_no_other(folder):
  page = (folder / "evaluation" / "report.html").read_text()
  assert page.count('src="data:image/png;base64,') == len(PICTURES)
  assert 'src="http' not in page and 'href="http' not in page

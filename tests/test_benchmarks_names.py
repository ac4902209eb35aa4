"""Every benchmark, in tiny shapes, through the command line: what it prints and writes."""

import json
import os
import re
import subprocess
import sys

import pytest

from benchmarks.__main__ import NAMES
from tests.paths import REPO

pytestmark = pytest.mark.slow

# An accelerator's machine may lack these; what trains there must not need them.
ABSENT = ("tensorflow", "tensorflow_datasets", "clu", "grain", "ml_collections", "orbax", "PIL")
STEPS = ("vit_forward", "vit_train", "xmodal_teacher", "xmodal_student_cached", "pskd_student")
STEPS += ("xmodal_student_uncached",)
SAYS = {
  "vit_forward": r"rehearsal/16 b2 bfloat16 +\d.* images/s.*% of the peak\n.*peak: .*GFLOP/s",
  "vit_train": r"the loss in bfloat16 is \d\.\de-\d\d from float32's",
  "vit_products": r"1 x fc1 +\d+\.\d\d ms(.*\n)+.*all of a step: \d\.\d{3} s",
  "xmodal_teacher": r"loss: both sketches\n(.*\n)+.*the photo once, not twice: .*target: 1.3",
  "xmodal_student_cached": r"sketch student float32 .* images/s",
  "xmodal_student_uncached": r"photo student, cached, not as released: .*target: 10\)",
  "xmrd_angle": r"of the direct form: .* times \(target: 20\)\n.*peak memory .* \(target: 0.1\)",
  "pskd_student": r"teacher in the step float32 .* images/s",
  "input_pipeline": r"decoded every time: \d+ images/s",
  "embed": r"float32: \d+ images/s",
  "metrics": r"24 queries x 400 items",
  "gallery": r"600 embeddings x 768, 2000 codes of 64 bits(.*\n)+.*recall@10 of the graph: \d",
  "startup": r"--help of 2 mains, slowest \d\.\d\d s",
}


@pytest.fixture(scope="module")
def rehearse(tmp_path_factory):
  """Returns a function that runs names and returns what they print and write, and what is noted."""

  def run(*names, absent=()):
    folder = tmp_path_factory.mktemp("rehearsal")
    for library in absent:
      (folder / f"{library}.py").write_text(f"raise ImportError('no {library} here')")
    path = [str(folder), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    options = ["--rehearse", "--repeats", "1", "--json", str(folder / "all.json")]
    command = [sys.executable, "-m", "benchmarks", *names, *options]
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "all.json").read_text())

  return run


@pytest.fixture(scope="module")
def bare(rehearse):
  return rehearse(*STEPS, absent=ABSENT)


@pytest.fixture(scope="module")
def whole(rehearse):
  return rehearse(*(name for name in NAMES if name not in STEPS), "xmodal_student_uncached")


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_says_what_it_measured(name, request):
  text, figures = request.getfixturevalue("bare" if name in STEPS else "whole")
  own = text[text.index(f"\n{name}: ") :]
  assert re.search(SAYS[name], own)
  assert isinstance(figures[name], dict)


def ways_of(figures):
  """Returns all ways in the figures of a benchmark, by name."""
  return {
    name: way
    for key, value in figures.items()
    if isinstance(value, dict)
    for name, way in (value if key == "ways" else ways_of(value)).items()
  }


@pytest.mark.parametrize("name", STEPS)
def test_a_step_has_a_rate_operations_and_a_share_of_the_peak(name, bare):
  ways = ways_of(bare[1][name])
  assert len(ways) >= 2
  for way in ways.values():
    assert way["images_per_second"]["median"] == pytest.approx(way["images"] / way["seconds"][0])
    assert way["gflop"] > 0 and way["share_of_peak"] > 0


@pytest.mark.parametrize("name", STEPS[1:5])
def test_what_runs_in_bfloat16_begins_near_float32s_loss(name, bare):
  for parity in bare[1][name]["parity"].values():
    assert 0 < parity["bfloat16"] < 1e-2


@pytest.mark.parametrize("loss", ["published", "both_sketches"])
def test_a_teacher_step_that_encodes_the_photo_once_is_less_work(loss, bare):
  ways = bare[1]["xmodal_teacher"]["losses"][loss]["ways"]
  assert ways["once float32"]["gflop"] < 0.95 * ways["twice float32"]["gflop"]


@pytest.mark.parametrize("modality", ["photo", "sketch"])
def test_a_cached_student_step_is_the_students_work_alone(modality, bare):
  ways = bare[1]["xmodal_student_uncached"]["ways"]
  work = {name.split(", ")[1]: way["gflop"] for name, way in ways.items() if modality in name}
  assert work["cached"] < work["in the step"] < work["as released"]
  alone = bare[1]["xmodal_student_cached"]["ways"][f"{modality} student float32"]["gflop"]
  assert work["cached"] == pytest.approx(alone)


def test_the_teacher_is_not_asked_where_its_logits_are_stored(bare):
  ways = bare[1]["pskd_student"]["ways"]
  assert ways["teacher stored float32"]["gflop"] < ways["teacher in the step float32"]["gflop"]


def test_filling_is_measured_where_data_can_be_read_and_else_that_is_said(bare, whole):
  assert "filling the cache: not measured (no PIL here)" in bare[0]
  fill = whole[1]["xmodal_student_uncached"]["fill"]
  assert fill["pairs"] == 6 and fill["passes"]["median"] > 0
  assert "passes of the teacher over them (target: at most 1.1)" in whole[0]


def test_the_angle_losss_peaks_are_of_processes_that_do_nothing_else(whole):
  found = whole[1]["xmrd_angle"]
  assert found["empty_gb"] < found["peak_gb"]["direct"] < 2
  assert found["memory"] == found["peak_gb"]["ours"] / found["peak_gb"]["direct"]

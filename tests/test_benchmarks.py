"""The benchmarks: what they compare with is right, and names and files are checked."""

import json
import types

import jax
import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import memory, metrics
from benchmarks.options import Options
from sbir import cli
from sbir.retrieval.presets import evaluate_categories


def test_the_loop_and_the_evaluator_agree():
  data = metrics.make_embeddings(num_queries=7, num_gallery=300, width=6)
  _, figures = metrics._loop(data, 7)
  report = evaluate_categories(*data)
  for preset, values in report.presets.items():
    assert figures[preset] == pytest.approx(values, abs=1e-12)


def test_embeddings_are_the_same_every_time():
  one, other = (metrics.make_embeddings(3, 5, 4) for _ in range(2))
  for first, second in zip(one, other, strict=True):
    np.testing.assert_array_equal(first, second)


def test_the_peak_is_that_of_this_process():
  assert 0.01 < memory.peak_gb() < 100


@pytest.fixture
def toy(monkeypatch):
  """Two benchmarks that note what they are told."""
  told = []

  def run(options):
    told.append(options)
    return {"x": options.repeats}

  module = types.SimpleNamespace(__doc__="A toy.", run=run, as_text=lambda r: f"x={r['x']}")
  monkeypatch.setattr(benchmarks, "NAMES", ("toy", "other"))
  monkeypatch.setattr(benchmarks, "_module", lambda name: module)
  return told


def call(*argv):
  with pytest.raises(SystemExit) as stopped:
    cli.tool(benchmarks.main, argv)
  return stopped.value.code


def test_a_named_benchmark_is_run_printed_and_written(toy, tmp_path, capsys):
  path = tmp_path / "new" / "a.json"
  assert call("toy", "--json", str(path), "--repeats", "3") == 0
  assert capsys.readouterr().out.endswith("\nx=3\n")
  written = json.loads(path.read_text())
  assert written["toy"] == {"x": 3} and len(toy) == 1


def test_without_a_name_all_are_run(toy, tmp_path):
  call("--json", str(tmp_path / "a.json"))
  assert list(json.loads((tmp_path / "a.json").read_text())) == ["machine", "toy", "other"]


def test_every_benchmark_is_told_the_options(toy):
  call("toy", "--repeats", "2", "--batch", "4", "--rehearse")
  assert toy == [Options(repeats=2, batch=4, rehearse=True)]


def test_what_was_measured_before_one_fails_is_kept(toy, tmp_path, monkeypatch):
  sound = benchmarks._module("toy")
  broken = types.SimpleNamespace(__doc__="Fails.", run=lambda options: 1 / 0, as_text=str)
  monkeypatch.setattr(benchmarks, "_module", {"toy": sound, "other": broken}.get)
  with pytest.raises(ZeroDivisionError):
    benchmarks.main(["--json", str(tmp_path / "a.json")])
  assert "toy" in json.loads((tmp_path / "a.json").read_text())


def test_machine_and_versions_go_with_the_figures(toy, tmp_path, capsys):
  call("toy", "--json", str(tmp_path / "a.json"))
  machine = json.loads((tmp_path / "a.json").read_text())["machine"]
  assert machine["command"] == f"python -m benchmarks toy --json {tmp_path}/a.json"
  assert machine["cpus"] >= 1 and machine["devices"] == ["cpu"] and machine["driver"] == ""
  assert machine["versions"]["jax"] == jax.__version__ and "numpy" in machine["versions"]
  text = capsys.readouterr().out
  assert machine["date"] in text and machine["git"] in text and jax.__version__ in text


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["toy", "othr"], "benchmark 'othr' must be one of: toy, other; nearest: other"),
    (["toy", "--repeats", "0"], "--repeats 0 must be at least 1"),
    (["toy", "--batch", "-1"], "--batch -1 must be at least 0"),
    (
      ["toy", "--compare", "torch", "--torch-python", "/no/python"],
      "--torch-python /no/python is no Python that has torch; make one with ./launch.sh bench",
    ),
  ],
)
def test_what_cannot_be_is_refused_before_anything_runs(toy, capsys, arguments, message):
  assert call(*arguments) == 2
  output = capsys.readouterr()
  assert (output.out, output.err, toy) == ("", f"error: {message}\n", [])


def test_help_teaches_the_names(capsys):
  assert call("--help") == 0
  text = capsys.readouterr().out
  assert "metrics                  All category metrics at the size of TU-Berlin" in text
  assert all(f"  {name} " in text for name in benchmarks.NAMES)

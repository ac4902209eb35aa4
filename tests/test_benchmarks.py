"""The benchmarks: what they compare with is right, and names and files are checked."""

import json
import types

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import memory, metrics
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
  module = types.SimpleNamespace(
    __doc__="A toy.", run=lambda: {"x": 1}, as_text=lambda r: f"x={r['x']}"
  )
  monkeypatch.setattr(benchmarks, "BENCHMARKS", {"toy": module, "other": module})


def call(*argv):
  with pytest.raises(SystemExit) as stopped:
    cli.tool(benchmarks.main, argv)
  return stopped.value.code


def test_a_named_benchmark_is_run_printed_and_written(toy, tmp_path, capsys):
  assert call("toy", "--json", str(tmp_path / "new" / "a.json")) == 0
  assert capsys.readouterr().out == "x=1\n"
  written = json.loads((tmp_path / "new" / "a.json").read_text())
  assert written["toy"] == {"x": 1} and "cpus" in written["machine"]


def test_an_unknown_name_is_refused_before_anything_runs(toy, capsys):
  assert call("toy", "othr") == 2
  output = capsys.readouterr()
  assert output.out == ""
  assert output.err == "error: benchmark 'othr' must be one of: toy, other; nearest: other\n"


def test_help_teaches_the_names(capsys):
  assert call("--help") == 0
  text = capsys.readouterr().out
  assert "metrics   All category metrics at the size of TU-Berlin" in text and "--json" in text

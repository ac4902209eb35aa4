"""The command that measures saved embeddings: its JSON, its tables, and every file it refuses."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sbir import cli, evaluate
from sbir.instances import evaluate_instances
from sbir.retrieval.presets import PRESETS, evaluate_categories
from tests.paths import GOLDENS, REPO, needs_shared


def arrays(num_queries=6, num_gallery=9, seed=0):
  """Returns the arrays of a small file, with labels."""
  rng = np.random.default_rng(seed)
  return {
    "query": rng.normal(size=(num_queries, 4)).astype(np.float32),
    "gallery": rng.normal(size=(num_gallery, 4)),
    "query_label": rng.integers(0, 2, num_queries),
    "gallery_label": rng.integers(0, 2, num_gallery),
  }


def ids_only():
  """Returns the arrays of a small file with ids."""
  sides = {name: arrays()[name] for name in ("query", "gallery")}
  return {**sides, "query_id": np.arange(6), "gallery_id": np.arange(9)[::-1]}


@pytest.fixture
def call(tmp_path, capsys):
  """Returns call(arrays or path, *flags) -> (exit status, stdout, stderr), in this process."""

  def run(file, *flags):
    if isinstance(file, dict):
      np.savez(tmp_path / "file.npz", **file)
      file = tmp_path / "file.npz"
    with pytest.raises(SystemExit) as stopped:
      cli.tool(evaluate.main, ["--embeddings", str(file), *flags])
    return stopped.value.code, *capsys.readouterr()

  return run


@pytest.fixture
def summary(call):
  """Returns summary(arrays, *flags) -> the JSON object."""

  def run(file, *flags):
    status, stdout, stderr = call(file, "--json", *flags)
    assert (status, stderr, stdout.count("\n")) == (0, "", 1)
    return json.loads(stdout)

  return run


@pytest.fixture
def refused(call):
  """Returns refused(arrays or path, *flags) -> the one line on stderr."""

  def run(file, *flags):
    status, stdout, stderr = call(file, *flags)
    assert (status, stdout, stderr.count("\n")) == (2, "", 1), stderr
    assert stderr.startswith("error: ")
    return stderr

  return run


# What is printed ----------------------------------------------------------------------------------


def start(*flags):
  command = [sys.executable, "-m", "sbir.evaluate", *map(str, flags)]
  return subprocess.run(command, cwd=REPO, capture_output=True, text=True)


@needs_shared
def test_a_process_prints_what_the_three_published_evaluators_say_of_the_golden_embeddings():
  done = start("--embeddings", GOLDENS / "eval_a.npz", "--preset", "all", "--json")
  assert (done.returncode, done.stderr) == (0, "")
  report = json.loads(done.stdout)
  assert [report[name] for name in ("queries", "gallery", "dim", "ties")] == [80, 900, 32, 0]
  assert set(report["presets"]) == {"sake", "zse", "sempcyc"}
  with np.load(GOLDENS / "eval_a.npz") as golden:
    for preset, values in report["presets"].items():
      for cut in ("all", "10", "50", "200"):
        expected = np.nanmean(golden[f"{preset}_ap_{cut}"])
        assert values[f"map@{cut}"] == pytest.approx(expected, abs=1e-6)
      for cut in ("10", "50", "100", "200"):
        expected = np.nanmean(golden[f"{preset}_prec_{cut}"])
        assert values[f"prec@{cut}"] == pytest.approx(expected, abs=1e-6)


def test_a_process_refuses_a_file_that_is_not_there_in_one_line(tmp_path):
  done = start("--embeddings", tmp_path / "none.npz")
  assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
  assert "none.npz: there is no such file; write it with np.savez(" in done.stderr


def test_help_says_what_the_file_holds_and_what_the_presets_are(capsys):
  with pytest.raises(SystemExit) as stopped:
    cli.tool(evaluate.main, ["--help"])
  text = capsys.readouterr().out
  assert stopped.value.code == 0
  words = ("query_label", "gallery_id", "SEM-PCYC", "--distance", "python -m sbir.evaluate")
  assert [word for word in words if word not in text] == []


def test_json_has_the_documented_keys_and_every_metric(summary):
  report = summary(arrays())
  assert list(report) == ["queries", "gallery", "dim", "metrics", "presets", "ties", "warnings"]
  forms = [f"{d},{f}" for d in ("min", "hits", "R") for f in ("plain", "voc")]
  cuts = (10, 50, 100, 200)
  names = {f"map@{k}[{form}]" for k in cuts for form in forms}
  names |= {f"prec@{k}[{d}]" for k in cuts for d in "NR"} | {"map@all[plain]", "map@all[voc]"}
  assert set(report["metrics"]) == names
  columns = {"map@all", *(f"{name}@{k}" for name in ("map", "prec") for k in cuts)}
  assert {name: set(values) for name, values in report["presets"].items()} == dict.fromkeys(
    PRESETS, columns
  )


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("preset", PRESETS)
def test_one_preset_limits_the_presets_and_the_distance_moves_the_metrics(
  summary, preset, distance
):
  sides = arrays()
  report = summary(sides, "--preset", preset, "--distance", distance)
  assert report == evaluate_categories(**sides, distance=distance, presets=(preset,)).summary()
  assert list(report["presets"]) == [preset]


def test_the_preset_names_of_the_flag_are_those_of_the_evaluator():
  assert set(evaluate.PRESET_NAMES) == set(PRESETS)


def test_the_table_shows_metrics_presets_and_classes(call):
  sides = arrays()
  sides["query_label"], sides["gallery_label"] = np.array(["owl", "cat"] * 3), np.array(["cat"] * 9)
  status, text, _ = call(sides)
  lines = [line.split() for line in text.splitlines()]
  assert status == 0
  assert [line[0] for line in lines if line[:1] in (["sake"], ["zse"], ["sempcyc"])] == [*PRESETS]
  assert ["cat", "3", "9", "100.0", "100.0"] in lines
  assert ["owl", "3", "0", "-", "0.0"] in lines


def test_other_arrays_and_names_of_classes_are_fine(summary):
  sides = arrays()
  named = {name: np.array(["cat", "dog"])[sides[name]] for name in ("query_label", "gallery_label")}
  assert summary({**sides, **named, "extra": np.zeros(2), "more": np.array("x")}) == summary(sides)


def test_a_figure_nobody_can_compute_is_null(summary):
  sides = arrays()
  sides["gallery_label"] = sides["gallery_label"] + 7
  assert summary(sides)["metrics"]["map@all[voc]"] is None


# Instances ----------------------------------------------------------------------------------------


def test_ids_instead_of_labels_give_the_accuracy_of_the_first_places(summary):
  sides = ids_only()
  report = summary(sides)
  expected = evaluate_instances(*(sides[n] for n in ("query", "gallery", "query_id", "gallery_id")))
  assert report["metrics"] == expected.metrics
  assert {"acc@1", "acc@5", "acc@10"} < set(report["metrics"])
  assert (report["queries"], report["gallery"], report["presets"]) == (6, 9, {})


def test_labels_and_ids_together_give_both(summary, call):
  both = {**arrays(), **ids_only()}
  report = summary(both)
  accuracies = {name: v for name, v in summary(ids_only())["metrics"].items() if "acc@" in name}
  assert report["metrics"] == summary(arrays())["metrics"] | accuracies
  text = call(both)[1]
  assert "map@all[voc]" in text and "Acc@10" in text


def test_a_preset_needs_labels(refused):
  assert "--preset sake is of category retrieval, expected labels" in refused(
    ids_only(), "--preset", "sake"
  )


# What is refused ----------------------------------------------------------------------------------


def without(*names, **added):
  return {name: array for name, array in arrays().items() if name not in names} | added


NAN = np.array([[1, 2], [np.nan, 3]])


@pytest.mark.parametrize(
  ("file", "message"),
  [
    (without("query"), "lacks query, expected query, gallery, query_label and gallery_label"),
    (
      without("query_label", query_labels=np.zeros(6, int)),
      "lacks query_label, expected query, gallery, query_label and gallery_label (or query_id and "
      "gallery_id); nearest: query_labels",
    ),
    (without("query", "gallery", photos=NAN), "it holds: query_label, gallery_label, photos"),
    (without("query_label", "gallery_label"), "lacks query_label, gallery_label, expected"),
    (without("gallery_label"), "lacks gallery_label, expected"),
    ({**ids_only(), "query_label": np.zeros(6, int)}, "lacks gallery_label, expected"),
    (without(query=np.full((6, 4), np.nan)), "query embeddings: 6 of 6 rows hold nan or inf"),
    (without(gallery=np.full((9, 4), np.inf)), "gallery embeddings: 9 of 9 rows hold nan or inf"),
    (without(query=np.zeros((6, 3))), "query is 3 wide and gallery 4"),
    (without(query=np.zeros((0, 4)), query_label=np.zeros(0, int)), "have shape (0, 4)"),
    (without(query=np.zeros(6)), "query is float64[6], expected numbers of shape [items, width]"),
    (without(query=np.zeros((6, 4), complex)), "query is complex128[6, 4], expected numbers"),
    (without(query=np.full((6, 4), "x")), "query is <U1[6, 4], expected numbers"),
    (without(query=np.zeros((6, 4), "V2")), "query is |V2[6, 4], expected numbers"),
    (without(query_label=np.zeros(5, int)), "query_label has shape [5], expected [6], one for"),
    (without(gallery_label=np.zeros((9, 1), int)), "gallery_label has shape [9, 1], expected [9]"),
    (without(query_label=np.zeros(6)), "query_label is float64, expected whole numbers or names"),
    (without(query_label=np.zeros(6, bool)), "query_label is bool, expected whole numbers"),
    (without(query_label=np.zeros(6, "M8[s]")), "query_label is datetime64[s], expected whole"),
    (without(query_label=np.array(["a"] * 6)), "expected numbers on both sides or names on both"),
    (
      without(query_label=np.array(["a", None, 1, 2, 3, 4], object)),
      "query_label holds pickled Python objects, expected numbers or names",
    ),
    ({**ids_only(), "gallery_id": np.zeros(9, int)}, "gallery id 0 comes twice"),
    ({**ids_only(), "query_id": np.arange(6) + 9}, "6 query ids are not in the gallery"),
    ({**ids_only(), "query_id": np.arange(5)}, "query_id has shape [5], expected [6]"),
  ],
)
def test_arrays_that_cannot_be_measured_are_refused(refused, file, message):
  assert message in refused(file)


def test_an_object_array_is_never_unpickled(refused):
  class Trap:
    def __reduce__(self):
      return (exec, ("raise SystemExit(77)",))

  assert "holds pickled" in refused(without(query=np.array([[Trap()]], object)))


def saved(path):
  np.savez(path, **arrays())
  return path.read_bytes()


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused(refused, tmp_path, kept):
  data = saved(tmp_path / "file.npz")
  (tmp_path / "cut.npz").write_bytes(data[: int(kept * len(data))])
  assert "cut.npz is damaged or no .npz file; write it with np.savez(" in refused(
    tmp_path / "cut.npz"
  )


def test_a_file_with_a_flipped_byte_is_refused(refused, tmp_path):
  data = bytearray(saved(tmp_path / "file.npz"))
  data[200] ^= 255  # inside the numbers of `query`
  (tmp_path / "file.npz").write_bytes(data)
  assert "query cannot be read, the file is damaged or cut off" in refused(tmp_path / "file.npz")


@pytest.mark.parametrize(
  ("write", "message"),
  [
    (lambda path: path.write_text("query,gallery\n"), "is damaged or no .npz file"),
    (lambda path: path.mkdir(), "cannot be read (Is a directory); give an .npz file"),
    (lambda path: np.save(path.open("wb"), np.eye(3)), "is a single array, expected an .npz file"),
  ],
  ids=["text", "folder", "npy"],
)
def test_what_is_no_npz_is_refused(refused, tmp_path, write, message):
  write(tmp_path / "file")
  assert message in refused(tmp_path / "file")


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--preset", "sak"], "argument --preset: invalid choice: 'sak'"),
    (["--distance", "l2"], "argument --distance: invalid choice: 'l2'"),
    (["--jsn"], "unrecognized arguments: --jsn; nearest: --json"),
  ],
)
def test_a_mistyped_flag_is_refused(refused, flags, message):
  assert message in refused(arrays(), *flags)

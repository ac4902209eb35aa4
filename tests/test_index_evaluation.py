"""Searching an index finds what the evaluation of the same model on the same photos ranks first."""

import csv

import pytest

from sbir import cli, index_build
from sbir.models import from_pretrained
from sbir.photo_index import open_index
from tests.photo_folders import needs_milvus, save_model
from tests.xmodal_runs import make_pairs
from xmodal.measure import evaluate_encoders

NUM = 30


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
  """A model, a set of photos and sketches, and the evaluation of one on the other."""
  root = tmp_path_factory.mktemp("evaluated")
  package = str(save_model(root / "package"))
  make_pairs(root / "data", num=NUM)
  sides = {"photo": package, "sketch": package, "data.dir": str(root / "data")}
  config = cli.load_config("configs/xmodal/evaluate.py:shoe304", sides)
  evaluate_encoders(config, root / "evaluation")
  return root


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["faiss", pytest.param("milvus", marks=needs_milvus)])
def test_the_ten_best_photos_are_those_of_the_evaluation(evaluated, tmp_path, monkeypatch, kind):
  monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
  place = f"milvus://{tmp_path}/a.db/photos" if kind == "milvus" else str(tmp_path / "index")
  photos, package = str(evaluated / "data" / "test" / "photo"), str(evaluated / "package")
  index_build.build(place, package, photos)
  with open(evaluated / "evaluation" / "evaluation.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  sketches = [evaluated / "data" / row["query"] for row in rows]
  index = open_index(place)
  found = index.search(from_pretrained(package).encode_sketches(sketches), 10)
  index.close()
  expected = [[f"{row[f'top{n}'].removeprefix('id')}.png" for n in range(1, 11)] for row in rows]
  assert len(rows) == 2 * NUM
  assert [[hit.name for hit in hits] for hits in found] == expected

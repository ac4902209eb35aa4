"""What an evaluation of PSKD compares: galleries, features, binary codes."""

import json

import numpy as np
import pytest

from pskd import measure, stages
from pskd.measure import evaluate_network
from pskd.model import Head, TwoTokenNet
from pskd.stages import train_stage
from sbir import cli
from sbir.types import UserError
from tests.pskd_runs import TINY, UNSEEN, make_classes, of_data
from tests.pskd_tiny import Pooled

PHOTOS, HELD_OUT = 9, 2
NUM_SEEN = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """Returns (settings of the data, run folder of a teacher that is a stub)."""
  folder = tmp_path_factory.mktemp("measured")
  data = of_data(make_classes(folder / "data", photos=PHOTOS, sketches=PHOTOS))
  data["data.held_out_photos"] = str(HELD_OUT)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      stages,
      "two_token_net",
      lambda *_, head, **__: TwoTokenNet(Pooled(), Head(head.num_classes, 16, 24)),
    )
    settings = {**TINY, **data, "epochs": "1", "warmup_epochs": "0"}
    config = cli.load_config("configs/pskd/teacher.py:sketchy_mini", settings)
    train_stage(config, str(folder / "run"))
    yield data, folder / "run"


@pytest.fixture
def evaluate(made, tmp_path, monkeypatch):
  """Returns evaluate(settings) -> (the report, what evaluation.json says it is about, arrays)."""
  data, run = made
  monkeypatch.setattr(measure, "write_page", lambda *_, **__: None)  # of what it takes the time

  def measured(**settings):
    keys = {**data, "model": str(run), **{k.replace("_", ".", 1): v for k, v in settings.items()}}
    config = cli.load_config("configs/pskd/evaluate.py:sketchy_mini", keys)
    report = evaluate_network(config, tmp_path / "evaluation")
    about = json.loads((tmp_path / "evaluation/evaluation.json").read_text())["about"]
    return report, about, dict(np.load(tmp_path / "evaluation/embeddings.npz"))

  return measured


def test_zero_shot_asks_unseen_sketches_of_unseen_photos_alone(evaluate):
  report, _, arrays = evaluate()
  assert (report.queries, report.gallery) == (2 * PHOTOS, 2 * PHOTOS)
  assert set(arrays["query_label"]) == set(arrays["gallery_label"]) == set(UNSEEN)


def test_generalised_zero_shot_adds_the_held_out_photos_of_seen_classes(evaluate):
  report, about, arrays = evaluate(protocol="generalised")
  assert report.gallery == 2 * PHOTOS + NUM_SEEN * HELD_OUT
  assert len(set(arrays["gallery_label"])) == 2 + NUM_SEEN
  assert set(arrays["query_label"]) == set(UNSEEN)
  assert "8 photos of seen classes, 2 of each class, held out of training" in about["protocol"]


@pytest.mark.parametrize("fit", ["training", "transductive", "released"])
def test_binary_codes_are_compared_by_hamming_distance(evaluate, fit):
  report, about, _ = evaluate(codes_bits="16", codes_fit=fit, feature="head")
  assert (report.distance, report.dim) == ("hamming", 16)
  assert about["codes"] == f"16 bits, PCA and ITQ, fit {fit}, Hamming distance"


def test_codes_longer_than_the_feature_is_wide_are_refused_before_anything_is_embedded(evaluate):
  with pytest.raises(
    UserError, match=r"codes.bits=64 is more than the 24 dimensions of feature=he"
  ):
    evaluate(codes_bits="64", feature="head")


@pytest.mark.parametrize("feature", ["fusion", "mean", "head"])
def test_the_feature_asked_for_is_compared(evaluate, feature):
  report, about, arrays = evaluate(feature=feature)
  assert about["feature"] == feature and report.dim == arrays["query"].shape[1]
  lengths = np.linalg.norm(arrays["query"], axis=1)
  assert np.allclose(lengths, 1, atol=1e-5) == (feature == "head")

"""The three published evaluators and the instance ranks of eval_a.npz, query by query, to 1e-6."""

import numpy as np
import pytest

from sbir.retrieval.metrics import acc_at_k, instance_ranks
from sbir.retrieval.presets import PRESETS, evaluate_categories
from tests.paths import GOLDENS, needs_shared

pytestmark = needs_shared
MAPS, PRECISIONS = ("all", "10", "50", "200"), ("10", "50", "100", "200")


@pytest.fixture(scope="module")
def golden():
  with np.load(GOLDENS / "eval_a.npz") as arrays:
    return dict(arrays)


@pytest.fixture(scope="module")
def report(golden):
  sides = (golden[name] for name in ("query", "gallery", "query_label", "gallery_label"))
  return evaluate_categories(*sides)


@pytest.mark.parametrize("cut", MAPS)
@pytest.mark.parametrize("preset", PRESETS)
def test_average_precision_of_every_query_is_the_published_one(golden, report, preset, cut):
  np.testing.assert_allclose(
    report.preset_per_query[preset][f"map@{cut}"], golden[f"{preset}_ap_{cut}"], rtol=0, atol=1e-6
  )


@pytest.mark.parametrize("cut", PRECISIONS)
@pytest.mark.parametrize("preset", PRESETS)
def test_precision_is_the_published_one(golden, report, preset, cut):
  expected = golden[f"{preset}_prec_{cut}"]
  values = report.preset_per_query[preset][f"prec@{cut}"]
  if expected.ndim == 0:  # SEM-PCYC gives the mean only
    values = values.mean()
  np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


def test_every_preset_array_of_the_golden_file_is_compared(golden):
  compared = {f"{p}_ap_{c}" for p in PRESETS for c in MAPS}
  compared |= {f"{p}_prec_{c}" for p in PRESETS for c in PRECISIONS}
  assert compared == {name for name in golden if name.split("_")[0] in PRESETS}


def test_the_same_embeddings_give_three_different_published_figures(report):
  maps = [report.presets[name]["map@all"] for name in ("sempcyc", "zse", "sake")]
  np.testing.assert_allclose(maps, [0.379, 0.423, 0.489], atol=5e-4)


def test_named_metrics_agree_with_the_preset_of_the_same_distance(golden, report):
  np.testing.assert_array_equal(
    report.per_query["map@200[min,voc]"], report.preset_per_query["sake"]["map@200"]
  )


def test_instance_ranks_and_their_accuracies_are_the_published_ones(golden):
  ranks = instance_ranks(
    golden["fg_query"], golden["gallery"], golden["fg_target"], distance="euclidean"
  )
  np.testing.assert_array_equal(ranks - 1, golden["fg_rank"])
  accuracies = [acc_at_k(ranks, k) for k in (1, 5, 10)]
  np.testing.assert_allclose(accuracies, [golden[f"fg_acc_{k}"] for k in (1, 5, 10)], atol=1e-6)

"""How a user's mistake is made and watched through PSKD's mains; fixtures for the tests of it."""

import json
import shutil

import jax
import pytest

from pskd import evaluate, train_student, train_teacher
from pskd.stages import make_net, make_plan
from pskd.tasks import init_net
from sbir import cli
from tests.pskd_runs import TINY, arguments, make_classes, of_data
from tests.refusals import line_of, save_zeros, snapshot

MAINS = {
  "teacher": (train_teacher, "teacher.py"),
  "student": (train_student, "student.py"),
  "evaluate": (evaluate, "evaluate.py"),
}
USUAL = {**TINY, "loss.ila_group": "0"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return make_classes(tmp_path_factory.mktemp("data"))


def known(stage, settings):
  """Returns those settings that the stage's config has."""
  keys = cli.config_keys(cli.load_config(f"configs/pskd/{MAINS[stage][1]}:sketchy_mini"))
  return {key: str(text) for key, text in settings.items() if key in keys}


def save_untrained(workdir, stage, settings):
  """Leaves a run folder after all steps, none of which was done, through the real writers."""
  config = cli.load_config(
    f"configs/pskd/{MAINS[stage][1]}:sketchy_mini", known(stage, {**USUAL, **settings})
  )
  plan = make_plan(config, workdir)
  model = make_net(config, len(plan.split.seen))
  shapes = jax.eval_shape(lambda key: init_net(model, key, 16), jax.random.key(0))
  return save_zeros(workdir, plan.recorded | {"steps": 1}, shapes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data):
  """Returns {stage: run folder} of networks that know the four seen classes of `data`."""
  folder = tmp_path_factory.mktemp("runs")
  teacher = save_untrained(folder / "teacher", "teacher", of_data(data))
  settings = {**of_data(data), "teacher": teacher}
  return {"teacher": teacher, "student": save_untrained(folder / "student", "student", settings)}


@pytest.fixture
def copy(runs, tmp_path):
  """Returns copy(stage, **entries) -> a run folder of one's own, its config.json changed."""

  def make(stage, **entries):
    path = shutil.copytree(runs[stage], tmp_path / f"own_{stage}") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    return path.parent

  return make


@pytest.fixture
def refuse(tmp_path, data, runs, capsys):
  """Returns refuse(stage, settings, ...) -> the error; checks that nothing was written."""

  def run(stage, settings, *, config="sketchy_mini", workdir="run"):
    main, file = MAINS[stage]
    given = {"student": {"teacher": runs["teacher"]}, "evaluate": {"model": runs["student"]}}
    usual = {**USUAL, **of_data(data), **given.get(stage, {})}
    words = arguments(f"{file}:{config}", tmp_path / workdir, {**known(stage, usual), **settings})
    before = snapshot(tmp_path), snapshot(data)
    line = line_of(lambda: cli.run(main.main, words), capsys)
    assert (snapshot(tmp_path), snapshot(data)) == before
    return line

  return run


def with_list(folder, *names, key="data.split"):
  """Returns the setting that names a class list of these names."""
  path = folder / "list.txt"
  path.write_text("\n".join(names))
  return {key: path}

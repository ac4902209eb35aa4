"""The mains with a teacher's stored logits: filled, found again, made again, refused."""

import shutil

import pytest

from pskd import cache_teacher, stages, train_student
from sbir import cli, run_folder
from sbir.logs import read_metrics
from tests.pskd_runs import TINY, arguments, make_classes, of_data
from tests.pskd_tiny import make_stub, outcome, random_params
from tests.refusals import line_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A folder with data, a teacher that is a stub, and the settings of its student; for as long as
  that, every network is a stub."""
  root = tmp_path_factory.mktemp("cached")
  data = make_classes(root / "data")
  settings = {**TINY, **of_data(data), "log_every": "1"}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(stages, "two_token_net", lambda *_, head, **__: make_stub(head.num_classes))
    words = {**settings, "epochs": "1", "warmup_epochs": "0"}
    config = cli.load_config("configs/pskd/teacher.py:sketchy_mini", words)
    stages.train_stage(config, str(root / "teacher"))
    settings |= {"teacher": str(root / "teacher"), "loss.ila_group": "0"}
    yield root, settings


@pytest.fixture
def copied(trained, tmp_path):
  """The settings of a student whose teacher is its own to spoil."""
  teacher = shutil.copytree(trained[0] / "teacher", tmp_path / "teacher")
  shutil.rmtree(teacher / "cache", ignore_errors=True)
  return {**trained[1], "teacher": str(teacher)}


def train(workdir, settings, **changes):
  words = {**settings, **changes}
  config = cli.load_config("configs/pskd/student.py:sketchy_mini", words)
  stages.train_stage(config, str(workdir))
  return [row["loss"] for row in read_metrics(workdir)]


def shards(folder):
  return sorted(path.relative_to(folder) for path in folder.rglob("*.npy"))


def run_cache(settings):
  flags = [f"--config.{key}={value}" for key, value in settings.items()]
  words = ["--config", "configs/pskd/student.py:sketchy_mini", *flags]
  with pytest.raises(SystemExit) as stopped:
    cli.run(cache_teacher.main, words, has_workdir=False)
  return stopped.value.code


def test_what_a_main_trains_on_is_what_its_teacher_says_of_what_its_student_sees(
  copied, monkeypatch
):
  started = {}
  monkeypatch.setattr(stages, "train", lambda task, **words: started.update(words, task=task))
  settings = {**copied, "cache.views": "2", "seed": "3"}
  config = cli.load_config("configs/pskd/student.py:sketchy_mini", settings)
  stages.train_stage(config, "unwritten")
  batch, task = next(started["batches"]), started["task"]
  assert task.teacher_params == {}
  plan = stages.make_plan(config, "unwritten")
  running = {name: value for name, value in batch.items() if not name.endswith("_logits")}
  expected = outcome(stages.make_task(config, plan.split), running)[0]
  assert outcome(task, batch)[0] == pytest.approx(expected, rel=1e-6)


def test_by_default_nothing_is_stored(copied, tmp_path):
  train(tmp_path / "run", copied, epochs="2")
  assert not (tmp_path / "teacher" / "cache").exists()


def test_a_student_fills_what_it_needs_and_the_next_one_finds_it(copied, tmp_path, capsys):
  first = train(tmp_path / "one", copied, **{"cache.views": "2"})
  assert len(shards(tmp_path / "teacher" / "cache")) == 2
  assert "teacher's logits" in capsys.readouterr().err
  assert train(tmp_path / "two", copied, **{"cache.views": "2"}) == first
  assert "teacher's logits: complete, 48 rows in" in capsys.readouterr().err


def test_the_main_fills_what_the_student_finds_and_says_where(copied, tmp_path, capsys):
  words = {"cache.views": "2", "cache.dir": str(tmp_path / "mine")}
  assert run_cache({**copied, **words}) == 0
  out = capsys.readouterr().out
  (folder,) = (tmp_path / "mine").iterdir()
  assert out == f"48 views, 4 logits each, 0.0 MiB in {folder}\n"
  train(tmp_path / "run", copied, **words)
  assert "complete, 48 rows" in capsys.readouterr().err
  assert not (tmp_path / "teacher" / "cache").exists()


def test_no_more_views_are_stored_than_there_are_epochs(copied, tmp_path):
  train(tmp_path / "run", copied, **{"cache.views": "9"}, epochs="3")
  assert len(shards(tmp_path / "teacher" / "cache")) == 3


def test_a_teacher_that_learnt_on_is_asked_again_and_the_old_answers_go(
  copied, tmp_path, monkeypatch, capsys
):
  train(tmp_path / "one", copied, **{"cache.views": "1"})
  (old,) = (tmp_path / "teacher" / "cache").iterdir()
  other = lambda workdir, key: (make_stub(4), random_params(make_stub(4), seed=3))
  monkeypatch.setattr(stages, "load_net", other)
  train(tmp_path / "two", copied, **{"cache.views": "1"})
  (new,) = (tmp_path / "teacher" / "cache").iterdir()
  assert new != old and f"{old}: stale, removed" in capsys.readouterr().err


def test_in_a_folder_that_was_named_nothing_is_removed(copied, tmp_path, monkeypatch):
  words = {"cache.views": "1", "cache.dir": str(tmp_path / "shared")}
  train(tmp_path / "one", copied, **words)
  other = lambda workdir, key: (make_stub(4), random_params(make_stub(4), seed=3))
  monkeypatch.setattr(stages, "load_net", other)
  train(tmp_path / "two", copied, **words)
  assert len(list((tmp_path / "shared").iterdir())) == 2


def test_a_resumed_student_goes_on_as_the_straight_one_wherever_the_cache_is(copied, tmp_path):
  words = {"cache.views": "2", "save_every": "2"}
  straight = train(tmp_path / "straight", copied, **words)
  train(tmp_path / "run", copied, **words)
  for step in run_folder.saved_steps(tmp_path / "run"):
    if step > 4:
      shutil.rmtree(tmp_path / "run" / "checkpoints" / str(step))
  resumed = train(tmp_path / "run", copied, **words, **{"cache.dir": str(tmp_path / "moved")})
  assert resumed == straight
  assert len(shards(tmp_path / "moved")) == 2


def test_a_finished_student_needs_neither_teacher_nor_cache(copied, tmp_path, capsys):
  losses = train(tmp_path / "run", copied, **{"cache.views": "2"})
  shutil.rmtree(tmp_path / "teacher" / "cache")
  capsys.readouterr()
  assert train(tmp_path / "run", copied, **{"cache.views": "2"}) == losses
  assert not (tmp_path / "teacher" / "cache").exists()
  assert "finished" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"cache.views": "-1"}, "cache.views=-1 must be at least 0"),
    ({"cache.views": "2", "cache.dir": __file__}, "test_pskd_cached_training.py is a file; choose"),
    ({"cache.views": "2", "loss.skd": "0"}, "with loss.skd=0 nobody asks it; set --config.cache.v"),
  ],
)
def test_a_cache_that_cannot_be_is_refused(copied, tmp_path, capsys, settings, message):
  words = arguments("student.py:sketchy_mini", tmp_path / "run", {**copied, **settings})
  assert message in line_of(lambda: cli.run(train_student.main, words), capsys)


def test_the_main_refuses_to_store_nothing(copied, capsys):
  assert run_cache(copied) == 2
  assert "cache.views=0 stores nothing, expected 1 or more" in capsys.readouterr().err

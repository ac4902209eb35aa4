"""A student learns from stored logits what it would have learnt from the teacher itself."""

import shutil
from itertools import islice

import jax
import numpy as np
import pytest

from pskd import cache_teacher, stages, train_student
from pskd.tasks import Batching
from pskd.teacher_cache import TeacherCache
from pskd.views import plain_view, stored_keys, training_view
from sbir import cli, mesh, run_folder
from sbir.data.records import Record, ordered, stamp_of
from sbir.data.resized import resized
from sbir.data.streams import class_batches
from sbir.logs import read_metrics
from tests.pskd_runs import TINY, arguments, make_classes, of_data
from tests.pskd_tiny import (
  AS_IT_IS,
  CLASSES,
  IMAGE,
  PLAIN,
  make_net,
  make_stub,
  random_params,
  recipe,
  student_task,
)
from tests.refusals import line_of
from tests.xmodal_tiny import quick_jit

KEY = jax.random.key(0)
NAMES = tuple("abcde")[:CLASSES]
TEACHER = {"parameters": "abc"}
FLIPS = recipe(**AS_IT_IS | {"flip": 0.5})


class Noise:
  """Photos and sketches of five classes, each of its own noise."""

  name = "noise"

  def __init__(self, photos=12, sketches=8, words="", side=24):
    self.words, self.side = words, side
    self.records = ordered(
      Record(modality, NAMES[i % len(NAMES)], f"{modality}{i}", f"{modality}/{i}")
      for modality, count in (("photo", photos), ("sketch", sketches))
      for i in range(count)
    )

  def image(self, index, at_least=0):
    shape = (self.side, self.side, 3)
    return np.random.default_rng(index).integers(0, 256, shape).astype(np.uint8)

  def stamp(self):
    return stamp_of(self.records, self.words)


def open_cache(root, drawn=FLIPS, source=None, **changes):
  words = {"num_views": 3, "seed": 5, "teacher": TEACHER, "image_size": IMAGE}
  source = resized(source or Noise(side=IMAGE), source.side if source else IMAGE)
  return TeacherCache(root, source, drawn, **words | changes, num_classes=CLASSES)


def filled(root, task, drawn, source, **changes):
  cache = open_cache(root, drawn, source, **changes)
  cache.fill(task.teacher, task.teacher_params, mesh.make_mesh())
  return cache


def batches(source, size, cache, **changes):
  words = {"num_photos": 8, "num_sketches": 4, "seed": 1, "num_threads": 0}
  words |= {"num_views": cache.num_views, "join": cache.join}
  return class_batches(source, NAMES, image_size=size, **words | changes)


def outcome(task, batch):
  """Returns the loss and its gradient; the step's key must not matter."""
  run = quick_jit(jax.value_and_grad(lambda p, f, k: task.loss(p, {}, f, batch, k)[0]))
  frozen = task.frozen(KEY, batch)
  loss, grads = run(random_params(task.model, seed=1), frozen, jax.random.key(2))
  other, _ = run(random_params(task.model, seed=1), frozen, jax.random.key(3))
  assert other == loss
  return float(loss), grads


# --- the same losses ------------------------------------------------------------------------------

RECIPES = {"published": recipe(), "mirrored": FLIPS, "plain": PLAIN}


@pytest.mark.parametrize("net", [make_stub, make_net], ids=["stub", "vit"])
@pytest.mark.parametrize("name", RECIPES)
def test_losses_and_gradients_are_those_of_the_running_teacher(tmp_path, name, net):
  source, drawn = Noise(), RECIPES[name]
  task = student_task(Batching(4, 2), drawn, net(), ila_group=2)._replace(views_seed=5)
  cache = filled(tmp_path, task, drawn, source)
  batch = list(islice(batches(source, 24, cache), 3))[2]  # of the third epoch
  running = {name: value for name, value in batch.items() if not name.endswith("_logits")}
  assert len(running) == len(batch) - 2
  (loss, grads), (expected, of_running) = outcome(task, batch), outcome(task, running)
  assert loss == pytest.approx(expected, rel=1e-6)
  close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * max(np.abs(b).max(), 1))
  jax.tree.map(close, grads, of_running)


def test_with_stored_logits_nobody_asks_the_teacher_and_nobody_keeps_it(tmp_path):
  source = Noise(side=IMAGE)
  task = student_task(Batching(2, 2), FLIPS)._replace(views_seed=5)
  batch = next(batches(source, IMAGE, filled(tmp_path, task, FLIPS, source)))
  loss, _ = outcome(task, batch)
  alone = task._replace(teacher=None, teacher_params={})
  assert alone.frozen(KEY, batch) == {}
  assert outcome(alone, batch)[0] == loss


def test_the_student_sees_the_views_that_the_batch_names(tmp_path):
  source, drawn = Noise(), recipe()
  task = student_task(Batching(2, 2), drawn)._replace(views_seed=5)
  batch = next(batches(source, 24, filled(tmp_path, task, drawn, source)))
  params = random_params(task.model)
  run = quick_jit(lambda batch: task.loss(params, {}, {}, batch, KEY)[0])
  columns = ("photo_view", "sketch_view", "photo_index", "sketch_index")
  losses = [float(run(batch | {column: batch[column] + 1})) for column in columns]
  assert len({float(run(batch)), *losses}) == 5
  other_seed = quick_jit(
    lambda batch: task._replace(views_seed=6).loss(params, {}, {}, batch, KEY)[0]
  )
  assert float(other_seed(batch)) != float(run(batch))


def test_logits_are_those_of_the_row_of_the_image_in_that_view(tmp_path):
  source = Noise(side=IMAGE)
  task = student_task(recipe=FLIPS)
  cache = filled(tmp_path, task, FLIPS, source)
  index, view = np.array([3, 19, 3, 12]), np.array([0, 1, 2, 2])
  keys = stored_keys(5, index, view)
  pixels = np.stack([source.image(i) for i in index])
  seen = training_view(keys, pixels, FLIPS, IMAGE)
  expected = task.teacher.apply({"params": task.teacher_params}, seen).logits
  np.testing.assert_allclose(cache.join(index, view)["logits"], expected, rtol=1e-5, atol=1e-5)
  plain = task.teacher.apply({"params": task.teacher_params}, plain_view(pixels, FLIPS)).logits
  assert np.abs(expected - plain).max() > 1e-3


def test_a_stored_view_depends_on_seed_image_and_number_alone():
  pixels = np.stack([Noise().image(0)] * 4)

  @quick_jit
  def of_keys(keys, pixels):
    return training_view(keys, pixels, recipe(), IMAGE)

  def see(seed, index, view):
    keys = stored_keys(seed, np.array(index), np.array(view))
    return np.asarray(of_keys(keys, pixels[: len(index)]))

  first = see(1, [0, 7, 7, 9], [0, 0, 1, 2])
  np.testing.assert_allclose(see(1, [7, 9], [1, 2]), first[2:], atol=1e-6)
  others = [see(1, [7], [0]), see(1, [7], [1]), see(2, [7], [0]), see(1, [8], [0])]
  different = [np.abs(a - b).max() for i, a in enumerate(others) for b in others[:i]]
  assert min(different) > 0.05


# --- what is stored, and when it counts -----------------------------------------------------------


@pytest.mark.parametrize(
  "change",
  [
    {"teacher": {"parameters": "abd"}},
    {"seed": 6},
    {"drawn": recipe(**AS_IT_IS | {"flip": 0.25})},
    {"source": Noise(words="other pixels", side=IMAGE)},
    {"source": Noise(side=20)},
  ],
  ids=["teacher", "seed", "recipe", "data", "size"],
)
def test_what_was_computed_of_anything_else_is_not_used(tmp_path, change):
  task, source = student_task(recipe=FLIPS), Noise(side=IMAGE)
  filled(tmp_path, task, FLIPS, source)
  assert open_cache(tmp_path).rows.missing() == []
  assert open_cache(tmp_path, **change).rows.missing() != []


def test_a_recipe_that_draws_nothing_has_one_view_whatever_the_seed(tmp_path):
  task, source = student_task(), Noise(side=IMAGE)
  cache = filled(tmp_path, task, PLAIN, source, seed=1)
  assert (cache.num_views, cache.rows.num_rows) == (1, 20)
  assert open_cache(tmp_path, PLAIN, source, seed=2).rows.missing() == []


@pytest.mark.parametrize("name", ["flip", "jitter", "gray", "blur", "solarise", "crop"])
def test_any_switch_makes_a_recipe_random(name):
  assert not PLAIN.is_random()
  assert recipe(**AS_IT_IS | {name: (0.5, 1.0) if name == "crop" else 0.5}).is_random()


def test_more_views_add_to_those_that_are_there(tmp_path):
  task, source = student_task(recipe=FLIPS), Noise(side=IMAGE)
  few = filled(tmp_path, task, FLIPS, source, num_views=1)
  more = open_cache(tmp_path, FLIPS, source, num_views=3)
  assert more.rows.missing() == [1, 2]
  more.fill(task.teacher, task.teacher_params, mesh.make_mesh())
  np.testing.assert_array_equal(more.rows.take(np.arange(20)), few.rows.take(np.arange(20)))


# --- the mains ------------------------------------------------------------------------------------


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
    ({"cache.views": "2", "cache.dir": __file__}, "test_pskd_teacher_cache.py is a file; choose"),
    ({"cache.views": "2", "loss.skd": "0"}, "with loss.skd=0 nobody asks it; set --config.cache.v"),
  ],
)
def test_a_cache_that_cannot_be_is_refused(copied, tmp_path, capsys, settings, message):
  words = arguments("student.py:sketchy_mini", tmp_path / "run", {**copied, **settings})
  assert message in line_of(lambda: cli.run(train_student.main, words), capsys)


def test_the_main_refuses_to_store_nothing(copied, capsys):
  assert run_cache(copied) == 2
  assert "cache.views=0 stores nothing, expected 1 or more" in capsys.readouterr().err

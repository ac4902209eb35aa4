"""A student learns from stored logits what it would have learnt from the teacher itself."""

from itertools import islice

import jax
import numpy as np
import pytest

from pskd.tasks import Batching
from pskd.teacher_cache import TeacherCache
from pskd.views import plain_view, stored_keys, training_view
from sbir import mesh
from sbir.data.records import Record, ordered, stamp_of
from sbir.data.resized import resized
from sbir.data.streams import class_batches
from tests.pskd_tiny import (
  AS_IT_IS,
  CLASSES,
  IMAGE,
  PLAIN,
  make_net,
  make_stub,
  outcome,
  random_params,
  recipe,
  student_task,
)
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

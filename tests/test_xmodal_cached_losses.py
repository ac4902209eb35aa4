"""A student that is given its teacher's stored vectors learns what it learns beside the teacher."""

from itertools import islice

import jax
import numpy as np
import pytest

from sbir import mesh
from sbir.data.pipeline import pair_batches, resized, train_batches
from tests.test_pipeline import FakeSource
from tests.xmodal_tiny import (
  IMAGE,
  WIDTH,
  make_teacher,
  quick_jit,
  start,
  student_task,
  teacher_task,
)
from xmodal.tasks import OWN_IMAGES
from xmodal.teacher_cache import TeacherCache
from xmodal.views import Recipe

RANDOM = Recipe(flip=0.5, degrees=5, scale=0.1, shift=0.05, gray=0.5, jitter=0.2)
SEED, NUM_VIEWS = 3, 3


class NoiseSource(FakeSource):
  """The records of FakeSource, each image drawn from its index."""

  def image(self, index, at_least=0):
    self.reads[index] += 1
    return np.random.default_rng(index).integers(0, 256, (IMAGE, IMAGE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def teacher_params():
  return start(teacher_task())[0]


@pytest.fixture(scope="module")
def cache_of(tmp_path_factory, teacher_params):
  """Returns cache_of(recipe) -> (source, the filled cache of it)."""
  made = {}

  def make(recipe):
    if recipe not in made:
      source = resized(NoiseSource(), IMAGE)
      folder = tmp_path_factory.mktemp("cache")
      settings = {"num_views": NUM_VIEWS, "seed": SEED, "teacher": {}, "width": WIDTH}
      cache = TeacherCache(folder, source, recipe, **settings)
      cache.fill(make_teacher(), teacher_params, batch_size=4, mesh=mesh.make_mesh(), desc="fill")
      made[recipe] = source, cache
    return made[recipe]

  return make


def outcomes(task, batches):
  """Returns (loss, terms, queue, gradients) of the task on each batch."""
  params, extra = start(task, seed=1)
  frozen = task.frozen(None, None)

  def loss_of(params, batch):
    return task.loss(params, extra, frozen, batch, jax.random.key(9))

  run = quick_jit(jax.value_and_grad(loss_of, has_aux=True))
  return [jax.device_get(run(params, batch)) for batch in batches]


def assert_equal_to_rounding(one, other):
  """Each number is, to 1e-5 of the largest of its array."""
  np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize(
  ("modality", "target", "recipe"),
  [
    ("photo", "own", RANDOM),
    ("sketch", "own", RANDOM),
    ("sketch", "own", Recipe()),
    ("sketch", "photo", Recipe()),
  ],
)
def test_losses_and_gradients_are_those_of_the_running_teacher(
  cache_of, teacher_params, modality, target, recipe
):
  source, cache = cache_of(recipe)
  task = student_task(teacher_params, modality, recipe, target=target)._replace(seed=SEED)
  settings = {"image_size": IMAGE, "batch_size": 4, "seed": 5, "num_views": cache.num_views}
  beside = islice(train_batches(source, **settings), 8)  # all epochs of 10 pairs, so every view
  stored = islice(
    train_batches(
      source,
      **settings,
      images=OWN_IMAGES[modality],
      join=cache.targets(modality, target),
    ),
    8,
  )
  alone = task._replace(teacher_params={})
  for one, other in zip(outcomes(task, beside), outcomes(alone, stored), strict=True):
    jax.tree.map(assert_equal_to_rounding, one, other)


def test_a_cached_batch_has_nothing_of_the_other_modality(cache_of):
  source, cache = cache_of(RANDOM)
  for modality, others in (("photo", {"sketch", "sketch_positive"}), ("sketch", {"photo"})):
    batches = train_batches(
      source,
      image_size=IMAGE,
      batch_size=4,
      seed=5,
      num_views=cache.num_views,
      images=OWN_IMAGES[modality],
      join=cache.targets(modality, "own"),
    )
    assert not others & set(next(batches))


@pytest.mark.parametrize("modality", ["photo", "sketch"])
def test_an_evaluation_with_stored_vectors_matches_as_the_teacher_would(
  cache_of, teacher_params, modality
):
  source, cache = cache_of(RANDOM.plain())
  task = student_task(teacher_params, modality, RANDOM)
  params, _ = start(task, seed=1)
  passes = {
    "beside": (task, {}),
    "stored": (
      task._replace(teacher_params={}),
      {"images": (modality,), "join": cache.targets(modality, "own")},
    ),
  }
  found = {}
  for name, (one, seen) in passes.items():
    match = quick_jit(lambda batch, one=one: one.match(params, one.teacher_params, batch))
    batches = pair_batches(source, image_size=IMAGE, batch_size=4, **seen)
    batches = [{n: v for n, v in batch.items() if n != "mask"} for batch in batches]
    found[name] = [jax.device_get(match(batch)) for batch in batches]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found["beside"], found["stored"]
  )

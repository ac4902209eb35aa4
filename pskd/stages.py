"""From a config to a training run: the only place where a training config is unpacked."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from pskd.begin import begin
from pskd.checks import check_training
from pskd.model import Head, TwoTokenNet, two_token_net
from pskd.optimizer import make_optimizer
from pskd.tasks import Batching, StudentTask, TeacherTask, init_net
from pskd.teacher_cache import TeacherCache, cache_folder, fill_cache, is_cached
from pskd.validation import CHOOSE_BY, make_scorer
from pskd.views import Recipe
from sbir import checkpoint, progress, run_folder, settings
from sbir.data.class_splits import ClassSplit
from sbir.data.resized import ResizedSource, resized
from sbir.data.streams import class_batches, epoch_steps
from sbir.data.zero_shot import open_zero_shot
from sbir.mesh import check_batch_size, make_mesh
from sbir.processes import share
from sbir.settings import compute_dtype
from sbir.train import Evaluate, set_damaged_aside, train
from sbir.types import Params, UserError

PHOTOS_OF_RATE = 256  # the batch that optimizer.lr is meant for
SEEN_ALIKE = (  # by a teacher and its student
  "image_size",
  "data.fit",
  "augment.gradients",
  "augment.mean",
  "augment.std",
)


def train_stage(config: ConfigDict, workdir: str) -> None:
  """Trains the stage that `config` describes in the run folder `workdir`, or resumes it.

  Raises: UserError for whatever in the config, the data or the run folder cannot work.
  """
  plan = make_plan(config, workdir)
  set_damaged_aside(workdir)
  task, mesh = make_task(config, plan.split), make_mesh(**config.mesh)
  for num in _batch_sizes(config).values():
    check_batch_size(num, mesh.size)  # before the teacher works for hours
  stored = {}
  if is_cached(config) and not run_folder.is_finished(workdir, plan.steps):
    cache = fill_cache(config, read_run(config.teacher, "teacher"), task, plan.source, mesh)
    stored = {"num_views": cache.num_views, "join": cache.join}
    task = task._replace(teacher_params={})  # nobody needs them any more, on the host or a device
  train(
    task,
    optimizer=make_optimizer(
      steps=plan.steps,
      warmup_steps=config.warmup_epochs * plan.steps // config.epochs,
      **config.optimizer.to_dict() | {"lr": scaled_rate(config)},
    ),
    batches=class_batches(
      plan.source,
      plan.split.seen,
      image_size=plan.source.image_size,
      seed=config.seed,
      num_threads=config.data.num_threads,
      process_index=share().index,
      process_count=share().count,
      **_batch_sizes(config),
      **stored,
    ),
    mesh=mesh,
    workdir=workdir,
    config=plan.recorded,
    steps=plan.steps,
    seed=config.seed,
    save_every=config.save_every,
    log_every=config.log_every,
    eval_every=config.eval_every,
    evaluate=_scorer(config, task, mesh),
    choose_by=CHOOSE_BY,
    warm_start=lambda params: _begin(config, params, task.model.backbone.num_heads),
    keep=config.keep,
    skip_nonfinite=config.skip_nonfinite,
    log_tensorboard=config.log_tensorboard,
    desc=config.stage,
  )
  plan.source.bad.tell()


def cache_teacher(config: ConfigDict) -> TeacherCache:
  """Returns what is stored of a student's teacher, after it was filled; trains nothing.

  Raises: UserError if the config stores nothing, or cannot work.
  """
  check_training(config)
  if not is_cached(config):
    raise UserError(
      f"cache.views={config.cache.views} stores nothing, expected 1 or more views of each image; "
      "add for instance --config.cache.views=10"
    )
  source, split = _open_training(config)
  task, mesh = make_task(config, split), make_mesh(**config.mesh)
  return fill_cache(config, read_run(config.teacher, "teacher"), task, source, mesh)


def _begin(config: ConfigDict, params: Params, num_heads: int) -> tuple[Params, Mapping[str, str]]:
  """Returns what `begin` does; warns where the published recipe begins from nothing."""
  if config.init.kind == "random" and config.model.head_std:
    progress.say(
      "init.kind=random: the published recipe hardly learns from random weights; give DINO's with "
      "--config.init.kind=dino --config.init.path=FILE.pth"
    )
  return begin(config, params, num_heads)


class Plan(NamedTuple):
  """What a training config comes to on its data."""

  source: ResizedSource
  split: ClassSplit
  steps: int
  recorded: dict[str, Any]  # what the run folder keeps


def make_plan(config: ConfigDict, workdir: str | Path) -> Plan:
  """Returns what is to be done; trains nothing and writes nothing.

  Beside the config, the run folder keeps the classes in the order of the labels and the number of
  steps: resuming with other classes is refused.

  Raises: UserError if config, data or run folder cannot be used, or do not go together.
  """
  check_training(config)
  source, split = _open_training(config)
  steps = config.epochs * epoch_steps(source, **_batch_sizes(config))
  found = {"classes": list(split.seen), "unseen_sha256": split.sha256, "steps": steps}
  recorded = config.to_dict() | found
  run_folder.check(workdir, recorded)
  if is_cached(config):
    run_folder.check_writable(cache_folder(config), "cache.dir")
  return Plan(source, split, steps, recorded)


def _open_training(config: Mapping[str, Any]) -> tuple[ResizedSource, ClassSplit]:
  data = config["data"]
  size = data["read_size"] or config["image_size"]
  return open_part(config, "train", size, on_error=data["on_error"])


def _batch_sizes(config: ConfigDict) -> dict[str, int]:
  photos = config.batch_size
  return {"num_photos": photos, "num_sketches": photos // config.skt_factor}


def scaled_rate(config: ConfigDict) -> float:
  """Returns the peak learning rate of the config's batch size."""
  return config.optimizer.lr * config.batch_size / PHOTOS_OF_RATE


def open_part(
  config: Mapping[str, Any], part: str, size: int, *, on_error: str | None = None
) -> tuple[ResizedSource, ClassSplit]:
  """Returns a part ("train", "validation", "test", "seen") of the config's data set, its images
  square of `size` and remembered as it says, and the classes. Training may skip bad images.

  The stages of one process share what is remembered: the same words give the same object.
  """
  data = config["data"]
  keys = ("source", "name", "dir", "split", "seen", "validation_classes", "held_out_photos")
  keys += ("base_photos", "seed", "cache", "cache_dir", "fit")
  return _open_part(part, size, on_error=on_error, **{key: data[key] for key in keys})


@functools.lru_cache(maxsize=4)
def _open_part(
  part: str,
  size: int,
  *,
  source: str,
  name: str,
  dir: str,
  cache: str,
  cache_dir: str,
  fit: str,
  on_error: str | None,
  **words: Any,
) -> tuple[ResizedSource, ClassSplit]:
  opened, split = open_zero_shot(source, name, dir, part, **words)
  kept = {"cache": cache, "cache_dir": cache_dir, "fit": fit, "on_error": on_error}
  return resized(opened, size, **kept), split


def _scorer(config: ConfigDict, task: TeacherTask | StudentTask, mesh: Mesh) -> Evaluate | None:
  """Returns what measures the network on the validation classes, or None where there are none."""
  if not config.data.validation_classes:
    return None
  validation, _ = open_part(config, "validation", config.image_size)
  return make_scorer(task, validation, config.batch_size, mesh)


def make_task(config: ConfigDict, split: ClassSplit) -> TeacherTask | StudentTask:
  """Returns the task of a training config; reads the teacher's run folder if there is one."""
  shared = {
    "model": make_net(config, len(split.seen), remat=config.remat),
    "recipe": make_recipe(config.augment),
    "image_size": config.image_size,
    "batching": Batching(config.accumulation, config.skt_factor),
  }
  if config.stage == "teacher":
    return TeacherTask(**shared, **config.loss)
  teacher, teacher_params = None, {}
  if config.loss.skd:
    _check_teacher(config, split)
    teacher, teacher_params = load_net(config.teacher, "teacher")
  return StudentTask(
    **shared,
    teacher=teacher,
    teacher_params=teacher_params,
    views_seed=config.seed,
    **config.loss,
  )


def make_recipe(augment: Mapping[str, Any]) -> Recipe:
  """Returns the recipe of a config's `augment`; JSON has made lists of its tuples."""
  is_row = lambda value: isinstance(value, list | tuple)
  return Recipe(**{key: tuple(v) if is_row(v) else v for key, v in augment.items()})


def make_net(config: ConfigDict, num_classes: int, *, remat: bool = False) -> TwoTokenNet:
  """Returns the network of a training config; `remat` is for training."""
  model, dtype = config.model, compute_dtype(config.compute_dtype)
  return two_token_net(
    model.size,
    model.patch_size,
    dtype=dtype,
    position_std=model.position_std,
    resample_positions=model.dino_posembed_resample,
    remat=remat,
    head=Head(
      num_classes, model.hidden, model.bottleneck, dtype, model.head_std, model.prototype_std
    ),
  )


def load_net(workdir: str, key: str, step: int | None = None) -> tuple[TwoTokenNet, Params]:
  """Returns the network and the parameters of a run folder (newest, or of `step`); says so on
  stderr if it is still to be trained on.

  `key` is the config key that names the folder. Raises: UserError if there is no such network.
  """
  config = read_run(workdir, key)
  model = make_net(config, len(config.classes))
  expected = jax.eval_shape(lambda key: init_net(model, key, config.image_size), jax.random.key(0))
  params = checkpoint.restore_params(workdir, expected=expected, step=step)
  if step is None and not run_folder.is_finished(workdir, config.steps):
    progress.say(f"{key}={workdir} is not finished: used as it is after its last saved step")
  return model, params


def read_run(workdir: str, key: str) -> ConfigDict:
  """Returns the config of a training of ours, its classes with it."""
  config = ConfigDict(run_folder.read_training(workdir, "pskd", key))
  if "classes" not in config:
    raise UserError(f"{key}={workdir} is no training of a network; give that of pskd.train_student")
  return config


def _check_teacher(config: ConfigDict, split: ClassSplit) -> None:
  """Raises UserError if the teacher knows other classes, or would not see images as it did."""
  teacher = read_run(config.teacher, "teacher")
  if teacher.stage != "teacher":
    raise UserError(
      f"teacher={config.teacher} is the run folder of a {teacher.stage}, expected a teacher's; "
      "give the --workdir of pskd.train_teacher"
    )
  if tuple(teacher.classes) != split.seen:
    lost = sorted(set(teacher.classes) ^ set(split.seen))
    raise UserError(
      f"teacher={config.teacher} knows {len(teacher.classes)} classes and the data has "
      f"{len(split.seen)} to train on (first difference: {lost[0]}); use the teacher's data.split, "
      "data.seen and data.validation_classes"
    )
  for key in SEEN_ALIKE:
    here, there = settings.find(config, key), settings.find(teacher, key)
    here, there = (tuple(v) if isinstance(v, list | tuple) else v for v in (here, there))
    if here != there:
      raise UserError(f"{key}={here} is not the teacher's {there}; add --config.{key}={there}")

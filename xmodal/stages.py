"""From a config to a training run: the only place where a training config is unpacked."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from sbir import checkpoint, progress, run_folder, settings
from sbir.data.pipeline import BatchIterator, train_batches
from sbir.data.resized import ResizedSource, resized
from sbir.data.sources import open_source
from sbir.mesh import check_batch_size, make_mesh
from sbir.nn.vit import ViT, check_image_size, vit
from sbir.optim import make_optimizer
from sbir.places import cache_of, local
from sbir.processes import share
from sbir.settings import check_word, compute_dtype
from sbir.teacher_key import parameters_sha256
from sbir.train import set_damaged_aside, train
from sbir.types import Params, UserError
from xmodal.begin import begin
from xmodal.checks import MODALITIES, check_training
from xmodal.fusion import Fusion, Student, Teacher
from xmodal.match import match_scorer
from xmodal.tasks import OWN_IMAGES, DualEncoderTask, StudentTask, TeacherTask
from xmodal.teacher_cache import TeacherCache
from xmodal.views import Recipe

SEEN_ALIKE = (  # by a teacher and its students
  "image_size",
  "data.fit",
  "augment.mean",
  "augment.std",
  "augment.gradients",
)


def train_stage(config: ConfigDict, workdir: str) -> None:
  """Trains the stage that `config` describes in the run folder `workdir`, or resumes it.

  Raises: UserError for whatever in the config, the data or the run folder cannot work.
  """
  check_training(config)
  run_folder.check(workdir, config)
  set_damaged_aside(workdir)
  task, mesh = make_task(config), make_mesh(**config.mesh)
  check_batch_size(config.batch_size, mesh.size)  # before the teacher works for hours
  caches = {}
  if is_cached(config) and not run_folder.is_finished(workdir, config.steps):
    caches = open_caches(config, task)
  batches = _train_batches(config, caches)
  if caches:
    fill_caches(config, task, caches, mesh)
    task = task._replace(teacher_params={})  # nobody needs them any more, on the host or a device
  evaluate = None
  if config.eval_every:
    seen = _seen_of_pairs(config, caches["test"], (config.modality,)) if caches else {}
    evaluate = match_scorer(task, open_split(config, "test"), config.batch_size, mesh, **seen)
  train(
    task,
    optimizer=make_optimizer(steps=config.steps, **config.optimizer),
    batches=batches,
    mesh=mesh,
    workdir=workdir,
    config=config,
    steps=config.steps,
    seed=config.seed,
    save_every=config.save_every,
    log_every=config.log_every,
    eval_every=config.eval_every,
    evaluate=evaluate,
    warm_start=lambda params: begin(config, params, make_vit(config).num_heads),
    keep=config.keep,
    skip_nonfinite=config.skip_nonfinite,
    log_tensorboard=config.log_tensorboard,
    desc=describe(config),
  )
  open_split(config, "train").bad.tell()


def cache_teacher(config: ConfigDict) -> dict[str, TeacherCache]:
  """Returns the stored vectors of a student's teacher, by split, nothing of them missing.

  Raises: UserError for whatever in the config, the data or the teacher's run folder cannot work.
  """
  check_training(config)
  if not is_cached(config):
    raise UserError("cache.views=0 stores nothing, expected at least 1; add --config.cache.views=8")
  task = make_task(config)
  caches = open_caches(config, task)
  fill_caches(config, task, caches, make_mesh(**config.mesh))
  return caches


def is_cached(config: Mapping[str, Any]) -> bool:
  """Returns whether the stage is a student's and asks for stored vectors of its teacher."""
  return config["stage"] == "student" and config["cache"]["views"] > 0


def open_caches(config: ConfigDict, task: StudentTask) -> dict[str, TeacherCache]:
  """Returns what is stored of the teacher's vectors of {"train", and if the student is evaluated
  during its training, "test"}; it may be nothing yet."""
  teacher = read_teacher(config.teacher)
  about = {
    "parameters": parameters_sha256(task.teacher_params),
    "model": teacher.model.to_dict(),
    "compute_dtype": teacher.compute_dtype,
  }
  recipes = {"train": task.recipe}
  if config.eval_every:
    recipes["test"] = task.recipe.plain()
  return {
    split: TeacherCache(
      cache_folder(config),
      open_split(config, split),
      recipe,
      num_views=config.cache.views,
      seed=config.seed,
      teacher=about,
      width=task.teacher.photo_encoder.width,
    )
    for split, recipe in recipes.items()
  }


def cache_folder(config: ConfigDict) -> Path:
  """Returns where a student's config has its teacher's vectors. Raises: UserError if in a store."""
  return local(config.cache.dir, "cache.dir") if config.cache.dir else cache_of(config.teacher)


def fill_caches(
  config: ConfigDict, task: StudentTask, caches: Mapping[str, TeacherCache], mesh: Mesh
) -> None:
  """Computes what is missing of the stored vectors of the config's teacher. In the teacher's own
  run folder, those that it made before it was trained on go."""
  for split, cache in caches.items():
    if not config.cache.dir:
      cache.remove_older()
    cache.fill(
      task.teacher,
      task.teacher_params,
      batch_size=config.batch_size,
      mesh=mesh,
      desc=f"teacher's vectors, {split}",
    )


def _train_batches(config: ConfigDict, caches: Mapping[str, TeacherCache]) -> BatchIterator:
  seen = {}
  if caches:
    seen = _seen_of_pairs(config, caches["train"], OWN_IMAGES[config.modality])
    seen["num_views"] = caches["train"].num_views
  return train_batches(
    open_split(config, "train"),
    image_size=config.image_size,
    batch_size=config.batch_size,
    seed=config.seed,
    sample_by=config.data.sample_by,
    num_threads=config.data.num_threads,
    process_index=share().index,
    process_count=share().count,
    **seen,
  )


def _seen_of_pairs(
  config: ConfigDict, cache: TeacherCache, images: tuple[str, ...]
) -> dict[str, Any]:
  """Returns the arguments that give a student its own images and its teacher's stored vectors."""
  return {"images": images, "join": cache.targets(config.modality, config.loss.target)}


def describe(config: Mapping[str, Any]) -> str:
  """Returns what the stage is called in progress bars and messages."""
  return f"{config['modality']} student" if config["stage"] == "student" else config["stage"]


def open_split(config: Mapping[str, Any], split: str) -> ResizedSource:
  """Returns one split of the config's data set, its images square and remembered as it says. Only
  of what is trained on may images be skipped.

  The stages of one process share what is remembered: the same words give the same object.
  """
  data = config["data"]
  where = (data["source"], data["name"], data["dir"], split, data["seed"])
  kept = {key: data[key] for key in ("cache", "cache_dir", "fit")}
  kept["on_error"] = data["on_error"] if split == "train" else None
  return _open_split(*where, config["image_size"], **kept)


@functools.lru_cache(maxsize=4)
def _open_split(
  kind: str, name: str, folder: str, split: str, seed: int, image_size: int, **kept: str
) -> ResizedSource:
  source = open_source(kind, name, folder, split, seed=seed)
  return resized(source, image_size, **kept)


def make_task(config: ConfigDict) -> TeacherTask | StudentTask | DualEncoderTask:
  """Returns the task of a training config; reads the teacher's run folder if there is one."""
  loss, recipe = config.loss, Recipe(**config.augment)
  if config.stage == "teacher":
    return TeacherTask(make_teacher(config, remat=config.remat), recipe, **loss)
  if config.stage == "baseline":
    model = make_student(config, config.model.embed_dim, remat=config.remat)
    return DualEncoderTask(model, recipe, **loss)
  check_word("modality", config.modality, MODALITIES)
  _check_seen_alike(config, read_teacher(config.teacher))
  teacher, teacher_params = load_teacher(config.teacher)
  return StudentTask(
    modality=config.modality,
    model=make_student(config, teacher.photo_encoder.width, remat=config.remat),
    teacher=teacher,
    teacher_params=teacher_params,
    recipe=recipe,
    seed=config.seed,
    **loss,
  )


def make_teacher(config: ConfigDict, *, remat: bool = False) -> Teacher:
  """Returns the network of a teacher's config; `remat` is for training."""
  model, dtype = config.model, compute_dtype(config.compute_dtype)
  encoders = [make_vit(config, remat=remat) for _ in MODALITIES]
  check_word("model.fusion_order", model.fusion_order, ("parallel", "sequential"))
  if encoders[0].width % model.fusion_heads:
    raise UserError(
      f"model.fusion_heads={model.fusion_heads} must divide the width {encoders[0].width}"
    )
  fusion = Fusion(model.fusion_depth, model.fusion_heads, model.fusion_order, dtype)
  return Teacher(*encoders, fusion)


def make_student(config: ConfigDict, embed_dim: int, *, remat: bool = False) -> Student:
  """Returns the network of a student's (or the baseline's) config; `remat` is for training."""
  return Student(make_vit(config, remat=remat), embed_dim)


def make_vit(config: ConfigDict, *, remat: bool = False) -> ViT:
  """Returns the encoder of a config's `model`, which must fit its `image_size`."""
  model = config.model
  check_image_size((config.image_size,) * 2, model.patch_size)
  dtype = compute_dtype(config.compute_dtype)
  return vit(model.size, model.patch_size, dtype, model.position_std, remat)


def load_teacher(workdir: str) -> tuple[Teacher, Params]:
  """Returns the network and the newest parameters of a teacher's run folder; says so on stderr if
  the teacher is still to be trained on.

  Raises: UserError if there is none, or it is not a teacher's.
  """
  config = read_teacher(workdir)
  model = make_teacher(config)
  images = jnp.zeros((1, config.image_size, config.image_size, 3))
  expected = jax.eval_shape(lambda key: model.init(key, images, images), jax.random.key(0))
  params = checkpoint.restore_params(workdir, expected=expected["params"])
  if not run_folder.is_finished(workdir, config.steps):
    step = run_folder.latest_step(workdir)
    progress.say(f"teacher={workdir} is at step {step} of {config.steps}: not finished, used as is")
  return model, params


def read_teacher(workdir: str) -> ConfigDict:
  """Returns the config of a teacher's run folder. Raises: UserError if it is none."""
  config = read_run("teacher", workdir)
  if config.stage != "teacher":
    raise UserError(
      f"teacher={workdir} is the run folder of a {describe(config)}, expected a teacher's; "
      "give the --workdir of xmodal.train_teacher"
    )
  return config


def read_run(key: str, workdir: str) -> ConfigDict:
  """Returns the config of the run folder that the config's `key` names.

  Raises: UserError if none is named, or what is there is no run of ours.
  """
  return ConfigDict(run_folder.read_training(workdir, "xmodal", key))


def _check_seen_alike(config: ConfigDict, teacher: ConfigDict) -> None:
  """Raises UserError if the teacher would not see images as it has learnt to see them."""
  for key in SEEN_ALIKE:
    here, there = settings.find(config, key), settings.find(teacher, key)
    if there is not None and here != there:
      raise UserError(f"{key}={here} is not the teacher's {there}; add --config.{key}={there}")

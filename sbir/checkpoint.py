"""Saves and restores a run; the only file that imports orbax.

A checkpoint named 100 holds the state after 100 updates and the iterator for batch 101. It has
three parts, committed together: "params" (readable without knowing the optimiser), "rest"
(step, opt_state, extra, key) and "batches" (the data iterator's state, JSON).
"""

import contextlib
import errno
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from logging import getLogger as get_logger
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from sbir import checksums, processes, progress, run_folder
from sbir.places import is_remote, place
from sbir.remote_checkpoints import Mirror, fetched
from sbir.types import Params, UserError

NUM_MISSES_SHOWN = 8
SLACK = 2**18  # bytes that a checkpoint takes beside its numbers


class Checkpoints:
  """The checkpoints of one run folder. Saves block until committed.

  Keeps the newest `keep` and, of those saved with a score, the one that scored highest.
  """

  def __init__(self, workdir: str | os.PathLike[str], *, keep: int = 2):
    policies = ocp.checkpoint_managers
    score_of = lambda metrics: metrics["score"]
    best = policies.BestN(get_metric_fn=score_of, n=1, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
      preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(n=keep), best]),
      # Only with this does Orbax write scores to disk, where a resumed run finds them again.
      best_fn=score_of,
      enable_async_checkpointing=False,
      cleanup_tmp_directories=True,
    )
    self._workdir = place(workdir).absolute()
    self._mirror = Mirror(workdir) if is_remote(workdir) else None
    self._folder = self._mirror.folder if self._mirror else _folder(workdir)
    self._manager = ocp.CheckpointManager(self._folder, options=options)
    self._has_failed = False

  def save(
    self, step: int, params: Params, rest: Any, batches: Any, *, score: float | None = None
  ) -> None:
    """Saves all three parts in one commit; `batches` must be JSON, `score` better when higher.

    Raises: UserError if there is no room; what was saved before stays.
    """
    if step in self._manager.all_steps():
      return
    parts = ocp.args.Composite(
      params=ocp.args.StandardSave(params),
      rest=ocp.args.StandardSave(_without_empty(rest)),
      batches=ocp.args.JsonSave(batches),
    )
    metrics = None if score is None else {"score": float(score)}
    processes.on_first(lambda: self._check_room(step, (params, rest)))
    with _without_noise():
      try:
        self._manager.save(step, args=parts, force=True, metrics=metrics)
        if self._mirror:
          self._mirror.save(step)
        else:
          processes.on_first(lambda: checksums.record(self._workdir, step))
      except Exception as error:  # tensorstore wraps the system's error in its own
        if not _is_full(error):
          raise
        self._has_failed = True
        self._clean_up(step)
        raise self._no_room(step) from None

  def restore(self, step: int, params: Params, rest: Any) -> tuple[Params, Any, Any]:
    """Returns (params, rest, batches) of `step`, laid out as the abstract `params` and `rest` say.

    Raises: UserError if the saved shapes are of another architecture.
    """
    check_shapes(_metadata(self._folder / str(step) / "params"), params, self._folder)
    parts = ocp.args.Composite(
      params=ocp.args.StandardRestore(params),
      rest=ocp.args.StandardRestore(_without_empty(rest)),
      batches=ocp.args.JsonRestore(),
    )
    try:
      restored = self._manager.restore(step, args=parts)
    except (ValueError, KeyError) as error:
      reason = str(error).splitlines()[0][:200]
      raise UserError(
        f"checkpoint {self._folder / str(step)} does not fit this training ({reason}); "
        f"use another --workdir"
      ) from error
    return restored.params, _with_empty(restored.rest, rest), restored.batches

  def _check_room(self, step: int, tree: Any) -> None:
    """Raises UserError where the disk is too small for what is to be saved: nothing is begun."""
    need = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    if shutil.disk_usage(self._folder).free < 1.1 * need + SLACK:
      raise self._no_room(step)

  def _clean_up(self, step: int) -> None:
    """Removes what was half written of `step`."""
    self.close()
    for thread in threading.enumerate():  # of Orbax: each fails on its own, and raises when joined
      if type(thread).__name__ == "_SignalingThread":
        with contextlib.suppress(Exception):
          thread.join(10)
    for path in self._folder.glob(f"{step}.orbax-checkpoint-tmp*"):
      shutil.rmtree(path, ignore_errors=True)

  def _no_room(self, step: int) -> UserError:
    free = shutil.disk_usage(self._folder).free / 1e6
    before = [saved for saved in run_folder.saved_steps(self._workdir) if saved != step]
    kept = f"step {before[-1]} is saved" if before else "nothing was saved before"
    return UserError(
      f"checkpoint {self._folder / str(step)} cannot be saved: the disk is full ({free:.1f} MB "
      f"free); {kept}; make room and run the same command again"
    )

  def close(self) -> None:
    """Waits for what is still being written or deleted."""
    with contextlib.suppress(*[Exception] if self._has_failed else []):  # it would say so again
      self._manager.close()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def newest_sound(workdir: str | os.PathLike[str], *, sets_aside: bool = False) -> int | None:
  """Returns the newest saved step whose files are as they were saved, None if there is none.

  A newer one that is damaged is named on stderr; with `sets_aside` it is moved to WORKDIR/damaged,
  so that its step can be saved again. Stores check what they hold themselves, so what is marked as
  whole in one is taken for it.
  """
  if is_remote(workdir):
    return run_folder.latest_step(workdir)
  for step in reversed(run_folder.saved_steps(workdir)):
    found = checksums.damage(workdir, step)
    if found is None:
      found = _unreadable(_folder(workdir) / str(step))
    if not found:
      return step
    where = f"moved to {checksums.set_aside(workdir, step)}" if sets_aside else "left where it is"
    progress.say(
      f"DAMAGED CHECKPOINT: step {step} of {workdir} ({found}), {where}; the one before it is used"
    )
  return None


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
  """Keeps the tracebacks of Orbax's and tensorstore's threads, of which a full disk makes hundreds,
  off the screen: what they tell is raised as well. After a UserError for good, for they go on."""
  before, hook, tasks = logging.get_verbosity(), sys.unraisablehook, get_logger("asyncio")
  logging.set_verbosity(logging.FATAL)
  sys.unraisablehook, tasks.disabled = lambda _: None, True
  is_over = True
  try:
    yield
  except UserError:
    is_over = False
    raise
  finally:
    if is_over:
      logging.set_verbosity(before)
      sys.unraisablehook, tasks.disabled = hook, False


def _unreadable(path: Path) -> str:
  """Returns why a step without checksums cannot be read, "" if it can: its process was killed after
  Orbax had put it in place and before the sums were written."""
  try:
    for part in ("params", "rest"):
      read_arrays(path / part)
    json.loads((path / "batches" / "metadata").read_text())
  except Exception as error:  # whatever Orbax and tensorstore make of broken files
    return " ".join(str(error).split())[:200] or type(error).__name__
  return ""


def _is_full(error: BaseException | None) -> bool:
  """Returns whether an error, or what it was made from, says that no room is left."""
  words = os.strerror(errno.ENOSPC).lower()
  while error is not None:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or words in str(error).lower():
      return True
    error = error.__cause__ or error.__context__
  return False


def restore_params(
  workdir: str | os.PathLike[str], *, expected: Params | None = None, step: int | None = None
) -> Params:
  """Returns the parameters of a run as host arrays: the newest, or those of `step`.

  `expected` is a tree of arrays or shapes to compare with; every difference is listed in one error.
  Raises: UserError if the folder is missing, has no checkpoint, or is of another architecture.
  """
  run_folder.read_config(workdir)
  step = newest_sound(workdir) if step is None else step
  path = _folder(workdir) / str(step) / "params"
  if step is None or not path.is_dir():
    raise UserError(f"run folder {workdir} has no checkpoint yet; finish its training first")
  if is_remote(path):
    with fetched(path) as copy:
      return _read_params(copy, expected, workdir)
  return _read_params(path, expected, workdir)


def _read_params(path: Path, expected: Params | None, workdir: Any) -> Params:
  if expected is not None:
    check_shapes(_metadata(path), expected, workdir)
  return read_arrays(path)


def read_arrays(path: Path) -> Any:
  """Returns one part of a checkpoint as it was saved, as host arrays, whatever devices wrote it."""
  as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), _metadata(path))
  return ocp.PyTreeCheckpointer().restore(path, restore_args=as_numpy)


def check_shapes(saved: Any, expected: Any, where: Any) -> None:
  """Raises UserError naming each array that is missing, unexpected, or of another shape."""
  have, want = _shapes(saved), _shapes(expected)
  misses = [f"{name}: missing" for name in sorted(want.keys() - have.keys())]
  misses += [f"{name}: not expected" for name in sorted(have.keys() - want.keys())]
  misses += [
    f"{name}: {have[name]} saved, {want[name]} expected"
    for name in sorted(have.keys() & want.keys())
    if have[name] != want[name]
  ]
  if misses:
    more = len(misses) - NUM_MISSES_SHOWN
    shown = "; ".join(misses[:NUM_MISSES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    raise UserError(
      f"checkpoint in {where} is of another architecture, {len(misses)} arrays differ ({shown}); "
      f"give the run folder or the config that belongs to it"
    )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
    for path, leaf in leaves
  }


def _without_empty(tree: Any) -> Any:
  """Returns arrays (or their shapes) with one number in place of each of size 0 (a queue may have
  it): Orbax refuses to save those."""

  def stand_in(leaf: Any) -> Any:
    if leaf.size:
      return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
      return jax.ShapeDtypeStruct((1,), leaf.dtype, sharding=leaf.sharding)
    return jax.device_put(np.zeros(1, leaf.dtype), leaf.sharding)

  return jax.tree.map(stand_in, tree)


def _with_empty(tree: Any, shapes: Any) -> Any:
  """Returns the tree that `_without_empty` was given."""

  def original(leaf: jax.Array, shape: jax.ShapeDtypeStruct) -> jax.Array:
    if shape.size:
      return leaf
    return jax.device_put(np.zeros(shape.shape, shape.dtype), shape.sharding)

  return jax.tree.map(original, tree, shapes)


def _metadata(path: Path) -> Any:
  return ocp.PyTreeCheckpointer().metadata(path).item_metadata.tree


def _folder(workdir: str | os.PathLike[str]) -> Path:
  return place(workdir).absolute() / "checkpoints"

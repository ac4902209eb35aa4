"""Saves and restores a run; the only file that imports orbax.

A checkpoint named 100 holds the state after 100 updates and the iterator for batch 101. It has
three parts, committed together: "params" (readable without knowing the optimiser), "rest"
(step, opt_state, extra, key) and "batches" (the data iterator's state, JSON).
"""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from sbir import run_folder
from sbir.types import Params, UserError

NUM_MISSES_SHOWN = 8


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
    self._folder = _folder(workdir)
    self._manager = ocp.CheckpointManager(self._folder, options=options)

  def save(
    self, step: int, params: Params, rest: Any, batches: Any, *, score: float | None = None
  ) -> None:
    """Saves all three parts in one commit; `batches` must be JSON, `score` better when higher."""
    if step in self._manager.all_steps():
      return
    parts = ocp.args.Composite(
      params=ocp.args.StandardSave(params),
      rest=ocp.args.StandardSave(_without_empty(rest)),
      batches=ocp.args.JsonSave(batches),
    )
    metrics = None if score is None else {"score": float(score)}
    self._manager.save(step, args=parts, force=True, metrics=metrics)

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

  def close(self) -> None:
    """Waits for what is still being written or deleted."""
    self._manager.close()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def restore_params(
  workdir: str | os.PathLike[str], *, expected: Params | None = None, step: int | None = None
) -> Params:
  """Returns the parameters of a run as host arrays: the newest, or those of `step`.

  `expected` is a tree of arrays or shapes to compare with; every difference is listed in one error.
  Raises: UserError if the folder is missing, has no checkpoint, or is of another architecture.
  """
  run_folder.read_config(workdir)
  step = run_folder.latest_step(workdir) if step is None else step
  path = _folder(workdir) / str(step) / "params"
  if step is None or not path.is_dir():
    raise UserError(f"run folder {workdir} has no checkpoint yet; finish its training first")
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
  return Path(workdir).absolute() / "checkpoints"

"""The only training loop: every task, on any mesh, resumable bit for bit."""

import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from sbir import host_memory, progress, run_folder
from sbir.checkpoint import Checkpoints
from sbir.logs import MetricLog, parameter_table
from sbir.mesh import put_batch, put_replicated, replicated
from sbir.step import Health, Metrics, TrainState, TrainStep, init_state, make_train_step, watch
from sbir.task import Task
from sbir.types import Batch, Key, Params, Scalar, UserError

STEPS_IN_FLIGHT = 2  # dispatched and not yet finished; more only holds more batches in memory

Evaluate = Callable[[Params, Params], Mapping[str, float]]
# Fresh parameters -> those to begin from, and what versions.json says of the file they are from.
WarmStart = Callable[[Params], tuple[Params, Mapping[str, str]]]


class Batches(Protocol):
  """An endless iterator over host batches whose position can be saved as JSON."""

  def __next__(self) -> Batch: ...
  def get_state(self) -> Any: ...
  def set_state(self, state: Any) -> None: ...


def train(
  task: Task,
  *,
  optimizer: optax.GradientTransformation,
  batches: Batches,
  mesh: Mesh,
  workdir: str | Path,
  config: Mapping[str, Any],
  steps: int,
  seed: int,
  save_every: int,
  log_every: int,
  eval_every: int,
  evaluate: Evaluate | None = None,
  choose_by: str = "",
  warm_start: WarmStart | None = None,
  keep: int = 2,
  log_tensorboard: bool = True,
  desc: str = "train",
) -> TrainState:
  """Trains until `steps` updates are done and returns the state; begins where `workdir` left off.

  `config` is recorded in the run folder and compared with what is there. `evaluate(params, frozen)`
  runs every `eval_every` steps and at the end; its numbers join the line of that step, and where
  `choose_by` names one of them, the saved step with the highest is kept beside the newest; that
  must never be a test score. `warm_start` maps fresh parameters to those to begin from (weights
  from a file); not called on resuming.
  Where an interval (`save_every`, `log_every`, `eval_every`) is 0, only the last step counts.

  Raises: UserError if the loss is not finite, or `workdir` cannot be used for this run.
  """
  if steps < 1:
    raise UserError(f"steps={steps} must be at least 1")
  if jax.default_backend() == "cpu":
    host_memory.keep_freed()
  run_folder.check(workdir, config)
  every = Every(steps=steps, save=save_every, log=log_every, evaluate=eval_every)
  first = put_batch(next(batches), mesh)
  init_key, frozen_key = jax.random.split(jax.random.key(seed))
  start = run_folder.latest_step(workdir) or 0
  state, init = None, {}
  if start:  # nothing is written before it is known that the checkpoint fits
    with Checkpoints(workdir, keep=keep) as checkpoints:
      state, position = _restore(checkpoints, start, task, optimizer, init_key, first, mesh)
    if start >= steps:
      progress.say(f"{desc}: finished, {start} of {steps} steps are done; skipped")
      return state
    batches.set_state(position)
  frozen = put_replicated(task.frozen(frozen_key, first), mesh)
  if state is None:
    state = _fresh(task, optimizer, init_key, first, mesh)
    if warm_start is not None:
      params, init = warm_start(state.params)
      state = state._replace(params=put_replicated(params, mesh))
  run_folder.open_run(workdir, config, init)
  with (
    Checkpoints(workdir, keep=keep) as checkpoints,
    MetricLog(workdir, restored_step=start, tensorboard=log_tensorboard) as log,
  ):
    _announce(workdir, desc, state.params, start)
    run = _Run(every, batches, mesh, checkpoints, log, evaluate, choose_by, desc)
    return run.loop(make_train_step(task, optimizer, mesh), state, frozen, first, start)


class Every(NamedTuple):
  """How many steps there are, and after how many each chore is due (0: only after the last)."""

  steps: int
  save: int
  log: int
  evaluate: int

  def due(self, step: int, interval: int) -> bool:
    return step == self.steps or (interval > 0 and step % interval == 0)


class _Run(NamedTuple):
  """What the loop needs and never changes."""

  every: Every
  batches: Batches
  mesh: Mesh
  checkpoints: Checkpoints
  log: MetricLog
  evaluate: Evaluate | None
  choose_by: str
  desc: str

  def loop(
    self, train_step: TrainStep, state: TrainState, frozen: Params, first: Batch, start: int
  ) -> TrainState:
    """Does steps start+1 ... steps; `first` is batch 1. Reads nothing back but for the chores."""
    in_flight: deque[Scalar] = deque()
    health = put_replicated(Health(jnp.int32(0), jnp.float32(jnp.nan)), self.mesh)
    pace = _Pace()
    with progress.bar(self.desc, self.every.steps, initial=start, unit="step") as bar:
      for step in range(start + 1, self.every.steps + 1):
        # The first step traces and compiles; after it, only `put_batch` may move anything.
        with jax.transfer_guard("allow" if step == start + 1 else "disallow"):
          batch = first if step == 1 else pace.fetch(self.batches, self.mesh)
          state, metrics = train_step(state, frozen, batch)
          health = watch(health, state.step, metrics["loss"], metrics["grad_norm"])
        in_flight.append(metrics["loss"])
        if step == start + 1 or len(in_flight) > STEPS_IN_FLIGHT:
          in_flight.popleft().block_until_ready()
        pace.count(batch, restart=step == start + 1)
        self._chores(step, state, frozen, metrics, health, pace, bar)
        bar.update()
    return state

  def _chores(
    self,
    step: int,
    state: TrainState,
    frozen: Params,
    metrics: Metrics,
    health: Health,
    pace: "_Pace",
    bar: Any,
  ) -> None:
    """Logs, evaluates and saves where due; a state that went bad is never saved."""
    every = self.every
    evaluates = self.evaluate is not None and every.due(step, every.evaluate)
    saves = every.due(step, every.save)
    if not (evaluates or saves or every.due(step, every.log)):
      return
    numbers = {name: float(value) for name, value in jax.device_get(metrics).items()}
    _check_health(jax.device_get(health), numbers, self.desc)
    bar.set_postfix(loss=f"{numbers['loss']:.4g}", refresh=False)
    timing = pace.read()
    with pace.stopped():
      scores = dict(self.evaluate(state.params, frozen)) if evaluates else {}
      if evaluates or every.due(step, every.log):
        self.log.write(step, {**numbers, **scores, **timing})
      if saves:
        rest, score = _rest(state), scores.get(self.choose_by)
        self.checkpoints.save(step, state.params, rest, self.batches.get_state(), score=score)


class _Pace:
  """Measures examples per second and the share of time spent waiting for data."""

  def __init__(self) -> None:
    self._begun = self._since = time.perf_counter()
    self._examples, self._waited = 0, 0.0

  def fetch(self, batches: Batches, mesh: Mesh) -> Batch:
    asked = time.perf_counter()
    batch = put_batch(next(batches), mesh)
    self._waited += time.perf_counter() - asked
    return batch

  def count(self, batch: Batch, *, restart: bool) -> None:
    """Counts one batch; `restart` forgets all so far (the first step, which compiles)."""
    if restart:
      self._since, self._examples, self._waited = time.perf_counter(), 0, 0.0
    else:
      self._examples += len(next(iter(batch.values())))

  def read(self) -> dict[str, float]:
    """Returns the numbers since the last reading, and starts afresh."""
    now = time.perf_counter()
    spent = max(now - self._since, 1e-9)
    rates = {"examples_per_second": self._examples / spent, "data_wait": self._waited / spent}
    self._since, self._examples, self._waited = now, 0, 0.0
    return {**rates, "seconds": now - self._begun}

  @contextlib.contextmanager
  def stopped(self) -> Iterator[None]:
    """Keeps the time spent inside out of the rates."""
    stopped = time.perf_counter()
    yield
    self._since += time.perf_counter() - stopped


def _check_health(health: Health, numbers: Mapping[str, float], desc: str) -> None:
  if int(health.first_bad) == 0:
    return
  raise UserError(
    f"{desc}: loss or gradient is not finite at step {int(health.first_bad)}, the last finite loss "
    f"was {float(health.last_finite):.6g} (now loss {numbers['loss']}, gradient norm "
    f"{numbers['grad_norm']}); lower the learning rate or clip gradients, then run again"
  )


def _fresh(
  task: Task, optimizer: optax.GradientTransformation, key: Key, batch: Batch, mesh: Mesh
) -> TrainState:
  """Returns the state a run begins with, on the mesh."""
  build = jax.jit(functools.partial(init_state, task, optimizer), out_shardings=replicated(mesh))
  return build(key, batch)


def _rest(state: TrainState) -> dict[str, Any]:
  """Returns what is saved beside the parameters; the key as its numbers."""
  return {
    "step": state.step,
    "opt_state": state.opt_state,
    "extra": state.extra,
    "key": jax.random.key_data(state.key),
  }


def _restore(
  checkpoints: Checkpoints,
  step: int,
  task: Task,
  optimizer: optax.GradientTransformation,
  key: Key,
  batch: Batch,
  mesh: Mesh,
) -> tuple[TrainState, Any]:
  """Returns the saved state, laid out on this mesh, and the data iterator's position."""

  def parts(key: Key, batch: Batch) -> tuple[Params, dict[str, Any]]:
    state = init_state(task, optimizer, key, batch)
    return state.params, _rest(state)

  layout = replicated(mesh)
  shapes = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=layout),
    jax.eval_shape(parts, key, batch),
  )
  params, rest, position = checkpoints.restore(step, *shapes)
  key = jax.random.wrap_key_data(rest["key"])
  return TrainState(rest["step"], params, rest["opt_state"], rest["extra"], key), position


def _announce(workdir: str | Path, desc: str, params: Params, start: int) -> None:
  """Leaves the table of parameters in the run folder, and says how many there are."""
  run_folder.write_text(Path(workdir) / "parameters.txt", parameter_table(params) + "\n")
  leaves = jax.tree.leaves(params)
  total = sum(leaf.size for leaf in leaves)
  since = f", resumed after step {start}" if start else ""
  progress.say(
    f"{desc}: {total:,} parameters in {len(leaves)} arrays (parameters.txt in {workdir}){since}"
  )

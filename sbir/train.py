"""The only training loop: every task, on any mesh, resumable bit for bit."""

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from sbir import host_memory, processes, progress, run_folder
from sbir.checkpoint import Checkpoints, newest_sound
from sbir.health import Health, diagnosis, good_health, watch
from sbir.layout import layout_of
from sbir.logs import MetricLog, parameter_table
from sbir.mesh import put, put_batch, put_replicated
from sbir.pace import Pace
from sbir.places import place
from sbir.run_lock import locked
from sbir.run_state import WarmStart, beside_params, cut_layout, make_state, restore_state
from sbir.step import Metrics, TrainState, TrainStep, make_train_step
from sbir.stopping import GO_ON, Stopped, listening
from sbir.task import Task
from sbir.types import Batch, Params, Scalar, UserError

# Dispatched and not yet finished; more only holds more batches in memory. On the CPU it is one, for
# there a step that waits for another already holds its temporaries: gigabytes.
STEPS_IN_FLIGHT = 2

Evaluate = Callable[[Params, Params], Mapping[str, float]]


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
  skip_nonfinite: int = 0,
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
  `skip_nonfinite` steps in a row whose loss or gradient is not finite are left out: they change
  nothing. On SIGTERM or SIGINT the step is finished and saved.

  Of several processes each gives its share of every batch, and only the first writes.

  Raises: UserError if the loss is not finite, or `workdir` cannot be used for this run; Stopped
  after a signal.
  """
  if steps < 1:
    raise UserError(f"steps={steps} must be at least 1")
  run_folder.check(workdir, config)
  first = put_batch(next(batches), mesh)
  init_key, frozen_key = jax.random.split(jax.random.key(seed))
  with _alone_in(workdir):
    start, state, init = _newest_sound_step(workdir), None, {}
    if start:  # nothing is written before it is known that the checkpoint fits
      with Checkpoints(workdir, keep=keep) as checkpoints:
        state, position = restore_state(checkpoints, start, task, optimizer, init_key, first, mesh)
      if start >= steps:
        progress.say(f"{desc}: finished, {start} of {steps} steps are done; skipped")
        return state
      batches.set_state(position)
    frozen = task.frozen(frozen_key, first)
    frozen = put(frozen, layout_of(frozen, mesh))
    if state is None:
      state, init = make_state(task, optimizer, init_key, first, mesh, warm_start)
    processes.on_first(functools.partial(run_folder.open_run, workdir, config, init))
    is_first = processes.is_first()
    with (
      Checkpoints(workdir, keep=keep) as checkpoints,
      MetricLog(workdir, restored_step=start, tensorboard=log_tensorboard, writes=is_first) as log,
    ):
      _announce(workdir, desc, state.params, start)
      every = Every(steps=steps, save=save_every, log=log_every, evaluate=eval_every)
      run = _Run(every, batches, mesh, checkpoints, log, evaluate, choose_by, skip_nonfinite, desc)
      step = make_train_step(
        task, optimizer, mesh, layout=cut_layout(state, mesh), skips_nonfinite=skip_nonfinite > 0
      )
      return run.loop(step, state, frozen, first, start)


@contextlib.contextmanager
def _alone_in(workdir: str | Path) -> Iterator[None]:
  """Keeps other programs out of the run folder; of several processes the first holds the lock."""
  with contextlib.ExitStack() as stack:
    processes.on_first(lambda: stack.enter_context(locked(workdir)))
    yield


def set_damaged_aside(workdir: str | Path) -> None:
  """Sets damaged checkpoints of a run folder aside, before a program asks it what is done already.

  Raises: UserError if another program works there: what it is just saving may look damaged.
  """

  def look() -> None:
    if run_folder.saved_steps(workdir):
      with locked(workdir):
        newest_sound(workdir, sets_aside=True)

  processes.on_first(look)


def _newest_sound_step(workdir: str | Path) -> int:
  """Returns the step to go on from, 0 if there is none; a damaged one that is newer is set aside,
  and that is said. To be asked by all processes."""
  find = lambda: str(newest_sound(workdir, sets_aside=True) or 0)
  return int(processes.tell_all(processes.on_first(find) or ""))


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
  skip_nonfinite: int
  desc: str

  def loop(
    self, train_step: TrainStep, state: TrainState, frozen: Params, first: Batch, start: int
  ) -> TrainState:
    """Does steps start+1 ... steps; `first` is batch 1. Reads nothing back but for the chores."""
    in_flight: deque[Scalar] = deque()
    health = put_replicated(good_health(state.params), self.mesh)
    allowed = put_replicated(jnp.int32(self.skip_nonfinite), self.mesh)
    pace, last = Pace(), self.every.steps
    on_cpu = jax.default_backend() == "cpu"
    most = 1 if on_cpu else STEPS_IN_FLIGHT
    with (
      listening(self.mesh) as asked,
      progress.bar(self.desc, last, initial=start, unit="step") as bar,
    ):
      for step in range(start + 1, last + 1):
        batch = first if step == 1 else pace.fetch(self.batches, self.mesh)
        if len(in_flight) >= most:
          in_flight.popleft().block_until_ready()
        if on_cpu:
          host_memory.make_room()
        # The first step traces and compiles; after it, a step moves nothing to or from the host.
        with jax.transfer_guard("allow" if step == start + 1 else "disallow"):
          state, metrics = train_step(state, frozen, batch)
          health = watch(health, state.step, metrics["loss"], metrics.pop("finite"), allowed)
        in_flight.append(metrics["loss"])
        if step == start + 1:
          in_flight.popleft().block_until_ready()
        pace.count(batch, restart=step == start + 1)
        stops = asked.after_step(is_last=step == last)
        self._chores(step, state, frozen, metrics, health, pace, bar, stops)
        bar.update()
        if stops:
          progress.say(f"{self.desc}: stopped after step {step} of {last}, saved; {GO_ON}")
          raise Stopped
    return state

  def _chores(
    self,
    step: int,
    state: TrainState,
    frozen: Params,
    metrics: Metrics,
    health: Health,
    pace: Pace,
    bar: Any,
    stops: bool,
  ) -> None:
    """Logs, evaluates and saves where due; a state that went bad is never saved."""
    every = self.every
    evaluates = self.evaluate is not None and every.due(step, every.evaluate)
    saves = stops or every.due(step, every.save)
    if not (evaluates or saves or every.due(step, every.log)):
      return
    numbers = {name: float(value) for name, value in jax.device_get(metrics).items()}
    health = jax.device_get(health)
    _check_health(health, state.params, self.desc)
    if self.skip_nonfinite:
      numbers["skipped_steps"] = int(health.skipped)
    bar.set_postfix(loss=f"{numbers['loss']:.4g}", refresh=False)
    timing = pace.read()
    with pace.stopped():
      scores = dict(self.evaluate(state.params, frozen)) if evaluates else {}
      if evaluates or every.due(step, every.log):
        self.log.write(step, {**numbers, **scores, **timing})
      if saves:
        rest, score = beside_params(state), scores.get(self.choose_by)
        self.checkpoints.save(step, state.params, rest, self.batches.get_state(), score=score)


def _check_health(health: Health, params: Params, desc: str) -> None:
  if found := diagnosis(health, params):
    raise UserError(
      f"{desc}: {found}; lower the learning rate, clip gradients, or leave such steps out with "
      "--config.skip_nonfinite=N (in a row), then run again"
    )


def _announce(workdir: str | Path, desc: str, params: Params, start: int) -> None:
  """Leaves the table of parameters in the run folder, and says how many there are."""
  if processes.is_first():
    run_folder.write_text(place(workdir) / "parameters.txt", parameter_table(params) + "\n")
  leaves = jax.tree.leaves(params)
  total = sum(leaf.size for leaf in leaves)
  since = f", resumed after step {start}" if start else ""
  progress.say(
    f"{desc}: {total:,} parameters in {len(leaves)} arrays (parameters.txt in {workdir}){since}"
  )

"""Trained networks of PSKD, of a run or of a package, with what must be known to measure them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from pskd.model import TwoTokenNet
from pskd.packaged import build, net_of
from pskd.stages import load_net, read_run
from pskd.tasks import init_net
from pskd.validation import CHOOSE_BY
from sbir import hub, progress, run_folder, trees
from sbir.logs import read_metrics
from sbir.package_folder import FILES, Package, is_package, read_package
from sbir.types import Params, UserError


class Network(NamedTuple):
  """A network of a run folder, with the config it was trained under."""

  config: ConfigDict
  model: TwoTokenNet
  params: Params
  step: int

  def untrained(self, seed: int) -> "Network":
    """Returns the same network with fresh random weights: what it finds without any training."""
    key = jax.random.key(seed)
    return self._replace(params=init_net(self.model, key, self.config.image_size), step=0)


def load_network(workdir: str, select: str = "last") -> Network:
  """Returns the network of a run folder after its last step, or the best on validation classes; or
  that of a package.

  Raises: UserError if there is none, or no step was measured on validation classes.
  """
  folder = hub.fetch(workdir, files=FILES)
  if is_package(folder):
    if select != "last":
      raise UserError(f"select={select}, but model={workdir} is a package: use select=last")
    return _of_package(read_package(folder), workdir)
  config = read_run(workdir, "model")
  step = None if select == "last" else best_step(workdir)
  model, params = load_net(workdir, "model", step)
  return Network(config, model, params, step or run_folder.latest_step(workdir) or 0)


def _of_package(package: Package, place: str) -> Network:
  """Returns the network of a package. Of one that was converted nobody knows the classes: it is
  said that they cannot be compared with those of the test."""
  found, how = package.config, package.preprocessing
  if found["architecture"] != "pskd":
    raise UserError(
      f"model={place} is a package of {found['architecture']}, expected one of pskd; make one with "
      "python -m sbir.package or sbir.convert --from pskd"
    )
  build(found["network"])
  model = net_of(found["network"])
  classes = found["classes"]
  if not classes:
    classes = [f"class {i}" for i in range(model.head.num_classes)]
    progress.say(f"model={place} does not tell its classes: whether it knows the test's is unknown")
  off = dict.fromkeys(("flip", "jitter", "gray", "blur", "solarise"), 0.0)
  looks = {"gradients": how.gradients, "mean": how.mean, "std": how.std}
  config = ConfigDict(
    {
      "stage": "package",
      "steps": 0,
      "image_size": how.image_size,
      "classes": classes,
      "data": {"fit": how.fit, "held_out_photos": _held_out(found["training"])},
      "augment": {"crop": (1.0, 1.0), **off, **looks},
    }
  )
  expected = jax.eval_shape(lambda key: init_net(model, key, how.image_size), jax.random.key(0))
  return Network(config, model, trees.merge(expected, package.params, what=place), 0)


def _held_out(training: Mapping[str, Any]) -> int:
  """Returns how many photos of each seen class a package's training held out; 0 where none says."""
  for stage in training.values():
    data = stage.get("data") if isinstance(stage, Mapping) else None
    found = data.get("held_out_photos") if isinstance(data, Mapping) else None
    if type(found) is int:
      return found
  return 0


def best_step(workdir: str) -> int:
  """Returns the saved step with the highest score on the validation classes.

  Raises: UserError if no saved step has one.
  """
  saved = run_folder.saved_steps(workdir)
  scores = {row["step"]: row.get(CHOOSE_BY) for row in read_metrics(workdir)}
  scored = {step: scores[step] for step in saved if scores.get(step) is not None}
  if not scored:
    raise UserError(
      f"select=best, but no saved step of {workdir} was measured on validation classes; train with "
      "--config.data.validation_classes=N and eval_every equal to save_every, or use select=last"
    )
  return max(scored, key=scored.get)

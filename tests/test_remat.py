"""--config.remat=true reaches the networks that are trained, and no others."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

import pskd.stages
import xmodal.stages
from sbir.cli import load_config

REMAT = "prevent_cse="  # what jax prints of it alone
IMAGES = jnp.zeros((4, 64, 64, 3), jnp.uint8)
PAIRS = {name: IMAGES for name in ("photo", "sketch", "sketch_positive")} | {"id": jnp.arange(4)}
STREAMS = {"photo": IMAGES, "sketch": IMAGES[:4]}
STREAMS |= {"photo_label": jnp.arange(4), "sketch_label": jnp.arange(4)}


def xmodal_task(stage, **overrides):
  config = load_config(f"configs/xmodal/{stage}.py:demo", overrides)
  return xmodal.stages.make_task(config), PAIRS


def pskd_task(stage, **overrides):
  config = load_config(f"configs/pskd/{stage}.py:demo", overrides | {"accumulation": "1"})
  return pskd.stages.make_task(config, SimpleNamespace(seen=list("abcd"))), STREAMS


def program_of(task, batch):
  """Returns the loss as jax traces it, without computing anything."""
  key = jax.random.key(0)
  params, extra = jax.eval_shape(task.init, key, batch)
  return str(jax.make_jaxpr(task.loss)(params, extra, {}, batch, key))


@pytest.mark.parametrize("make", [xmodal_task, pskd_task])
@pytest.mark.parametrize("word", ["true", "false"])
def test_a_teacher_is_rematerialised_as_its_config_says(make, word):
  assert (REMAT in program_of(*make("teacher", remat=word))) == (word == "true")


def test_the_baseline_too():
  assert REMAT in program_of(*xmodal_task("baseline", remat="true"))

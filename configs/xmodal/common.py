"""What the configs of XModalViT share: recipes, and the data set behind each name."""

from collections.abc import Callable

from ml_collections import ConfigDict

from configs.common import pick, shared

Make = Callable[[str], ConfigDict]


def published() -> ConfigDict:
  """Returns what was published, for training on photos and sketches of 224 px."""
  config = shared()
  config.method = "xmodal"
  config.loss = ConfigDict({"temperature": 0.07})
  config.augment = ConfigDict(
    {
      "flip": 0.0,  # probability, photo and sketches of a pair together
      "degrees": 0.0,
      "scale": 0.0,
      "shift": 0.0,
      "gray": 0.0,  # probability that a photo loses its colour
      "jitter": 0.0,  # brightness, contrast and saturation of photos
      "gradients": False,  # True: all images become their oriented gradients, in evaluation too
      "mean": 0.5,  # as the AugReg ViTs expect; the released code does not normalise (0 and 1)
      "std": 0.5,
    }
  )
  config.optimizer = ConfigDict(
    {
      "name": "adam_l2",
      "learning_rate": 1e-5,
      "weight_decay": 1e-5,
      "schedule": "constant",
      "warmup_steps": 0,
      "decay_rate": 1.0,  # of schedule "exponential", after every steps_per_epoch
      "steps_per_epoch": 1,
      "clip_norm": 0.0,  # 0: no clipping
    }
  )
  return config


def from_scratch(config: ConfigDict) -> ConfigDict:
  """Returns `config` with the modern recipe for random weights and small sets, on two CPU cores.

  White paper is 0 (mean 1): otherwise every patch of a drawing is nearly the same large vector and
  a network that starts from random weights stays at chance.
  """
  config.image_size, config.batch_size = 64, 48
  config.save_every, config.log_every, config.eval_every = 200, 20, 200
  config.log_tensorboard = False
  config.data.fit = "trim"
  config.model.update(size="micro", patch_size=16, position_std=1.0)
  config.augment.update(flip=0.5, scale=0.08, shift=0.03, gray=0.5, gradients=True, mean=1.0)
  config.optimizer.update(
    name="adamw",
    learning_rate=5e-4,
    weight_decay=0.05,
    schedule="cosine",
    warmup_steps=20,
    clip_norm=1.0,
  )
  return config


def named(name: str, *, full: Make, shoe304: Make, demo: Make) -> ConfigDict:
  """Returns the config `name` of a stage, given how the stage makes its published recipe, and those
  for two small sets, pointed at the data set of that name."""
  published_sets = dict.fromkeys(("shoe_v2", "chair_v2", "sketchy"), full)
  make = pick(name, {"demo": demo, "shoe304": shoe304, **published_sets})
  return use_data(make(name), name)


def use_data(config: ConfigDict, name: str) -> ConfigDict:
  """Returns `config` pointed at the data set `name`."""
  source = {"demo": "synthetic", "shoe304": "manifest"}.get(name, "folder")
  config.data.update(name="synthetic" if name == "demo" else name, source=source)
  return config

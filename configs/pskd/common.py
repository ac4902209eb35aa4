"""What the configs of PSKD share: the published recipe, a small one, and the data of each name."""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from configs.common import pick, shared

# name: data set and the list of its unseen classes
DATA = {
  "sketchy21": ("sketchy", "sketchy21"),
  "sketchy25": ("sketchy", "sketchy25"),
  "tuberlin": ("tuberlin", "tuberlin30"),
  "quickdraw": ("quickdraw", "quickdraw30"),
  "sketchy_mini": ("sketchy_mini", "sketchy21"),
  "demo": ("demo", "demo"),
}


def published() -> ConfigDict:
  """Returns what was published, for photos and sketches of 224 px.

  The README has a table from each flag of the released commands to the key here.
  """
  config = shared()
  config.method = "pskd"
  del config.steps  # epochs x the batches of one, which the data set decides
  config.epochs, config.warmup_epochs = 50, 5
  config.skt_factor = 2  # photos in a batch for each sketch
  config.accumulation = 32  # photos' micro-batches in a batch; sketches make 1/skt_factor as many
  config.save_every = config.eval_every = 250  # evaluates on validation classes, if there are any
  config.log_every = 50
  config.model = ConfigDict(
    {
      "size": "small",
      "patch_size": 8,
      "hidden": 2048,
      "bottleneck": 256,
      "position_std": 0.02,
      "head_std": 0.02,  # of the head's random weights; 0: 1 / sqrt(inputs)
      "prototype_std": 0.02,
      "dino_posembed_resample": False,  # True: as the released code, for its checkpoints
    }
  )
  config.loss = ConfigDict({"smoothing": 0.1})
  config.augment = ConfigDict(
    {
      "crop": (0.14, 1.0),  # share of the area
      "flip": 0.5,  # probabilities from here on
      "jitter": 0.8,  # brightness .4, contrast .4, saturation .2, hue .1, in random order
      "gray": 0.2,
      "blur": 0.1,
      "solarise": 0.2,
      "gradients": False,  # True: all images become their oriented gradients, in evaluation too
      "mean": (0.485, 0.456, 0.406),
      "std": (0.229, 0.224, 0.225),
    }
  )
  config.optimizer = ConfigDict(
    {
      "lr": 5e-4,  # of 256 photos a batch; scaled in proportion to batch_size
      "min_lr": 1e-6,
      "backbone_lr": 0.1,  # the backbone's, as a share of the others'
      "weight_decay": 0.04,
      "weight_decay_end": 0.4,
      "clip_grad": 3.0,  # norm of each tensor by itself
    }
  )
  config.data = data(config.data)
  return config


def data(keys: ConfigDict) -> ConfigDict:
  """Returns the shared data keys, as zero-shot retrieval has them."""
  del keys.sample_by
  keys.read_size = 0  # side that training images are kept in before the crop; 0: image_size
  keys.split = ""  # unseen classes: sketchy21, ..., or a text file with one class a line
  keys.seen = ""  # a text file of the classes to train on; "": all that are not unseen
  keys.validation_classes = 0  # seen classes held out of training, to choose by
  keys.held_out_photos = 0  # photos of each seen class held out, for generalised zero-shot
  keys.base_photos = ""  # a folder of photos to add (SAKE adds Sketchy's 12 500 base photos)
  return keys


def named(name: str, full: Callable[[str], ConfigDict], epochs: Mapping[str, int]) -> ConfigDict:
  """Returns the config `name` of a stage: what `full(name)` says, or for the two small sets that
  with the recipe for random weights and `epochs[name]` epochs."""
  config = pick(name, dict.fromkeys(DATA, full))(name)
  if name in epochs:
    config = from_scratch(config, epochs[name])
  return use_data(config, name)


def from_scratch(config: ConfigDict, epochs: int) -> ConfigDict:
  """Returns `config` with the recipe for random weights and small sets, on two CPU cores."""
  config.epochs, config.warmup_epochs = epochs, 1
  config.image_size, config.data.read_size = 64, 0
  config.batch_size, config.skt_factor, config.accumulation = 64, 1, 1
  config.save_every = config.eval_every = 500
  config.log_every = 20
  config.log_tensorboard = False
  config.model.update(size="micro", patch_size=16, hidden=512, bottleneck=128)
  config.model.update(position_std=1.0, head_std=0.0, prototype_std=1.0)
  config.augment.update(crop=(0.35, 1.0), jitter=0.0, gray=0.0, blur=0.0, solarise=0.0)
  config.augment.update(gradients=True, mean=(1.0, 1.0, 1.0), std=(0.5, 0.5, 0.5))
  config.optimizer.update(backbone_lr=1.0, lr=8e-3, weight_decay=0.05, weight_decay_end=0.05)
  return config


def use_data(config: ConfigDict, name: str) -> ConfigDict:
  """Returns `config` pointed at the data set `name`."""
  data_set, split = DATA[name]
  source = {"demo": "synthetic", "sketchy_mini": "manifest"}.get(name, "folder")
  config.data.update(name=data_set, split=split, source=source)
  return config

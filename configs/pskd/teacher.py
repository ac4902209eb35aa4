r"""PSKD's teacher, stage 1: a two-token ViT fine-tuned to classify the seen classes. ACM MM 2022,
doi:10.1145/3503161.3548382.

  python -m pskd.train_teacher --config configs/pskd/teacher.py:sketchy21 \
      --workdir runs/sketchy21/teacher --config.data.dir=DIR \
      --config.init.kind=dino --config.init.path=FILE.npz

Numbers to expect (the student's, published): configs/pskd/student.py.
"""

from ml_collections import ConfigDict

from configs.pskd.common import from_scratch, named, published


def get_config(name: str) -> ConfigDict:
  """Returns the config `name`: demo, sketchy_mini, sketchy21, sketchy25, tuberlin or quickdraw."""
  return named(name, full=full, sketchy_mini=sketchy_mini, demo=demo)


def full(name: str) -> ConfigDict:
  """Returns the published recipe: five epochs of warm-up and no more."""
  config = published()
  config.stage = "teacher"
  config.epochs = config.warmup_epochs = 5
  config.batch_size = 512  # photos, and half as many sketches
  config.data.read_size = 256
  return config


def sketchy_mini(name: str) -> ConfigDict:
  """Returns the recipe for 104 classes of 25 photos and 25 sketches, from random weights."""
  config = from_scratch(full(name))
  config.data.read_size = 0
  config.epochs, config.warmup_epochs = 20, 1
  return config


def demo(name: str) -> ConfigDict:
  """Returns the recipe for the embedded data."""
  return sketchy_mini(name)

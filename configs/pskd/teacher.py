r"""PSKD's teacher, stage 1: a two-token ViT fine-tuned to classify the seen classes. ACM MM 2022,
doi:10.1145/3503161.3548382.

  python -m pskd.train_teacher --config configs/pskd/teacher.py:sketchy21 \
      --workdir runs/sketchy21/teacher --config.data.dir=DIR \
      --config.init.kind=dino --config.init.path=FILE.pth

Numbers to expect (the student's, published): configs/pskd/student.py.
"""

from ml_collections import ConfigDict

from configs.pskd.common import named, published


def get_config(name: str) -> ConfigDict:
  """Returns the config `name`: demo, sketchy_mini, sketchy21, sketchy25, tuberlin or quickdraw."""
  return named(name, full, epochs={"sketchy_mini": 40, "demo": 60})


def full(name: str) -> ConfigDict:
  """Returns the published recipe: five epochs of warm-up and no more."""
  config = published()
  config.stage = "teacher"
  config.epochs = config.warmup_epochs = 5
  config.batch_size = 512  # photos, and half as many sketches
  config.data.read_size = 256
  return config

r"""PSKD's student, stage 2: prototypes, selective distillation, instance-level adaptive learning.
ACM MM 2022, doi:10.1145/3503161.3548382.

  python -m pskd.train_student --config configs/pskd/student.py:sketchy21 \
      --workdir runs/sketchy21/student --config.teacher=runs/sketchy21/teacher \
      --config.data.dir=DIR --config.init.kind=dino --config.init.path=FILE.pth

Published (mAP / Prec): Sketchy 25 .688/.786 (all/100), Sketchy 21 .560/.645 (200/200), TU-Berlin
.502/.662 (all/100), QuickDraw .150/.298 (all/200). About 8.4e17 floating-point operations.
"""

from ml_collections import ConfigDict

from configs.pskd.common import named, published


def get_config(name: str) -> ConfigDict:
  """Returns the config `name`: demo, sketchy_mini, sketchy21, sketchy25, tuberlin or quickdraw."""
  return named(name, full, epochs={"sketchy_mini": 45, "demo": 80})


def full(name: str) -> ConfigDict:
  """Returns the published recipe: the student begins from DINO again, not from the teacher."""
  config = published()
  config.stage = "student"
  config.teacher = ""  # the teacher's run folder
  config.batch_size = 256  # photos, and half as many sketches
  config.data.read_size = 256
  config.loss.update(
    ila_group=8,  # samples that a prototype chooses among; 0: a whole micro-batch
    correlation=True,  # False: plain distillation of the teacher's probabilities
    clip_negative=False,  # True: negative correlations count as 0
    skd=1.0,  # weights of the three terms; 0 leaves one out
    ce=1.0,
    ila=1.0,
  )
  # views: 0, as published: the teacher runs in every step, on views drawn anew. V: it runs once,
  # on V stored views of each image; epoch e then shows view e % V. Faster, but another recipe.
  # dir: where its logits are kept; "": in the folder `cache` of the teacher's run.
  config.cache = ConfigDict({"views": 0, "dir": ""})
  return config

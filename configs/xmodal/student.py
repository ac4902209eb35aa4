"""XModalViT's students, one for each modality. BMVC 2022, arXiv:2210.10486.

  python -m xmodal.train_photo_student --config configs/xmodal/student.py:shoe_v2 \
      --workdir runs/shoe_v2/photo_student --config.teacher=runs/shoe_v2/teacher \
      --config.data.dir=DIR
  python -m xmodal.train_sketch_student ...            the same for the sketch student

Before the first trains, what the teacher makes of every pair is stored in its run folder, for both.

Numbers to expect: configs/xmodal/teacher.py.
"""

from ml_collections import ConfigDict

from configs.xmodal.common import from_scratch, named, published
from configs.xmodal.teacher import PUBLISHED_EPOCHS, TRAIN_PHOTOS


def get_config(name: str) -> ConfigDict:
  """Returns the config `name`: demo, shoe304, shoe_v2, chair_v2 or sketchy."""
  return named(name, full=full, shoe304=shoe304, demo=demo)


def full(name: str) -> ConfigDict:
  """Returns the published recipe: ViT-Ti/16 (Sketchy: ViT-S/16), Adam at 1e-5."""
  config = published()
  config.stage = "student"
  config.modality = "photo"  # or "sketch"; each main sets its own
  config.teacher = ""  # the teacher's run folder
  config.cache = ConfigDict(
    {
      # Views of each pair of which the teacher's vectors are stored, before the training: the
      # student then sees these and the teacher never runs. Without augmentation all are one, and
      # nothing changes. 0: the teacher runs in every step, on views drawn anew.
      "views": 1,
      "dir": "",  # where; "": the folder "cache" in the teacher's run folder
    }
  )
  steps_per_epoch = TRAIN_PHOTOS[name] // 16
  config.steps = PUBLISHED_EPOCHS * steps_per_epoch
  size = "small" if name == "sketchy" else "tiny"
  config.model = ConfigDict({"size": size, "patch_size": 16, "position_std": 0.02})
  config.loss.update(
    queue_size=64 if name == "sketchy" else 256,
    in_batch=False,  # True: the batch's other keys are negatives too
    target="own",  # the teacher's own branch; the released code always takes "photo"
    both_sketches=False,  # True: XAQC of the positive sketch too, which XMRD's angle needs anyway
    xaqc=1.0,  # weights of the three terms
    distance=1.0,
    angle=1.0,
  )
  config.optimizer.update(
    schedule="exponential", decay_rate=0.99999, steps_per_epoch=steps_per_epoch
  )
  return config


def shoe304(name: str) -> ConfigDict:
  """Returns the recipe for 200 shoes from random weights on two CPU cores."""
  config = from_scratch(full("shoe_v2"))
  config.steps = 400
  config.loss.update(in_batch=True, both_sketches=True, target="photo")
  config.loss.update(distance=25.0, angle=50.0)  # as CRD (arXiv:1910.10699) weighs RKD
  config.cache.views = 8
  return config


def demo(name: str) -> ConfigDict:
  """Returns the recipe for the embedded data."""
  config = shoe304(name)
  config.data.fit = "stretch"  # its photos have no white margin, so its sketches keep theirs
  return config

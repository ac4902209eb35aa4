r"""XModalViT's teacher, the modality fusion network. BMVC 2022, arXiv:2210.10486.

  python -m xmodal.train_teacher --config configs/xmodal/teacher.py:shoe_v2 \
      --workdir runs/shoe_v2/teacher --config.data.dir=DIR

Runtime and numbers to expect: the README's table. Published test results (students, table 1):
ShoeV2 45.05 / 90.23, ChairV2 63.48 / 95.02, Sketchy 56.15 / 96.86 (Acc@1 / Acc@10); nobody is
known to have reproduced them.
"""

from ml_collections import ConfigDict

from configs.xmodal.common import from_scratch, named, published

# The released code counts 20 000 epochs of one pair for each photo, in batches of 16, and drops the
# rest. Shorten with --config.steps.
PUBLISHED_EPOCHS = 20_000
TRAIN_PHOTOS = {"shoe_v2": 1800, "chair_v2": 300, "sketchy": 11_250}


def get_config(name: str) -> ConfigDict:
  """Returns the config `name`: demo, shoe304, shoe_v2, chair_v2 or sketchy."""
  return named(name, full=full, shoe304=shoe304, demo=demo)


def full(name: str) -> ConfigDict:
  """Returns the published recipe: ViT-B/16 encoders, Adam at 3e-6."""
  config = published()
  config.stage = "teacher"
  config.steps = PUBLISHED_EPOCHS * (TRAIN_PHOTOS[name] // 16)
  config.model = ConfigDict(
    {
      "size": "base",
      "patch_size": 16,
      "position_std": 0.02,
      "fusion_depth": 3,
      "fusion_heads": 3,
      "fusion_order": "parallel",  # the paper's; "sequential" is the released code's
    }
  )
  config.loss.update(
    queue_size=64 if name == "sketchy" else 128,
    in_batch=False,  # True: the batch's other keys are negatives too
    normalise_query=True,  # False as released
    symmetric=False,
    both_sketches=False,  # True: the loss with anchor and positive exchanged too
    photo_drop=0.0,  # probability that, in training, a sketch token sees nothing of its photo
    sketch_drop=0.0,  # and a photo token nothing of its sketch
  )
  config.optimizer.update(learning_rate=3e-6, weight_decay=1e-4)
  return config


def shoe304(name: str) -> ConfigDict:
  """Returns the recipe for 200 shoes from random weights on two CPU cores."""
  config = from_scratch(full("shoe_v2"))
  config.steps = 400
  config.model.update(fusion_depth=1)
  config.loss.update(in_batch=True, queue_size=0, symmetric=True, both_sketches=True)
  config.loss.update(photo_drop=0.95, sketch_drop=0.95)
  return config


def demo(name: str) -> ConfigDict:
  """Returns the recipe for the embedded data."""
  config = shoe304(name)
  config.data.fit = "stretch"  # its photos have no white margin, so its sketches keep theirs
  return config

r"""How well two encoders find photos from sketches of the test split.

  python -m xmodal.evaluate --config configs/xmodal/evaluate.py:shoe_v2 \
      --workdir runs/shoe_v2/evaluation --config.data.dir=DIR \
      --config.photo=runs/shoe_v2/photo_student --config.sketch=runs/shoe_v2/sketch_student
"""

from ml_collections import ConfigDict

from configs.xmodal.common import use_data
from configs.xmodal.student import get_config as student


def get_config(name: str) -> ConfigDict:
  """Returns the config `name`: demo, shoe304, shoe_v2, chair_v2 or sketchy."""
  training = student(name)
  del training.data.on_error  # what is measured is measured whole
  config = ConfigDict(
    {
      "method": "xmodal",
      "stage": "evaluation",
      "photo": "",  # run folder of the photo student, or of the baseline; or a package
      "sketch": "",  # run folder of the sketch student, or the same as for photo
      # "full": all test photos. As released, not comparable: "released", "one_per_class".
      "protocol": "full",
      "seed": 0,  # of the protocols that draw, and of the confidence intervals
      "batch_size": 64,
      "grid_rows": 3,  # best, typical and worst queries of each kind in the picture
      "data": training.data,
      "mesh": training.mesh,
    }
  )
  return use_data(config, name)

r"""How well a network finds photos of classes it has never seen from sketches of them.

  python -m pskd.evaluate --config configs/pskd/evaluate.py:sketchy21 \
      --workdir runs/sketchy21/evaluation --config.model=runs/sketchy21/student \
      --config.data.dir=DIR

Published numbers: configs/pskd/student.py; they are those of preset "sake".
"""

from ml_collections import ConfigDict

from configs.pskd.common import use_data
from configs.pskd.student import get_config as student


def get_config(name: str) -> ConfigDict:
  """Returns the config `name`: demo, sketchy_mini, sketchy21, sketchy25, tuberlin or quickdraw."""
  training = student(name)
  del training.data.on_error  # what is measured is measured whole
  config = ConfigDict(
    {
      "method": "pskd",
      "stage": "evaluation",
      "model": "",  # run folder of the student, or of the teacher; or a package
      "select": "last",  # or "best" on the validation classes; never on the test classes
      "protocol": "zero_shot",  # or "generalised": photos of seen classes in the gallery too
      "feature": "fusion",  # token; or "mean" of both tokens, or "head", the bottleneck
      "codes": {"bits": 0, "fit": "training"},  # 16 to 256: binary codes, PCA and ITQ; see README
      "seed": 0,  # of the map of embeddings, and of an untrained network
      "batch_size": 64,
      "grid_rows": 3,  # best, typical and worst queries of each kind in the picture
      "data": training.data,
      "mesh": training.mesh,
    }
  )
  return use_data(config, name)

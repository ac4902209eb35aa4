"""What XModalViT is measured against: a plain contrastive dual encoder of the students' size.

  python -m xmodal.train_baseline --config configs/xmodal/baseline.py:shoe304 \
      --workdir runs/shoe304/baseline --config.data.dir=DIR
"""

from ml_collections import ConfigDict

from configs.xmodal import student


def get_config(name: str) -> ConfigDict:
  """Returns the config `name`: the student's of that name, trained on the labels alone."""
  config = student.get_config(name)
  for key in ("teacher", "modality", "cache"):
    del config[key]
  config.stage = "baseline"
  config.model.embed_dim = 768 if config.model.size != "micro" else 96
  config.loss = ConfigDict({"temperature": 0.07})
  return config

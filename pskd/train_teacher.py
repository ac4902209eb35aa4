r"""Trains PSKD's teacher: a two-token ViT that classifies photos and sketches of the seen classes.

  python -m pskd.train_teacher --config configs/pskd/teacher.py:sketchy21 \
      --workdir runs/sketchy21/teacher --config.data.dir=DIR \
      --config.init.kind=dino --config.init.path=FILE.pth

Configs: demo, sketchy_mini, sketchy21, sketchy25, tuberlin, quickdraw. Any value can be overridden:
--config.epochs=2 --config.batch_size=128 ... The classes to train on are those of the data that
--config.data.split does not name. The same command again resumes the run; metrics.jsonl in the run
folder has one line every log_every steps.
"""

from sbir import cli


def main(config, workdir):
  """Trains the stage; `config` is that of configs/pskd/teacher.py."""
  from pskd.stages import train_stage
  from sbir.settings import check_stage

  check_stage(config, "pskd", "teacher")
  train_stage(config, workdir)


if __name__ == "__main__":
  cli.run(main)

r"""Trains PSKD's student: prototypes, selective distillation, instance-level learning.

  python -m pskd.train_student --config configs/pskd/student.py:sketchy21 \
      --workdir runs/sketchy21/student --config.teacher=runs/sketchy21/teacher \
      --config.data.dir=DIR --config.init.kind=dino --config.init.path=FILE.pth

Configs: demo, sketchy_mini, sketchy21, sketchy25, tuberlin, quickdraw. Any value can be overridden:
--config.epochs=10 --config.batch_size=64 ... Ablations: --config.loss.ila=0 (no instance-level
learning), --config.loss.correlation=false (plain distillation), --config.loss.skd=0 (none). With
--config.cache.views=10 the teacher runs before the training, on 10 stored views of each image, and
not in it (pskd.cache_teacher). The same command again resumes the run; metrics.jsonl in the run
folder has one line every log_every steps.
"""

from sbir import cli


def main(config, workdir):
  """Trains the stage; `config` is that of configs/pskd/student.py."""
  from pskd.stages import train_stage
  from sbir.settings import check_stage

  check_stage(config, "pskd", "student")
  train_stage(config, workdir)


if __name__ == "__main__":
  cli.run(main)

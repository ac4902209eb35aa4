r"""Trains the sketch student, which distils the teacher's fused vectors of sketches.

  python -m xmodal.train_sketch_student --config configs/xmodal/student.py:shoe_v2 \
      --workdir runs/shoe_v2/sketch_student --config.data.dir=DIR \
      --config.teacher=runs/shoe_v2/teacher

Configs: demo, shoe304, shoe_v2, chair_v2, sketchy. Any value can be overridden: --config.steps=1000
--config.batch_size=32 --config.compute_dtype=bfloat16 ... The same command again resumes the run;
metrics.jsonl in the run folder has one line every log_every steps.
"""

from sbir import cli


def main(config, workdir):
  """Trains the stage; `config` is that of configs/xmodal/student.py."""
  from xmodal.checks import check_stage
  from xmodal.stages import train_stage

  check_stage(config, "student", "sketch")
  config.modality = "sketch"
  train_stage(config, workdir)


if __name__ == "__main__":
  cli.run(main)

r"""Trains the baseline, a plain contrastive dual encoder of the students' size.

  python -m xmodal.train_baseline --config configs/xmodal/baseline.py:shoe_v2 \
      --workdir runs/shoe_v2/baseline --config.data.dir=DIR

Configs: demo, shoe304, shoe_v2, chair_v2, sketchy. Any value can be overridden: --config.steps=1000
--config.batch_size=32 --config.compute_dtype=bfloat16 ... The same command again resumes the run;
metrics.jsonl in the run folder has one line every log_every steps.
"""

from sbir import cli


def main(config, workdir):
  """Trains the stage; `config` is that of configs/xmodal/baseline.py."""
  from xmodal.checks import check_stage
  from xmodal.stages import train_stage

  check_stage(config, "baseline")
  train_stage(config, workdir)


if __name__ == "__main__":
  cli.run(main)

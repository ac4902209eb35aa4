r"""Computes and stores what the teacher makes of every pair, from which both students learn.

  python -m xmodal.cache_teacher --config configs/xmodal/student.py:shoe_v2 \
      --config.data.dir=DIR --config.teacher=runs/shoe_v2/teacher

A student's main does this by itself before it trains; this one does it alone, for instance on
another machine, or in larger batches: --config.batch_size=128. It takes the student's config, for
the views that the student will see are the ones to store: --config.cache.views=8 of each pair,
drawn from --config.seed. They go to --config.cache.dir, or else into the teacher's run folder.
Stopped, the same command goes on where it was.
"""

from sbir import cli


def main(config):
  """Fills the cache; `config` is that of configs/xmodal/student.py."""
  from xmodal.checks import check_stage
  from xmodal.stages import cache_teacher

  check_stage(config, "student")
  for split, cache in cache_teacher(config).items():
    views = f"{cache.num_views} view" + ("s" if cache.num_views > 1 else "")
    print(f"{split}: {views} of {cache.num_pairs} pairs in {cache.rows.folder}")


if __name__ == "__main__":
  cli.run(main, has_workdir=False)

r"""Computes and stores what the teacher says of every training image, for a student to learn from.

  python -m pskd.cache_teacher --config configs/pskd/student.py:sketchy21 \
      --config.teacher=runs/sketchy21/teacher --config.data.dir=DIR --config.cache.views=10

A student with cache.views above 0 does this by itself before it trains; this main does it alone,
for instance on another machine. It takes the student's config, for the views that the student will
see are the ones to store: --config.cache.views of each image, drawn from --config.seed. They go to
--config.cache.dir, or else into the teacher's run folder. Stopped, the same command goes on where
it was.
"""

from sbir import cli


def main(config):
  """Fills the cache; `config` is that of configs/pskd/student.py."""
  from pskd.stages import cache_teacher
  from sbir.settings import check_stage

  check_stage(config, "pskd", "student")
  rows = cache_teacher(config).rows
  size = 4 * rows.num_rows * rows.row_shape[0] / 2**20
  print(f"{rows.num_rows} views, {rows.row_shape[0]} logits each, {size:.1f} MiB in {rows.folder}")


if __name__ == "__main__":
  cli.run(main, has_workdir=False)

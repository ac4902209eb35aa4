"""Embeds one part of a folder of photos: many machines make an index of millions.

  python -m sbir.encode --model PKG --photos DIR --out SHARDS --shard 1/8     on the first machine,
  python -m sbir.encode --model PKG --photos DIR --out SHARDS --shard 8/8     ... on the eighth,
  python -m sbir.index build --model PKG --photos DIR --embeddings SHARDS --index PATH    then

All machines must see the same files in DIR. Interrupted, the same command goes on where it was. The
index is made only if all shards are there and finished, of one model and one state of DIR.
"""

import sys
from collections.abc import Sequence

from sbir import cli


def main(arguments: Sequence[str]) -> None:
  """Parses the command line and writes the shard."""
  flags = cli.parser(__doc__)
  add = lambda name, metavar, words: flags.add_argument(
    name, required=True, metavar=metavar, type=cli.folder, help=words
  )
  add("--model", "PKG", "a model package")
  add("--photos", "DIR", "the folder of photos")
  add("--out", "SHARDS", "where the shards of all machines go")
  flags.add_argument("--shard", default="1/1", metavar="i/n", help="which; default: 1/1, all")
  options = flags.parse_args(arguments)
  from sbir import photo_shards

  shard = photo_shards.parse(options.shard)
  folder, changes = photo_shards.encode(options.model, options.photos, options.out, shard)
  print(
    f"{folder}: {changes.seen} files of shard {shard.index}/{shard.count}, {changes.embedded} "
    f"photos embedded now, {changes.unreadable} unreadable and skipped"
  )


if __name__ == "__main__":
  sys.stdout.reconfigure(line_buffering=True)
  cli.tool(main)

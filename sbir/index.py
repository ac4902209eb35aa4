"""Searches a folder of photos with a drawing: builds an index of it, keeps it up to date, asks it.

  python -m sbir.index build --model PKG --photos DIR --index PATH
  python -m sbir.index search --index PATH --sketch drawing.png --open
  python -m sbir.index add --index PATH            what is new, changed or deleted in DIR since
  python -m sbir.index remove --index PATH holiday/4.jpg
  python -m sbir.index stats --index PATH
  python -m sbir.index verify --index PATH

PKG is a model package of python -m sbir.package; a demo leaves one in runs/demo/METHOD/package.
PATH is a folder that the index is made in, or, for photos by the million,
milvus://host:19530/collection of a server.
Each command explains itself with --help.
"""

import inspect
import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

from sbir import cli


def main(arguments: Sequence[str]) -> int | None:
  """Runs one command."""
  command = COMMANDS.get(arguments[0]) if arguments else None
  if command:
    return command(arguments[1:])
  flags = cli.parser(__doc__)
  flags.add_argument("command", choices=list(COMMANDS))
  flags.parse_args(arguments)  # shows the help, or says what is wrong
  raise AssertionError(arguments)


def build(arguments: Sequence[str]) -> None:
  """Makes an index of a folder of photos, and of the folders in it.

  Files that cannot be read are named, skipped and counted; copies of a photo are embedded once.
  Interrupted, the same command goes on where it was. Up to 200 000 photos are searched exactly,
  more through a graph (HNSW). --bits 64 keeps 8 bytes of a photo in memory instead of thousands:
  codes find candidates, which are then compared exactly.
  """
  flags = _parser(build)
  _add_model(flags, required=True)
  flags.add_argument("--photos", metavar="DIR", type=cli.folder, help="the folder of photos")
  flags.add_argument(
    "--bits", type=int, default=0, metavar="N", help="search by codes of N bits, 16 to 256"
  )
  flags.add_argument(
    "--embeddings",
    metavar="DIR",
    type=cli.folder,
    help="shards of python -m sbir.encode, of --photos; nothing is embedded then",
  )
  options = flags.parse_args(arguments)
  if not options.photos:
    flags.error("--photos DIR is missing: the folder of photos")
  from sbir import index_build

  given = (options.index, options.model, options.photos, options.bits, options.embeddings)
  print(index_build.build(*given))


def add(arguments: Sequence[str]) -> None:
  """Brings an index to what its folder of photos holds now.

  New and changed files are found by size and time, then by hash; deleted ones leave the index. All
  becomes visible at once: interrupted, the index is as it was, and the same command goes on. What
  `remove` took out stays out until the file changes.
  """
  flags = _parser(add)
  _add_model(flags)
  flags.add_argument("--photos", metavar="DIR", type=cli.folder, help="the folder, if it has moved")
  from sbir import index_build

  options = flags.parse_args(arguments)
  print(index_build.add(options.index, options.model, options.photos))


def remove(arguments: Sequence[str]) -> None:
  """Takes photos out of an index; their files are left alone.

  NAME is relative to the folder of photos, as `search` prints it; of copies of one photo each has a
  name. What was taken out comes back when its file changes.
  """
  flags = _parser(remove)
  flags.add_argument("names", nargs="+", metavar="NAME", help="which files")
  options = flags.parse_args(arguments)
  from sbir import index_build

  num = index_build.remove(options.index, options.names)
  print(f"{options.index}: {num} photos fewer; the files are still there")


def search(arguments: Sequence[str]) -> None:
  """Finds the photos that look most like a drawing.

  The drawing is any image file: dark lines on white paper, as the model was trained. The score is
  the cosine similarity, 1 at best.
  """
  flags = _parser(search)
  _add_model(flags)
  flags.add_argument("--sketch", required=True, metavar="FILE", help="the drawing")
  flags.add_argument("-k", type=int, default=10, metavar="N", help="how many photos; default: 10")
  flags.add_argument("--json", action="store_true", help="print JSON")
  flags.add_argument("--open", action="store_true", help="show the photos in a browser")
  options = flags.parse_args(arguments)
  from sbir import index_search

  found = index_search.search(options.index, options.model, options.sketch, options.k)
  if options.open:
    index_search.show(found)
  if options.json:
    print(json.dumps(found.as_json(), indent=2))
  else:
    for place, hit in enumerate(found.hits, 1):
      print(f"{place:>4}  {hit.score:6.3f}  {found.folder / hit.name}")


def stats(arguments: Sequence[str]) -> None:
  """Prints what an index holds, which model made it, and which files could not be read."""
  flags = _parser(stats)
  flags.add_argument("--json", action="store_true", help="print JSON")
  options = flags.parse_args(arguments)
  from sbir import index_check

  values = index_check.stats(options.index)
  if options.json:
    print(json.dumps(values, indent=2))
    return
  for key, value in values.items():
    if key != "unreadable":
      print(f"{key.replace('_', ' '):<16}{value:,}" if type(value) is int else f"{key:<16}{value}")
  print(f"{'unreadable':<16}{len(values['unreadable'])}")
  for name, reason in values["unreadable"].items():
    print(f"  {name}: {reason}")


def verify(arguments: Sequence[str]) -> int:
  """Checks an index; exits with 1 if something is wrong with it.

  The table must be whole, every file be there with the hash it had, a sample of photos get from the
  model the embeddings that are stored, and the search know all photos. Prints recall@10: how many
  of the ten nearest photos of a photo the search finds, exact search being 1.
  """
  flags = _parser(verify)
  _add_model(flags)
  flags.add_argument("--sample", type=int, default=64, metavar="N", help="photos; default: 64")
  flags.add_argument("--json", action="store_true", help="print JSON")
  options = flags.parse_args(arguments)
  from sbir import index_check

  found = index_check.verify(options.index, options.model, options.sample)
  if options.json:
    print(json.dumps(found._asdict(), indent=2))
  else:
    print(
      f"{found.files} files, {found.photos} photos; embeddings differ by {found.difference:.1g}"
    )
    print(f"recall@10 {found.recall:.4f} of the {found.kind} search, against exact search")
    print("\n".join(found.problems) or "nothing is wrong")
  return 1 if found.problems else 0


COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
  "build": build,
  "add": add,
  "remove": remove,
  "search": search,
  "stats": stats,
  "verify": verify,
}


def _parser(command: Callable[..., Any]) -> ArgumentParser:
  flags = cli.parser(inspect.getdoc(command))
  flags.prog = f"{flags.prog} {command.__name__}"
  flags.add_argument(
    "--index",
    required=True,
    metavar="PATH",
    type=cli.folder,
    help="the index: a folder, or milvus://host:19530/collection",
  )
  return flags


def _add_model(flags: ArgumentParser, *, required: bool = False) -> None:
  words = (
    "a model package" if required else "the package, if it has moved since the index was built"
  )
  flags.add_argument("--model", metavar="PKG", type=cli.folder, required=required, help=words)


if __name__ == "__main__":
  sys.stdout.reconfigure(line_buffering=True)
  cli.tool(main)

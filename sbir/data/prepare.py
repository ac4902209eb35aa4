"""Writes a data set in a folder as a TFDS data set: python -m sbir.data.prepare --help"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sbir.cli import EXIT_INTERRUPTED, parser, tool
from sbir.data.files import files_of, open_listing
from sbir.data.records import ALL, SPLITS
from sbir.data.sources import list_files
from sbir.data.tfds_source import VERSION, write_tfds
from sbir.data.zero_shot import list_all
from sbir.places import local
from sbir.types import UserError

HELP = """\
Write a folder of photos and sketches as a TFDS data set in ArrayRecord shards.

The images keep their bytes, so training on the prepared set sees the very same pixels; what it
gains is a few large files instead of many small ones. Needs tensorflow to write, not to read.
Nothing appears under its final name before it is whole.

With --zero_shot the set is written undivided, for any split by class.

examples:
  python -m sbir.data.prepare --dataset shoe_v2 --source ~/ShoeV2 --data_dir ~/tfds
  python -m xmodal.train_teacher --config configs/xmodal/teacher.py:shoe_v2 --workdir runs/a \\
    --config.data.source=tfds --config.data.dir=$HOME/tfds
  python -m sbir.data.prepare --dataset sketchy --source ~/Sketchy --data_dir ~/tfds --zero_shot
"""


def main(argv: Sequence[str]) -> int:
  """Returns the exit status: 0, or 130 if interrupted. Raises: as `prepare`."""
  args = _parser().parse_args(argv)
  try:
    folder = prepare(args.dataset, args.source, args.data_dir, zero_shot=args.zero_shot)
  except KeyboardInterrupt:
    print("interrupted; nothing was kept", file=sys.stderr)
    return EXIT_INTERRUPTED
  print(f"wrote {folder}\nread it with --config.data.source=tfds --config.data.dir={args.data_dir}")
  return 0


def prepare(
  name: str, source: str | os.PathLike, data_dir: str | os.PathLike, *, zero_shot: bool = False
) -> Path:
  """Writes a folder to `data_dir`/name/VERSION and returns that path.

  Written are both splits, their pairs checked, or with `zero_shot` all images as one split.
  Raises: UserError if the name is no TFDS name, the set is there already, the source fails the
  checks of training or an image is unreadable. Then, or when stopped, `data_dir` is as it was.
  """
  if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
    raise UserError(f"--dataset {name!r}: expected small letters, digits and _, such as shoe_v2")
  if zero_shot:
    sources = {ALL: files_of(list_all("auto", name, source))}
  else:
    sources = {split: open_listing(list_files("auto", name, source, split)) for split in SPLITS}
  out = local(data_dir, "--data_dir")
  final = out / name / VERSION
  if os.path.exists(final):
    raise UserError(f"{final} exists already; remove it to prepare {name} again")
  with _workplace(out, name) as temporary:
    try:
      written = write_tfds(name, sources, temporary)
      final.parent.mkdir(exist_ok=True)
      os.rename(written, final)
    except OSError as error:  # no space left, or another run was faster
      raise UserError(f"{final} cannot be written ({error}); nothing was kept") from None
  return final


@contextlib.contextmanager
def _workplace(out: Path, name: str) -> Iterator[Path]:
  """Gives a hidden folder inside `out` and removes it at the end, whatever the end is.

  Also removes those of earlier runs on this machine that were killed too hard to do so.
  """
  made = [p for p in (out, *out.parents) if not os.path.exists(p)]
  prefix = f".preparing-{name}-{socket.gethostname()}-"
  try:
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{prefix}*"):
      if not _is_running(old.name.removeprefix(prefix)):
        shutil.rmtree(old)
    temporary = out / f"{prefix}{os.getpid()}"
    temporary.mkdir()
  except OSError as error:
    raise UserError(
      f"--data_dir {out} cannot be written ({error.strerror}); choose a folder you may write to"
    ) from None
  try:
    with _terminate_as_exit():
      yield temporary
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
    for folder in made:  # innermost first; one that got its data set is not empty and stays
      with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def _terminate_as_exit() -> Iterator[None]:
  """Lets SIGTERM unwind the stack, so that what was begun is cleared away."""

  def leave(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)

  before = signal.signal(signal.SIGTERM, leave)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)


def _is_running(pid: str) -> bool:
  if not pid.isdigit() or int(pid) == os.getpid():
    return False
  try:
    os.kill(int(pid), 0)  # signal 0 only asks
  except ProcessLookupError:
    return False
  except OSError:
    return True  # somebody else's
  return True


def _parser() -> argparse.ArgumentParser:
  flags = parser(HELP)
  add = flags.add_argument
  add("--dataset", required=True, help="shoe_v2, chair_v2, sketchy; any name with a manifest.csv")
  add("--source", required=True, metavar="DIR", help="folder with the images, as released")
  add("--data_dir", required=True, metavar="OUT", help="folder that gets <dataset>/<version>")
  add("--zero_shot", action="store_true", help="for retrieval of unseen classes")
  return flags


if __name__ == "__main__":
  tool(main)

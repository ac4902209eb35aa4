"""Shards of a folder's embeddings, made on many machines, and how they become one table.

A shard is a table as an index has it, in a folder DIR/shard-2-of-8 of its own: so it is resumed and
kept whole in the same way. Which shard a photo belongs to its name decides.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sbir.model_identity import check_same, check_searches, identity_of, known_to
from sbir.models import Model, from_pretrained
from sbir.photo_folder import list_photos
from sbir.photo_schema import File, Photo, create_table
from sbir.photo_table import PhotoTable
from sbir.photo_update import Changes, check_has_photos, update
from sbir.places import local
from sbir.progress import bar
from sbir.run_lock import locked
from sbir.types import UserError

TABLE = "photos.db"
NAME = re.compile(r"shard-(\d+)-of-(\d+)")
BATCH = 1024


class Shard(NamedTuple):
  """Which part of the photos: the `index`-th of `count`, from 1."""

  index: int
  count: int

  @property
  def folder_name(self) -> str:
    """Where it lies in --out."""
    return f"shard-{self.index}-of-{self.count}"

  def has(self, name: str) -> bool:
    """Returns whether a file belongs to it."""
    return zlib.crc32(name.encode("utf-8", "surrogateescape")) % self.count == self.index - 1


def parse(text: str) -> Shard:
  """Returns the shard that "i/n" names. Raises: UserError if it names none."""
  match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
  shard = Shard(int(match[1]), int(match[2])) if match else None
  if shard is None or not 1 <= shard.index <= shard.count:
    raise UserError(f"--shard {text} must be i/n, from 1/n to n/n: 1/8, 2/8, ... 8/8 for eight")
  return shard


def encode(model: str, photos: str, out: str, shard: Shard) -> tuple[Path, Changes]:
  """Writes one shard, or goes on with it; returns its folder and what was done.

  Raises: UserError if the model cannot search, there is no photo, or the shard is of another model.
  """
  folder = local(photos, "--photos").absolute()
  network = from_pretrained(model)
  check_searches(network, model)
  check_has_photos(folder)
  path = local(out, "--out") / shard.folder_name / TABLE
  with locked(path.parent, "shard"):
    identity = identity_of(network)
    if not path.exists():
      create_table(path, **identity._asdict(), shard=list(shard))
    # A log that is written ahead does not work on the disks that machines share.
    table = PhotoTable(path, read_only=False, is_shared=True)
    check_same(network, model, str(path.parent), known_to(table))
    listing = _listing_of(folder)
    embed = partial(network.encode_squares, modality="photo")
    changes = update(
      table,
      folder,
      network.preprocessing,
      embed,
      desc=f"embed shard {shard.index}/{shard.count}",
      is_mine=shard.has,
      least=0,
      about={"listing": listing},
    )
    table.close()
  return path.parent, changes


def open_shards(folder: str, model: Model, place: str) -> list[PhotoTable]:
  """Returns the tables of all shards in a folder.

  Raises: UserError if one is missing or not finished, or they are not of one model and one folder.
  """
  where = local(folder, "--embeddings")
  found = {Shard(*map(int, m.groups())): m[0] for m in _names(where)}
  if not found:
    raise UserError(f"--embeddings {where} holds no shards; make them with python -m sbir.encode")
  counts = {shard.count for shard in found}
  if len(counts) > 1:
    raise UserError(
      f"--embeddings {where} holds shards of {' and of '.join(map(str, sorted(counts)))}, expected "
      "those of one division; move the others away"
    )
  (count,) = counts
  if lost := sorted(set(range(1, count + 1)) - {shard.index for shard in found}):
    raise UserError(
      f"--embeddings {where} lacks {len(lost)} of {count} shards; run python -m sbir.encode "
      f"--shard {lost[0]}/{count}"
    )
  tables = [PhotoTable(where / found[shard] / TABLE, read_only=True) for shard in sorted(found)]
  for shard, table in zip(sorted(found), tables, strict=True):
    check_same(model, place, str(table.path.parent), known_to(table))
    if not table.about("listing"):
      raise UserError(
        f"{table.path.parent} is not finished; run python -m sbir.encode --shard "
        f"{shard.index}/{count} again"
      )
  if len({table.about("listing") for table in tables}) > 1:
    raise UserError(
      f"--embeddings {where}: the shards saw different files in the folder of photos; run "
      "python -m sbir.encode again for each"
    )
  return tables


def merge(table: PhotoTable, shards: Sequence[PhotoTable], **about: object) -> Changes:
  """Makes a table hold what all shards hold; returns what that changed. Interrupted, the next call
  goes on. Raises: UserError if they hold nothing."""
  num_seen, num_todo = table.compare(file for shard in shards for file, _, _ in _files_of(shard))
  todo = {file.name for part in table.todo(BATCH) for file in part}
  stored = 0
  with bar("merge shards", num_todo, unit="photo") as progress:
    for shard in shards:
      for part in _parts(shard):
        mine = [row for row in part if row[0].name in todo]
        new = {row[1] for row in mine if table.photo_id(row[2]) is None}
        vectors = dict(zip(sorted(new), shard.vectors(sorted(new)), strict=True)) if new else {}
        table.add_pending(
          (file, Photo(sha256, shard.thumbnail(i) if i in new else b"", vectors.get(i)))
          for file, i, sha256 in mine
        )
        stored += len(new)
        progress.update(len(mine))
  unreadable = [row for shard in shards for row in shard.unreadable()]
  done = table.publish(unreadable, **about)
  return Changes(num_seen, stored, **done, unreadable=len(unreadable))


def _names(folder: Path) -> Iterator[re.Match]:
  names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
  return (match for match in map(NAME.fullmatch, sorted(names)) if match)


def _parts(shard: PhotoTable) -> Iterator[list[tuple[File, int, bytes]]]:
  after = ""
  while part := shard.files(after, BATCH):
    after = part[-1][0].name
    yield part


def _files_of(shard: PhotoTable) -> Iterator[tuple[File, int, bytes]]:
  for part in _parts(shard):
    yield from part


def _listing_of(folder: Path) -> str:
  """Returns a mark of which files a folder holds, by name and size, in any order."""
  marks = (
    zlib.crc32(repr(file[:2]).encode("utf-8", "surrogateescape")) for file in list_photos(folder)
  )
  total = number = 0
  for mark in marks:
    total, number = (total + mark) % 2**64, number + 1
  return f"{number} files {total:016x}"

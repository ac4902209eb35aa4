"""Brings a table of photos to what a folder holds: embeds and stores what is new or changed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from sbir.data.padding import NUM_THREADS, in_order
from sbir.photo_folder import Seen, list_photos, read_photo
from sbir.photo_schema import File, Photo
from sbir.photo_table import PhotoTable
from sbir.preprocessing import Preprocessing
from sbir.progress import bar, say
from sbir.types import UserError

BATCH = 64  # photos embedded, and stored, at once: what is lost when it is killed
MOST_NAMED = 50  # unreadable files that are said one by one; `stats --json` has all

Embed = Callable[[UInt8[np.ndarray, "b s s 3"]], Float[np.ndarray, "b d"]]
Unreadable = tuple[str, str]  # name, reason


class Changes(NamedTuple):
  """What an update has done."""

  seen: int  # image files in the folder
  embedded: int  # photos; copies and moved files need none
  added: int  # files
  changed: int
  removed: int
  unreadable: int


def update(
  table: PhotoTable,
  folder: Path,
  how: Preprocessing,
  embed: Embed,
  *,
  desc: str,
  is_mine: Callable[[str], bool] = lambda name: True,
  least: int = 1,
  about: Mapping[str, Any] | None = None,
) -> Changes:
  """Makes the table hold what `folder` holds, and returns what that changed.

  Files are known by name, size and time, and, where these have changed, by their hash. What cannot
  be read is said and left out. All becomes visible at once, at the end; after an interruption the
  next call goes on. Only files whose name `is_mine` are looked at. `about` is stored with it.

  Raises: UserError if fewer than `least` files can be read.
  """
  unreadable: list[Unreadable] = []
  files = _with_stored_names(list_photos(folder), unreadable)
  num_seen, num_todo = table.compare(file for file in files if is_mine(file.name))
  embedded = _embed_all(table, folder, how, embed, num_todo, unreadable, desc)
  done = table.publish(unreadable, least=least, **(about or {}))
  return Changes(num_seen, embedded, **done, unreadable=len(unreadable))


def check_has_photos(folder: Path) -> None:
  """Raises UserError unless there is an image in a folder."""
  if next(list_photos(folder), None) is None:
    raise UserError(
      f"--photos {folder} holds no images, expected JPEG, PNG, WebP, BMP, GIF, TIFF or PPM files "
      "in it or in folders of it; check the path"
    )


def _with_stored_names(files: Iterable[File], unreadable: list[Unreadable]) -> Iterator[File]:
  """Yields files, but those whose names are no text."""
  for file in files:
    try:
      file.name.encode()
    except UnicodeEncodeError:
      _skip(unreadable, ascii(file.name), "its name is not UTF-8; rename it")
    else:
      yield file


def _embed_all(
  table: PhotoTable,
  folder: Path,
  how: Preprocessing,
  embed: Embed,
  num_todo: int,
  unreadable: list[Unreadable],
  desc: str,
) -> int:
  """Lets all new and changed files wait in the table; returns how many photos were embedded."""
  is_known = lambda sha256: table.photo_id(sha256) is not None
  read = lambda files: [_read(folder, file, how, is_known) for file in files]
  embedded = 0
  with bar(desc, num_todo, unit="photo", quiet=not num_todo) as progress:
    for results in in_order(read, table.todo(BATCH), NUM_THREADS):
      for result in results:
        if not isinstance(result, Seen):
          _skip(unreadable, *result)
      seen = [result for result in results if isinstance(result, Seen)]
      vectors = _embed_new(table, seen, embed)
      table.add_pending(
        (one.file, Photo(one.sha256, one.thumbnail, vectors.get(one.sha256))) for one in seen
      )
      embedded += len(vectors)
      progress.update(len(results))
  return embedded


def _read(
  folder: Path, file: File, how: Preprocessing, is_known: Callable[[bytes], bool]
) -> Seen | Unreadable:
  try:
    return read_photo(folder, file, how, is_known)
  except UserError as error:
    return file.name, str(error).removeprefix(f"{folder / file.name}: ")


def _embed_new(table: PhotoTable, seen: list[Seen], embed: Embed) -> dict[bytes, np.ndarray]:
  """Returns {hash: vector} of the photos that the table does not have, each embedded once."""
  squares = {one.sha256: one.square for one in seen if one.square is not None}
  new = [sha256 for sha256 in squares if table.photo_id(sha256) is None]
  if not new:
    return {}
  # Padded to a power of two, so that few programs are compiled.
  rows = min(BATCH, 1 << (len(new) - 1).bit_length())
  images = [squares[new[min(row, len(new) - 1)]] for row in range(rows)]
  vectors = embed(np.stack(images))[: len(new)]
  if not np.isfinite(vectors).all():
    raise UserError("the model gives nan or inf for a photo; it cannot search, use another")
  return dict(zip(new, vectors, strict=True))


def _skip(unreadable: list[Unreadable], name: str, reason: str) -> None:
  unreadable.append((name, reason))
  if len(unreadable) <= MOST_NAMED:
    say(f"skipped {name}: {reason}")
  elif len(unreadable) == MOST_NAMED + 1:
    say("skipped more files, which are no longer named here; python -m sbir.index stats names all")

"""Makes and changes an index: the model, the table and the search engine brought together."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sbir import photo_shards
from sbir.faiss_gallery import FaissGallery
from sbir.model_identity import check_same, check_searches, identity_of, known_to
from sbir.models import Model, from_pretrained
from sbir.photo_index import MILVUS, TABLE, folder_of, open_index
from sbir.photo_schema import create_table
from sbir.photo_table import PhotoTable
from sbir.photo_update import Changes, check_has_photos, update
from sbir.places import local
from sbir.retrieval.itq import FEWEST, MOST, Coder, fit_codes
from sbir.run_lock import locked
from sbir.types import UserError

FITTED_ON = 20_000  # photos, drawn from a seed, that codes are learnt from


def build(index: str, model: str, photos: str, bits: int = 0, embeddings: str | None = None) -> str:
  """Makes an index, or goes on with one of the same model; returns what was done, in words.

  Raises: UserError if it is another's, the model cannot search, or there is nothing to index.
  """
  folder = local(photos, "--photos").absolute()
  check_bits(bits)
  network = from_pretrained(model)
  check_searches(network, model)
  if embeddings is None:
    check_has_photos(folder)
  path = folder_of(index) / TABLE
  is_there = _check_engine(index)
  if not path.exists():
    _check_free(index, is_there)
  shards = photo_shards.open_shards(embeddings, network, model) if embeddings else None
  with locked(path.parent, "index"):
    if not path.exists():
      create_table(path, **about_model(network, model), folder=str(folder), bits=bits)
    table = PhotoTable(path, read_only=False)
    _check_made_of(table, index, bits, str(folder))
    check_same(network, model, index, known_to(table))
    try:
      if shards is None:
        changes = _update(table, folder, network, model)
      else:
        changes = photo_shards.merge(table, shards, folder=str(folder))
    except UserError:
      if not table.generation and not table.counts()["pending"]:
        table.delete()
      raise
    table.close()
    return in_words(index, changes, _settle(index))


def add(index: str, model: str | None = None, photos: str | None = None) -> str:
  """Brings an index to what its folder holds; returns what was done, in words.

  Raises: UserError if there is no index or no photo, or `model` is another than the index's.
  """
  path = folder_of(index) / TABLE
  PhotoTable(path, read_only=True).close()  # before it is locked, which makes a folder
  _check_engine(index)
  with locked(path.parent, "index"):
    table = PhotoTable(path, read_only=False)
    folder = local(photos or table.about("folder"), "--photos").absolute()
    check_has_photos(folder)
    place, network = model_of(table, index, model)
    changes = _update(table, folder, network, place)
    table.close()
    return in_words(index, changes, _settle(index))


def remove(index: str, names: Sequence[str]) -> int:
  """Takes files out of an index; returns how many photos went. Raises: UserError."""
  path = folder_of(index) / TABLE
  PhotoTable(path, read_only=True).close()
  _check_engine(index)
  with locked(path.parent, "index"):
    table = PhotoTable(path, read_only=False)
    num = table.leave_out(names)
    table.close()
    _settle(index)
  return num


def model_of(table: PhotoTable, index: str, given: str | None) -> tuple[str, Model]:
  """Returns (place, model) of an index: the one given, or the one it was built with.

  Raises: UserError if there is none, or it is another than the index's.
  """
  place = given or table.about("model_place")
  try:
    model = from_pretrained(place)
  except UserError as error:
    if given:
      raise
    raise UserError(f"{index}: its model is not where it was: {error}; give --model") from None
  check_same(model, place, index, known_to(table))
  return place, model


def about_model(model: Model, place: str) -> dict[str, Any]:
  """Returns what a table remembers of a model."""
  is_folder = ":" not in place
  where = str(Path(place).absolute()) if is_folder else place
  return {**identity_of(model)._asdict(), "model_place": where}


def check_bits(bits: int) -> None:
  """Raises UserError unless codes can have so many bits; 0 is none."""
  if bits and (bits % 8 or not FEWEST <= bits <= MOST):
    raise UserError(f"--bits {bits} must be a multiple of 8 from {FEWEST} to {MOST}, or 0")


def in_words(index: str, changes: Changes, num: int) -> str:
  """Returns what an update did as one line."""
  parts = [f"{changes.added} files added", f"{changes.changed} changed", f"{changes.removed} gone"]
  if copies := changes.added + changes.changed - changes.embedded:
    parts.append(f"{copies} of them known photos, not embedded again")
  if changes.unreadable:
    parts.append(f"{changes.unreadable} unreadable and skipped")
  return f"{index}: {num} photos; {', '.join(parts)}"


def _update(table: PhotoTable, folder: Path, model: Model, place: str) -> Changes:
  embed = partial(model.encode_squares, modality="photo")
  about = {"folder": str(folder), "model_place": about_model(model, place)["model_place"]}
  return update(table, folder, model.preprocessing, embed, desc="index photos", about=about)


def _settle(place: str) -> int:
  """Makes the search engine follow the table; returns how many photos can be found."""
  path = folder_of(place) / TABLE
  table = PhotoTable(path, read_only=False)
  if table.about("bits") and not table.about("coder"):
    table.set_about(coder=_fitted(table))
  table.close()
  index = open_index(place, read_only=False)
  try:
    index.settle()
    return index.num_photos
  finally:
    index.close()


def _fitted(table: PhotoTable) -> list[list[float]]:
  """Returns the mean and the directions of codes learnt from the photos: by ITQ, or, where these
  are too few or too narrow for it, in random directions."""
  ids = table.live_ids()
  chosen = np.random.default_rng(0).permutation(ids)[:FITTED_ON]
  vectors, bits = table.vectors(np.sort(chosen)), table.about("bits")
  if bits < len(vectors) and bits <= vectors.shape[1]:
    coder = fit_codes(vectors, bits)
  else:
    directions = np.random.default_rng(0).standard_normal((vectors.shape[1], bits))
    coder = Coder(vectors.mean(axis=0, dtype=np.float64), directions)
  return [coder.mean.tolist(), *coder.directions.T.tolist()]


def _check_engine(index: str) -> bool:
  """Returns whether the search engine holds the index already, if that is a server's.

  Raises: UserError if the engine is not installed, or its server is down: before anything is done.
  """
  if index.startswith(MILVUS):
    from sbir import milvus_gallery

    return milvus_gallery.exists(index)
  FaissGallery("exact", 1)
  return False


def _check_free(index: str, is_there: bool) -> None:
  """Raises UserError unless a new index can be made at a place."""
  folder = folder_of(index)
  if is_there:
    raise UserError(
      f"{index}: the server has this collection, and {folder}, where its photos' names would be, "
      "is empty; name another collection, or copy that folder from the machine that built it"
    )
  if folder.is_file() or (folder.is_dir() and any(p.name != "lock.json" for p in folder.iterdir())):
    raise UserError(f"{folder} holds other things, expected a new folder; choose another --index")


def _check_made_of(table: PhotoTable, index: str, bits: int, folder: str) -> None:
  """Raises UserError if an index was built otherwise; of another folder, its photos would go."""
  if table.generation and table.about("folder") != folder:
    raise UserError(
      f"--photos {folder}: {index} was built of {table.about('folder')}; if that has moved, say so "
      "with python -m sbir.index add --photos, else build another index"
    )
  if table.about("bits") != bits:
    raise UserError(
      f"--bits {bits}: {index} was built with --bits {table.about('bits')}; give that, or build "
      "another index"
    )

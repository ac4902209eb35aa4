"""What an index says of itself, and whether it is right."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sbir.index_build import model_of
from sbir.models import Model
from sbir.photo_folder import hash_of, read_photo
from sbir.photo_index import CHUNK, PhotoIndex, open_index
from sbir.photo_schema import File
from sbir.photo_table import PhotoTable
from sbir.progress import bar
from sbir.types import UserError

TOP = 10
TOLERANCE = 1e-3  # of a photo's embedding: other machines and batches round otherwise
MOST_NAMED = 20


class Verdict(NamedTuple):
  """What a check found."""

  photos: int
  files: int
  kind: str  # of the search
  recall: float  # of its ten nearest, against exact search
  difference: float  # largest, of a stored embedding from the model's
  problems: list[str]


def stats(place: str) -> dict[str, Any]:
  """Returns what an index holds, as plain values. Raises: UserError if there is none."""
  index = open_index(place)
  table = index.table
  values = {
    "index": place,
    **table.counts(),
    "search": kind_of(index),
    "width": index.width,
    "architecture": table.about("architecture"),
    "model": index.model_place,
    "model_hash": index.model_hash,
    "folder": table.about("folder"),
    "bytes": sum(p.stat().st_size for p in table.path.parent.iterdir() if p.is_file()),
    "unreadable": dict(table.unreadable()),
  }
  index.close()
  return values


def verify(place: str, model: str | None, sample: int) -> Verdict:
  """Returns what is wrong with an index. Raises: UserError if it cannot be opened at all, or its
  model is not to be had."""
  if sample < 1:
    raise UserError(f"--sample {sample} must be at least 1")
  index = open_index(place)
  table = index.table
  problems = [f"the table is damaged: {damage}"] if (damage := table.damage()) else []
  problems += _first(_wrong_files(table), "files")
  num_files = table.counts()["photos"] + table.counts()["copies"]
  _, network = model_of(table, place, model)
  chosen = _sample(table, sample)
  difference = _difference(table, network, chosen)
  if difference > TOLERANCE:
    problems.append(f"stored embeddings differ by {difference:.2g} from the model's; build again")
  live, held = table.live_ids(), index.gallery.ids()
  if lost := len(np.setxor1d(live, held)):
    problems.append(
      f"{lost} photos are not the same in the table and in the search engine; run add"
    )
  asked = table.vectors(chosen)
  recall = _recall(index.search(asked, TOP), exact_ids(table, asked, TOP))
  verdict = Verdict(len(live), num_files, kind_of(index), recall, difference, problems)
  index.close()
  return verdict


def exact_ids(
  table: PhotoTable, vectors: Float[np.ndarray, "q d"], k: int
) -> Int[np.ndarray, "q k"]:
  """Returns the ids of the k nearest photos of each vector, by comparing it with all of them."""
  ids, scores = np.empty((len(vectors), 0), np.int64), np.empty((len(vectors), 0))
  live = table.live_ids()
  for start in range(0, len(live), CHUNK):
    part = live[start : start + CHUNK]
    new = vectors.astype(np.float64) @ table.vectors(part).astype(np.float64).T
    scores = np.concatenate([scores, new], axis=1)
    ids = np.concatenate([ids, np.broadcast_to(part, new.shape)], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    scores, ids = (np.take_along_axis(array, order, axis=1) for array in (scores, ids))
  return ids


def kind_of(index: PhotoIndex) -> str:
  """Returns how an index is searched, in a word or two."""
  bits = index.table.about("bits")
  return index.gallery.kind + (f", {bits} bits" if bits else "")


def _recall(found: list[list[Any]], exact: np.ndarray) -> float:
  shared = [
    len({hit.photo_id for hit in row} & set(right))
    for row, right in zip(found, exact.tolist(), strict=True)
  ]
  return float(np.mean(shared)) / exact.shape[1]


def _sample(table: PhotoTable, num: int) -> Int[np.ndarray, "n"]:
  live = table.live_ids()
  return np.sort(np.random.default_rng(0).permutation(live)[:num])


def _wrong_files(table: PhotoTable) -> Iterator[str]:
  """Yields what is wrong with each file: a hash is taken of all of them."""
  counts, after = table.counts(), ""
  folder = Path(table.about("folder"))
  with bar("verify files", counts["photos"] + counts["copies"], unit="file") as progress:
    while rows := table.files(after):
      after = rows[-1][0].name
      for file, _, sha256 in rows:
        found = hash_of(folder / file.name)
        if found != sha256:
          yield f"{file.name} {'has changed' if found else 'cannot be read'}; run add"
        progress.update()


def _first(problems: Iterator[str], what: str) -> list[str]:
  found = list(problems)
  more = len(found) - MOST_NAMED
  return found[:MOST_NAMED] + ([f"{more} more {what} like these"] if more > 0 else [])


def _difference(table: PhotoTable, model: Model, ids: np.ndarray) -> float:
  """Returns the largest difference of stored embeddings from those that the model gives now."""
  folder, names, worst = Path(table.about("folder")), table.names(ids), 0.0
  for photo_id in ids.tolist():
    try:
      file = File(names[photo_id], 0, 0)
      square = read_photo(folder, file, model.preprocessing, lambda _: False).square
    except UserError:
      continue  # said with the files
    (vector,) = model.encode_squares(square[None], "photo")
    worst = max(worst, float(np.abs(vector - table.vectors([photo_id])[0]).max()))
  return worst

"""Embeddings that any framework has saved: an .npz of query, gallery and their labels or ids."""

import difflib
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from sbir.local_copy import local_copy
from sbir.npz_file import check_archive, check_member
from sbir.places import is_remote
from sbir.types import UserError

SIDES = ("query", "gallery")
LABELS = ("query_label", "gallery_label")
IDS = ("query_id", "gallery_id")
WRITE_LIKE = "write it with np.savez(path, query=..., gallery=..., query_label=..., ...)"
UNPACKED = 2**28  # bytes that any file may unpack to; codes and labels compress better than weights


class EmbeddingFile(NamedTuple):
  """What a file holds; labels make category retrieval measurable, ids instance retrieval."""

  query: Shaped[np.ndarray, "q d"]
  gallery: Shaped[np.ndarray, "g d"]
  query_label: Shaped[np.ndarray, "q"] | None
  gallery_label: Shaped[np.ndarray, "g"] | None
  query_id: Shaped[np.ndarray, "q"] | None
  gallery_id: Shaped[np.ndarray, "g"] | None


def read_embeddings(path: str | os.PathLike[str]) -> EmbeddingFile:
  """Returns the arrays of an .npz file; other arrays in it are left alone.

  Nothing is unpickled. Labels and ids are whole numbers or names, one for each row. Whether the
  embeddings are finite and of one width is checked by the evaluation.

  Raises: UserError if the file is missing, damaged or no .npz, lacks an array, or lengths differ.
  """
  with _open(path) as arrays:
    there = [name for name in arrays.files if name in (*SIDES, *LABELS, *IDS)]
    wanted = _wanted(path, arrays.files)
    read = {name: _read(path, arrays, name) for name in there if name in wanted}
  for side in SIDES:
    for name in (f"{side}_label", f"{side}_id"):
      if name in read:
        _check_names(path, name, read[name], side, len(read[side]))
  return EmbeddingFile(*(read.get(name) for name in EmbeddingFile._fields))


def _open(path: str | os.PathLike[str]) -> np.lib.npyio.NpzFile:
  try:
    here = local_copy(path) if is_remote(path) else path
    with open(here, "rb") as file:
      start, size = file.read(6), os.fstat(file.fileno()).st_size
    if start == np.lib.format.MAGIC_PREFIX:
      raise UserError(f"--embeddings {path} is a single array, expected an .npz file; {WRITE_LIKE}")
    arrays = np.load(here, allow_pickle=False)
    check_archive(arrays.zip, size, allowed=UNPACKED)
    return arrays
  except UserError:
    raise
  except FileNotFoundError:
    raise UserError(f"--embeddings {path}: there is no such file; {WRITE_LIKE}") from None
  except OSError as error:
    raise UserError(
      f"--embeddings {path} cannot be read ({error.strerror or error}); give an .npz file"
    ) from None
  except Exception:  # numpy and zipfile let nearly anything out
    raise UserError(f"--embeddings {path} is damaged or no .npz file; {WRITE_LIKE}") from None


def _wanted(path: str | os.PathLike[str], there: Sequence[str]) -> tuple[str, ...]:
  """Returns which arrays to read: the embeddings, and labels or ids or both, in whole pairs."""
  names = tuple(name for pair in (LABELS, IDS) for name in pair if name in there)
  pairs = [pair for pair in (LABELS, IDS) if any(name in there for name in pair)] or [LABELS]
  missing = [name for name in (*SIDES, *sum(pairs, ())) if name not in there]
  if missing:
    spare = [name for name in there if name not in (*SIDES, *names)]
    near = difflib.get_close_matches(missing[0], spare, n=1)
    hint = f"nearest: {near[0]}" if near else f"it holds: {', '.join(there[:8]) or 'nothing'}"
    raise UserError(
      f"--embeddings {path} lacks {', '.join(missing)}, expected query, gallery, query_label and "
      f"gallery_label (or query_id and gallery_id); {hint}"
    )
  return (*SIDES, *names)


def _read(path: str | os.PathLike[str], arrays: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
  try:
    check_member(arrays.zip, arrays.zip.getinfo(_member_of(arrays, name)))
    array = arrays[name]
  except Exception as error:
    if "allow_pickle" in str(error):
      raise UserError(
        f"--embeddings {path}: {name} holds pickled Python objects, expected numbers or names; "
        f"save it as np.asarray({name}.tolist())"
      ) from None
    raise UserError(
      f"--embeddings {path}: {name} cannot be read, the file is damaged or cut off; write it again"
    ) from None
  if not isinstance(array, np.ndarray):
    raise UserError(f"--embeddings {path}: {name} is no numpy array; {WRITE_LIKE}")
  if name in SIDES and (array.dtype.kind not in "fiu" or array.ndim != 2):
    raise UserError(
      f"--embeddings {path}: {name} is {array.dtype}{list(array.shape)}, expected numbers of shape "
      "[items, width]; convert it to float32"
    )
  return array


def _member_of(arrays: np.lib.npyio.NpzFile, name: str) -> str:
  there = arrays.zip.namelist()
  return name if name in there else f"{name}.npy"


def _check_names(
  path: str | os.PathLike[str], name: str, names: np.ndarray, side: str, count: int
) -> None:
  if names.shape != (count,):
    raise UserError(
      f"--embeddings {path}: {name} has shape {list(names.shape)}, expected [{count}], one for "
      f"each row of {side}; save both in one order"
    )
  if names.dtype.kind not in "iuUS":
    raise UserError(
      f"--embeddings {path}: {name} is {names.dtype}, expected whole numbers or names; convert it, "
      "for instance to int64"
    )

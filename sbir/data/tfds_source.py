"""TFDS data sets of ours, in ArrayRecord shards: written once, read at random without tensorflow.

The only importer of tensorflow_datasets. Images are stored as the files they were, byte for byte,
and decoded by the same `images.decode`, so a prepared set gives the very pixels of its folder. The
records of each split lie in metadata.json, so opening a set reads no image.
"""

import contextlib
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from sbir.data.files import FileSource, existing_folder, state_of
from sbir.data.images import decode
from sbir.data.records import ALL, Record, check, stamp_of
from sbir.local_copy import local_copy
from sbir.places import is_remote
from sbir.progress import track
from sbir.types import UserError

VERSION = "1.0.0"  # of what the examples hold; a reader of another layout needs another number
INFO_FILE = "dataset_info.json"  # TFDS writes it last, so where it is the set is whole


@dataclass(frozen=True)
class TfdsSource:
  """A split of a prepared data set. Reading is thread-safe."""

  name: str
  split: str
  root: Path  # the folder of the version, with the shards
  records: tuple[Record, ...]
  _examples: Any  # a tfds data source: random access by index, in the order of `records`

  def image(self, index: int, at_least: int = 0) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the decoded image. Raises: UserError if the shard is damaged."""
    where = f"{self.root}, {self.split} example {index}"
    try:
      example = self._examples[index]
    except Exception as error:  # array_record and protobuf raise their own kinds
      raise UserError(f"{where} cannot be read ({error}); prepare the data set again") from None
    if example["key"] != self.records[index].key.encode():  # a cut shard gives empty examples
      raise UserError(
        f"{where} holds {example['key']!r}, expected {self.records[index].key!r}; "
        "prepare the data set again"
      )
    return decode(example["image"], f"{where} ({self.records[index].key})", at_least=at_least)

  def stamp(self) -> str:
    """Returns what changes with any file of the prepared set."""
    files = sorted(path for path in self.root.iterdir() if path.is_file())
    return stamp_of(self.records, self.split, *((p.name, *state_of(p)) for p in files))


def open_tfds(name: str, data_dir: str | os.PathLike, split: str) -> TfdsSource:
  """Returns a split of the set that `sbir.data.prepare` wrote to `data_dir`, checked.

  `data_dir` may also be the set's own folder, with its dataset_info.json.
  Raises: UserError if it is not there, lacks the split, or fails `records.check`.
  """
  source = _open(name, data_dir, split, "")
  check(source, f"{name} {split} split in {source.root}")
  return source


def open_unpaired(name: str, data_dir: str | os.PathLike) -> TfdsSource:
  """Returns all images of the set that `sbir.data.prepare --zero_shot` wrote to `data_dir`.

  Raises: UserError if it is not there, or was written for retrieval of instances.
  """
  return _open(name, data_dir, ALL, " --zero_shot")


def _open(name: str, data_dir: str | os.PathLike, split: str, flag: str) -> TfdsSource:
  """Returns a split, its pairs unchecked; `flag` is that of `prepare` which writes it."""
  import tensorflow_datasets as tfds

  root = _version_folder(name, existing_folder(data_dir))
  if is_remote(root):
    root = local_copy(root)  # ArrayRecord opens local files only
  try:
    builder = tfds.builder_from_directory(root)
    rows = (builder.info.metadata or {}).get("records", {})
  except (OSError, ValueError) as error:  # a file of it missing, or no longer JSON
    raise UserError(f"{root} cannot be read ({error}); prepare the data set again") from None
  if split not in rows or split not in builder.info.splits:
    raise UserError(
      f"{root} has no records of split {split!r}, found {', '.join(rows) or 'none'}; "
      f"write it with python -m sbir.data.prepare{flag}"
    )
  records = tuple(Record(*row) for row in rows[split])
  examples = builder.as_data_source(split)
  if len(examples) != len(records):
    raise UserError(
      f"{root}: {len(examples)} {split} examples but {len(records)} records; prepare it again"
    )
  return TfdsSource(builder.info.name, split, root, records, examples)


def write_tfds(name: str, sources: Mapping[str, FileSource], data_dir: Path) -> Path:
  """Writes the splits below `data_dir` and returns the folder of the version, name/VERSION.

  Imports tensorflow. Every image is decoded once on the way, so that none is stored that cannot be
  read back. Raises: UserError for an unreadable one; what was written until then stays behind.
  """
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.dataset_builders.adhoc_builder import AdhocBuilder

  class Builder(AdhocBuilder, skip_registration=True):
    """The builder of TFDS for examples at hand, with our records as the set's metadata."""

    # Nothing is downloaded. TFDS 4.9.10 would look for checksums beside this file through
    # importlib_resources, which it does not list among its requirements.
    url_infos = None

    def _info(self):
      info = super()._info()
      rows = {s: [_row(r) for r in source.records] for s, source in sources.items()}
      return tfds.core.DatasetInfo(
        builder=self,
        description=info.description,
        features=info.features,
        metadata=tfds.core.MetadataDict(records=rows),
        disable_shuffling=True,  # example i is record i
      )

  tfds.disable_progress_bar()  # `track` shows the way
  builder = Builder(
    name=name,
    version=VERSION,
    features=_features(tfds),
    split_datasets={split: _examples(source) for split, source in sources.items()},
    data_dir=data_dir,
    description=f"{name}: photos and sketches as encoded files, read by sbir.data.tfds_source.",
    file_format="array_record",
    disable_shuffling=True,
  )
  with contextlib.redirect_stdout(io.StringIO()):  # it names `data_dir`, which may be a stopover
    builder.download_and_prepare()
  return Path(builder.data_dir)


def _features(tfds: Any) -> Any:
  texts = {field: tfds.features.Text() for field in ("modality", "category", "instance", "key")}
  return tfds.features.FeaturesDict({"image": tfds.features.Scalar(np.object_), **texts})


def _row(record: Record) -> list[str]:
  return [record.modality, record.category, record.instance, record.key]


def _examples(source: FileSource) -> Iterable[tuple[int, dict[str, Any]]]:
  total = len(source.records)
  for index in track(range(total), f"{source.split} images", total):
    data, record = source.read(index), source.records[index]
    decode(data, str(source.root / record.key))
    texts = zip(("modality", "category", "instance", "key"), _row(record), strict=True)
    yield index, {"image": data, **dict(texts)}


def _version_folder(name: str, folder: Path) -> Path:
  """Returns the newest version of a set below `folder`, or `folder` if it is one itself."""
  if (folder / INFO_FILE).is_file():
    return folder
  versions = [p.parent for p in (folder / name).glob(f"*.*.*/{INFO_FILE}")]
  if versions:
    return max(versions, key=lambda p: [int(part) for part in p.name.split(".")])
  found = sorted({p.parts[-3] for p in folder.glob(f"*/*/{INFO_FILE}") if p.parts[-3][0] != "."})
  raise UserError(
    f"{folder} holds no prepared data set {name!r}, found {', '.join(found) or 'none'}; write it "
    f"with python -m sbir.data.prepare --dataset {name} --source DIR --data_dir {folder}"
  )

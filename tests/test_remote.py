"""Data in a store: s3:// paths give what the same folders give on a disk."""

import functools

import numpy as np
import pytest

from sbir.data import class_splits
from sbir.data.class_splits import own_list
from sbir.data.doctor import examine
from sbir.data.pipeline import train_batches
from sbir.data.prepare import prepare
from sbir.data.resized import resized
from sbir.data.sources import open_source
from sbir.data.zero_shot import open_zero_shot
from sbir.embedding_file import read_embeddings
from sbir.hub import fetch
from sbir.places import exists, expanded, is_dir, is_file, place
from sbir.types import UserError
from tests.data_folders import make_classes, make_qmul, make_sketchy, write_manifest
from tests.stores import BUCKET, later, store, upload

__all__ = ["store"]
pytestmark = pytest.mark.usefixtures("store")

ROWS = [
  {"path": f"{modality}/{i}.png", "modality": modality, "instance": str(i), "split": split}
  for modality in ("photo", "sketch")
  for i, split in enumerate(("train", "train", "test", "test"))
]


def make_manifest(root):
  return write_manifest(root, ROWS)


def same_images(here, there):
  assert [r.key for r in there.records] == [r.key for r in here.records]
  assert there.records == here.records
  for i in range(len(here.records)):
    np.testing.assert_array_equal(there.image(i), here.image(i))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
  ("kind", "name", "make"),
  [
    ("folder", "shoe_v2", make_qmul),
    ("folder", "sketchy", functools.partial(make_sketchy, photos=12)),
    ("manifest", "mine", make_manifest),
  ],
)
def test_a_data_set_in_a_store_is_the_one_on_the_disk(tmp_path, kind, name, make, split):
  folder = make(tmp_path / "data")
  there = upload(folder)
  same_images(open_source(kind, name, folder, split), open_source(kind, name, there, split))


def test_a_data_set_in_a_store_gives_the_batches_of_the_one_on_the_disk(tmp_path):
  folder = make_qmul(tmp_path / "data")
  first = [
    next(
      train_batches(
        resized(open_source("folder", "shoe_v2", where, "train"), 8),
        image_size=8, batch_size=2, seed=0, sample_by="photo", num_threads=2,
      )
    )
    for where in (folder, upload(folder))
  ]  # fmt: skip
  for name, value in first[0].items():
    np.testing.assert_array_equal(first[1][name], value)


@pytest.mark.parametrize("part", ["train", "test"])
def test_folders_of_classes_in_a_store_are_those_on_the_disk(tmp_path, part):
  folder = make_classes(tmp_path / "data")
  (folder / "photo/ant/.hidden").mkdir()
  (folder / "photo/ant/.hidden/1.png").write_bytes(b"")
  (tmp_path / "unseen.txt").write_text("\ufeffcat\r\n", encoding="utf-8")
  lists = upload(tmp_path, f"{BUCKET}/lists")
  opened = [
    open_zero_shot("folder", "mine", where, part, split=unseen)
    for where, unseen in (
      (folder, str(tmp_path / "unseen.txt")),
      (upload(folder), f"{lists}/unseen.txt"),
    )
  ]
  same_images(opened[0][0], opened[1][0])
  assert opened[1][1] == opened[0][1]


def test_a_list_of_classes_in_a_store_is_not_read_to_the_end_of_a_huge_file(tmp_path, monkeypatch):
  monkeypatch.setattr(class_splits, "MAX_LIST", 10)
  (tmp_path / "list.txt").write_text("é" * 1000, encoding="utf-8-sig")
  (tmp_path / "fits.txt").write_text("🐝" * 10, encoding="utf-8-sig")
  lists = upload(tmp_path, f"{BUCKET}/lists")
  with pytest.raises(UserError, match="has more than 10 letters, expected a class in each line"):
    own_list(f"{lists}/list.txt", "data.seen")
  assert len(own_list(f"{lists}/fits.txt", "data.seen")) == 1
  with pytest.raises(UserError, match="ftp://x is in no known store"):
    own_list("ftp://x", "data.seen")


def test_embeddings_in_a_store_are_those_on_the_disk(tmp_path):
  sides = {"query": np.eye(3), "gallery": np.eye(3)}
  labels = {"query_label": np.arange(3), "gallery_label": np.arange(3)}
  np.savez(tmp_path / "here.npz", **sides, **labels)
  np.save(tmp_path / "single.npy", np.eye(3))
  there = upload(tmp_path, f"{BUCKET}/embeddings")
  np.testing.assert_array_equal(read_embeddings(f"{there}/here.npz").query, np.eye(3))
  with pytest.raises(UserError, match=r"s3://.*single.npy is a single array"):
    read_embeddings(f"{there}/single.npy")
  with pytest.raises(UserError, match=r"s3://.*none.npz: there is no such file"):
    read_embeddings(f"{there}/none.npz")


def test_photos_to_be_added_come_from_a_store(tmp_path):
  folder = make_classes(tmp_path / "data")
  more = make_classes(tmp_path / "more", photos=5)
  (tmp_path / "unseen.txt").write_text("cat")
  words = {"split": str(tmp_path / "unseen.txt")}
  here, there = (
    open_zero_shot("folder", "mine", folder, "train", base_photos=base, **words)[0]
    for base in (str(more / "photo"), upload(more, f"{BUCKET}/more") + "/photo")
  )
  same_images(here, there)


def test_an_image_that_changes_in_a_store_changes_the_stamp(tmp_path):
  there = upload(make_qmul(tmp_path / "data"))
  source = open_source("folder", "shoe_v2", there, "train")
  before = source.stamp()
  assert source.stamp() == before
  data = source.read(0)
  later(f"{there}/{source.records[0].key}", data)
  assert source.stamp() != before


def test_the_doctor_examines_a_data_set_in_a_store(tmp_path):
  folder = make_qmul(tmp_path / "data")
  here, there = examine("shoe_v2", folder), examine("shoe_v2", upload(folder))
  assert there | {"source": ""} == here | {"source": ""}


def test_a_prepared_set_in_a_store_is_copied_once_and_read(tmp_path):
  pytest.importorskip("tensorflow_datasets")
  folder = make_qmul(tmp_path / "data")
  prepare("shoe_v2", folder, tmp_path / "tfds")
  there = upload(tmp_path / "tfds", f"{BUCKET}/tfds")
  source = open_source("tfds", "shoe_v2", there, "train")
  same_images(open_source("folder", "shoe_v2", folder, "train"), source)
  times = {path: path.stat().st_ino for path in source.root.iterdir()}
  again = open_source("tfds", "shoe_v2", there, "train")
  assert {path: path.stat().st_ino for path in again.root.iterdir()} == times


def test_a_file_in_a_store_is_copied_again_when_it_has_changed(store):
  store.pipe_file(f"{BUCKET}/a/w.npz", b"one")
  copy = fetch(f"{BUCKET}/a/w.npz", files=())
  assert copy.read_bytes() == b"one"
  later(f"{BUCKET}/a/w.npz", b"two")
  assert fetch(f"{BUCKET}/a/w.npz", files=()) == copy
  assert copy.read_bytes() == b"two"


def test_what_is_gone_from_a_folder_in_a_store_goes_from_the_copy(store):
  for name in ("a.json", "b.json", "c.txt"):
    store.pipe_file(f"{BUCKET}/p/{name}", b"{}")
  names = lambda folder: sorted(path.name for path in folder.iterdir())
  assert names(fetch(f"{BUCKET}/p", files=("*.json",))) == ["a.json", "b.json"]
  store.rm_file(f"{BUCKET}/p/a.json")
  assert names(fetch(f"{BUCKET}/p", files=("*.json",))) == ["b.json"]


@pytest.mark.parametrize(
  ("folder", "words"),
  [
    (f"{BUCKET}/nothing", "does not exist"),
    ("s3://", "does not exist"),
    ("az://bucket/x", "needs adlfs, which is not installed"),
    ("ftp://host/x", "is in no known store"),
  ],
)
@pytest.mark.parametrize("kind", ["folder", "manifest", "tfds"])
def test_a_data_folder_that_cannot_be_reached_is_told_in_one_line(kind, folder, words):
  with pytest.raises(UserError, match=words) as caught:
    open_source(kind, "shoe_v2", folder, "train")
  assert "\n" not in str(caught.value)


def test_an_image_that_goes_while_it_is_used_is_told_in_one_line(tmp_path, store):
  there = upload(make_qmul(tmp_path / "data"))
  source = open_source("folder", "shoe_v2", there, "train")
  store.rm_file(f"{there}/{source.records[0].key}")
  with pytest.raises(UserError, match=r"s3://bucket/data/.*: cannot be read \(no such file"):
    source.image(0)


def test_an_error_of_the_driver_is_told_in_one_line(tmp_path, monkeypatch, store):
  there = upload(make_qmul(tmp_path / "data"))

  def refuse(*_, **__):
    raise RuntimeError("no credentials\nwere found")

  monkeypatch.setattr(type(store), "isdir", refuse)
  with pytest.raises(UserError, match=r"cannot be reached \(no credentials were found\)"):
    open_source("folder", "shoe_v2", there, "train")


def test_a_local_path_stays_pathlibs(tmp_path):
  assert type(place(tmp_path)) is type(tmp_path) and place(tmp_path) == tmp_path
  assert str(expanded("~nobody_of_this_name/x")) == "~nobody_of_this_name/x"


@pytest.mark.parametrize("ask", [exists, is_dir, is_file])
def test_what_is_there_is_asked_of_the_disk_and_of_the_store(tmp_path, ask):
  (tmp_path / "a.txt").write_text("")
  for root in (tmp_path, upload(tmp_path)):
    found = [ask(place(root)), ask(place(root) / "a.txt"), ask(place(root) / "b.txt")]
    assert found == [ask is not is_file, ask is not is_dir, False]
  assert not ask("x" * 300) and not ask("a\0b")

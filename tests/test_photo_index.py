"""The table of an index and the index over it: what is found, and what others change meanwhile."""

import sqlite3

import numpy as np
import pytest

from sbir import photo_index
from sbir.faiss_gallery import FaissGallery
from sbir.photo_index import TABLE, PhotoIndex, open_index
from sbir.photo_schema import File, Photo, create_table
from sbir.photo_table import PhotoTable
from sbir.retrieval.itq import fit_codes
from sbir.retrieval.ranking import nearest
from sbir.types import UserError
from tests.photo_folders import make_index, make_table, put, unit


def as_names(vectors, skip=()):
  return {f"{i:04d}.jpg": v for i, v in enumerate(vectors) if i not in skip}


def found_by(index, query, k=3):
  return [hit.name for hit in index.search(query[None], k)[0]]


# --- search ---------------------------------------------------------------------------------------


def test_the_order_is_that_of_an_evaluation(tmp_path):
  vectors, queries = unit(90), unit(70, seed=1)
  vectors[[5, 50]] = vectors[20]  # a tie stays in the gallery's order
  queries[0] = vectors[20]
  found = make_index(tmp_path, vectors).search(queries, 10)
  assert [[hit.photo_id - 1 for hit in row] for row in found] == nearest(
    queries, vectors, 10
  ).tolist()


def test_scores_are_cosines_best_first(tmp_path):
  vectors = unit(20)
  (hits,) = make_index(tmp_path, vectors).search(5 * vectors[3:4], 20)
  assert (hits[0].name, hits[0].score) == ("0003.jpg", pytest.approx(1, abs=1e-6))
  for hit in hits:
    assert hit.score == pytest.approx(vectors[hit.photo_id - 1] @ vectors[3], abs=1e-6)
  assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_more_equal_photos_than_an_engine_is_asked_for_come_in_order(tmp_path):
  vectors, gallery = np.repeat(unit(1), 300, axis=0), FaissGallery("exact", 8)
  gallery.add(np.arange(300, 0, -1), vectors)  # of equals FAISS takes those that came first
  (hits,) = make_index(tmp_path, vectors, gallery).search(vectors[:1], 4)
  assert [hit.photo_id for hit in hits] == [1, 2, 3, 4]


def test_with_fewer_photos_than_k_all_come(tmp_path):
  index = make_index(tmp_path, unit(3))
  assert [len(row) for row in index.search(unit(2), 10)] == [3, 3]
  assert index.search(unit(2)[:0], 10) == []


@pytest.mark.parametrize(
  ("vectors", "k", "message"),
  [
    (unit(1, 9), 1, r"vectors \[1, 9\] must be finite numbers \[n, 8\]; embed with the model"),
    (unit(1)[0], 1, r"vectors \[8\] must be"),
    (unit(1) * np.nan, 1, r"vectors \[1, 8\] must be finite"),
    (unit(1), 0, "k=0 must be a whole number, at least 1"),
    (unit(1), 2.0, "k=2.0 must be a whole number"),
  ],
)
def test_what_cannot_be_searched_is_refused(tmp_path, vectors, k, message):
  with pytest.raises(UserError, match=message):
    make_index(tmp_path, unit(3)).search(vectors, k)


def test_codes_find_candidates_and_embeddings_order_them(tmp_path):
  vectors = unit(2000, 32)
  coder = fit_codes(vectors, 16)
  rows = [coder.mean.tolist(), *coder.directions.T.tolist()]
  make_table(tmp_path, vectors, bits=16, coder=rows)
  index = open_index(str(tmp_path))
  found = index.search(vectors[:20], 10)
  right = nearest(vectors[:20], vectors, 10) + 1
  shared = [len({h.photo_id for h in a} & {*b}) for a, b in zip(found, right.tolist(), strict=True)]
  assert [row[0].photo_id for row in found] == list(range(1, 21))
  assert sum(shared) > 0.6 * right.size  # of 2000 photos 16 bits choose 512 for this
  assert found[0][1].score == pytest.approx(
    vectors[found[0][1].photo_id - 1] @ vectors[0], abs=1e-6
  )


# --- what it knows of a photo ---------------------------------------------------------------------


def test_a_photo_has_its_embedding_its_picture_and_its_file(tmp_path):
  vectors = unit(4)
  index = make_index(tmp_path, vectors)
  np.testing.assert_array_equal(index.vector(2), vectors[1])
  assert index.thumbnail(2) == b"small" and index.file(2) == tmp_path / "0001.jpg"
  assert index.num_photos == 4


@pytest.mark.parametrize("ask", [PhotoIndex.vector, PhotoIndex.thumbnail, PhotoIndex.file])
def test_a_photo_that_is_gone_is_a_users_error(tmp_path, ask):
  with pytest.raises(UserError, match=r"photo 9 is not in .* any more; search again"):
    ask(make_index(tmp_path, unit(4)), 9)


# --- changes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_an_open_index_finds_what_another_process_adds_and_not_what_it_removes(tmp_path, kind):
  vectors = unit(30)
  table = make_table(tmp_path, vectors[:20])
  reader = PhotoIndex(PhotoTable(tmp_path / TABLE, read_only=True), FaissGallery(kind, 8))
  assert found_by(reader, vectors[3])[0] == "0003.jpg"
  assert put(table, as_names(vectors, skip=[3])) == {"added": 10, "changed": 0, "removed": 1}
  assert found_by(reader, vectors[25])[0] == "0025.jpg"
  assert "0003.jpg" not in found_by(reader, vectors[3], k=30)
  assert reader.num_photos == 29


def test_a_photo_that_goes_while_a_reader_follows_is_no_error(tmp_path, monkeypatch):
  index = make_index(tmp_path, unit(5))
  live = index.table.live_ids()
  monkeypatch.setattr(index.table, "live_ids", lambda: np.append(live, 99))
  assert len(index.search(unit(1), 9)[0]) == 5


def test_a_changed_file_is_another_photo(tmp_path):
  vectors, other = unit(5), unit(1, seed=9)[0]
  table = make_table(tmp_path, vectors)
  index = PhotoIndex(table, FaissGallery("exact", 8))
  index.search(vectors, 1)
  assert put(table, as_names(vectors) | {"0002.jpg": other})["changed"] == 1
  assert found_by(index, other)[0] == "0002.jpg"
  assert index.search(vectors[2:3], 1)[0][0].score < 0.99


def test_a_kept_graph_follows_the_table_and_is_made_again_when_it_is_stale(tmp_path, monkeypatch):
  monkeypatch.setattr(photo_index, "EXACT_UP_TO", 10)
  vectors = unit(60)
  table = make_table(tmp_path, vectors[:40])
  index = open_index(str(tmp_path), read_only=False)
  index.settle()
  assert index.gallery.kind == "hnsw" and len(list(tmp_path.glob("hnsw-*.faiss"))) == 1
  put(table, as_names(vectors, skip=[0]))
  again = open_index(str(tmp_path))
  assert sorted(again.gallery.ids()) == list(range(2, 61)) and len(again.gallery._removed) == 1
  put(table, as_names(vectors, skip=range(30)))
  again = open_index(str(tmp_path))
  assert sorted(again.gallery.ids()) == list(range(31, 61)) and len(again.gallery._removed) == 0
  assert found_by(again, vectors[50])[0] == "0050.jpg"


def test_photos_wait_until_all_are_there_and_are_not_found_before(tmp_path):
  vectors = unit(6)
  table = make_table(tmp_path, vectors[:3])
  files = [File(f"{i:04d}.jpg", 1, 5) for i in range(6)]
  assert table.compare(files) == (6, 6)
  rows = zip(files, vectors, strict=True)
  table.add_pending((f, Photo(f.name.encode(), b"", v)) for f, v in rows)
  again = PhotoTable(tmp_path / TABLE, read_only=False)
  assert again.counts()["pending"] == 6 and again.num_photos == 3
  assert again.compare(files) == (6, 0)  # those that wait are not done again
  assert again.publish([])["changed"] == 3
  assert again.num_photos == 6 and again.counts()["pending"] == 0 and again.damage() == ""


def test_copies_are_one_photo_with_the_first_name(tmp_path):
  table = make_table(tmp_path, unit(1))
  files = [File(name, 1, 1) for name in ("b.jpg", "a.jpg", "c.jpg")]
  table.compare(files)
  table.add_pending((f, Photo(b"same", b"", unit(1)[0])) for f in files)
  table.publish([])
  counts = table.counts()
  assert (counts["photos"], counts["copies"]) == (1, 2)
  assert list(table.names(table.live_ids()).values()) == ["a.jpg"]


def test_what_is_left_out_stays_out_until_it_changes(tmp_path):
  vectors = unit(4)
  table = make_table(tmp_path, vectors)
  assert table.leave_out(["0001.jpg"]) == 1
  put(table, as_names(vectors))
  assert "0001.jpg" not in table.names(range(1, 9)).values() and table.counts()["left_out"] == 1
  put(table, as_names(vectors) | {"0001.jpg": unit(1, seed=7)[0]})
  assert "0001.jpg" in table.names(range(1, 9)).values()


def test_a_name_that_is_not_there_leaves_all_as_it_was(tmp_path):
  table = make_table(tmp_path, unit(4))
  with pytest.raises(UserError, match=r"'x.jpg' is not in the index; names are relative"):
    table.leave_out(["0001.jpg", "x.jpg"])
  assert table.num_photos == 4


def test_nobody_sees_a_transaction_that_has_failed(tmp_path):
  table = make_table(tmp_path, unit(4))
  with pytest.raises(UserError, match="no photo would be left in the index"):
    put(table, {})
  assert table.num_photos == 4


# --- files that are no index ----------------------------------------------------------------------


def test_another_version_another_file_and_none_are_refused(tmp_path):
  with pytest.raises(UserError, match=r"is no index, it has no photos.db; make one with"):
    open_index(str(tmp_path))
  (tmp_path / TABLE).write_bytes(b"no database" * 100)
  with pytest.raises(UserError, match=r"photos.db cannot be used \(file is not a database\)"):
    open_index(str(tmp_path))
  (tmp_path / TABLE).unlink()
  sqlite3.connect(tmp_path / TABLE).executescript("CREATE TABLE x (y);")
  with pytest.raises(UserError, match="is no index of photos; choose another --index"):
    open_index(str(tmp_path))
  (tmp_path / TABLE).unlink()
  make_table(tmp_path, unit(2)).close()
  sqlite3.connect(tmp_path / TABLE).execute("PRAGMA user_version = 99")
  with pytest.raises(UserError, match=r"is an index of version 99, expected 1, .*; build it again"):
    open_index(str(tmp_path))


def test_an_index_whose_build_was_killed_says_what_to_do(tmp_path):
  create_table(tmp_path / TABLE, width=8, bits=0)
  with pytest.raises(UserError, match="is not finished, 0 photos wait; run the same"):
    open_index(str(tmp_path))


def test_a_damaged_table_is_recognised(tmp_path):
  table = make_table(tmp_path, unit(4))
  assert table.damage() == ""
  sqlite3.connect(tmp_path / TABLE).executescript("DELETE FROM vector WHERE id = 2;")
  assert table.damage() == "ok, 1 files without an embedding"


def test_an_index_in_a_folder_that_may_not_be_written_is_read(tmp_path, monkeypatch):
  make_table(tmp_path, unit(4)).close()
  monkeypatch.setattr("os.access", lambda *_: False)
  assert open_index(str(tmp_path)).num_photos == 4

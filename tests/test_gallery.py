"""The search engines: FAISS, Milvus and NumPy find the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbir import milvus_gallery
from sbir.faiss_gallery import FaissGallery
from sbir.gallery import best_first
from sbir.milvus_gallery import MilvusGallery, parse
from sbir.retrieval.itq import fit_codes
from sbir.types import UserError
from tests.photo_folders import make_index, needs_milvus, unit

pytestmark = needs_milvus
WIDTH = 8
few = settings(max_examples=15, deadline=None)


@pytest.fixture(scope="module")
def milvus(tmp_path_factory):
  """A collection of milvus-lite, which takes a second to start."""
  file = tmp_path_factory.mktemp("milvus") / "a.db"
  gallery = MilvusGallery(f"milvus://{file}/photos", WIDTH)
  yield gallery
  gallery.close()


def filled(kind, vectors, coder=None):
  gallery = FaissGallery(kind, vectors.shape[1], coder)
  gallery.add(np.arange(1, len(vectors) + 1), vectors)
  return gallery


def refill(gallery, vectors):
  """Makes a gallery hold these, the first with id 1."""
  gallery.remove(gallery.ids())
  gallery.add(np.arange(1, len(vectors) + 1), vectors)


def by_numpy(vectors, queries, k):
  """Returns the places of the k nearest, the first one first where they are equal."""
  return np.argsort(-(queries.astype(float) @ vectors.T.astype(float)), kind="stable")[:, :k]


def ids_of(found):
  return [[hit.photo_id for hit in row] for row in found]


# --- all the same ---------------------------------------------------------------------------------


@few
@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 2**31), st.data())
def test_faiss_milvus_and_numpy_find_the_same_photos_in_the_same_order(
  tmp_path_factory, milvus, num, k, seed, data
):
  vectors = unit(num, WIDTH, seed)
  copies = data.draw(st.lists(st.integers(0, num - 1), max_size=5))
  vectors[copies] = vectors[0]  # equal embeddings of different photos
  queries = np.concatenate([unit(3, WIDTH, seed + 1), vectors[:1]])
  refill(milvus, vectors)
  folders = [tmp_path_factory.mktemp("index") for _ in range(2)]
  of_faiss = make_index(folders[0], vectors).search(queries, k)
  of_milvus = make_index(folders[1], vectors, milvus).search(queries, k)
  assert of_faiss == of_milvus
  rounded = np.round(queries.astype(float) @ vectors.T.astype(float), 12)
  right = np.argsort(-rounded, kind="stable", axis=1)[:, :k] + 1
  assert ids_of(of_faiss) == right.tolist()


@few
@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**31))
def test_the_engines_by_themselves_agree_to_rounding(milvus, num, k, seed):
  vectors, queries = unit(num, WIDTH, seed), unit(4, WIDTH, seed + 1)
  refill(milvus, vectors)
  (scores, ids), (other_scores, other_ids) = (
    gallery.search(queries, k) for gallery in (filled("exact", vectors), milvus)
  )
  assert scores.shape == (4, min(k, num))
  np.testing.assert_array_equal(ids, other_ids)
  np.testing.assert_allclose(scores, other_scores, atol=1e-6)
  np.testing.assert_array_equal(ids, by_numpy(vectors, queries, k) + 1)


def test_equal_scores_stay_in_the_order_of_ids():
  scores = np.array([[1.0, 3.0, 3.0, 2.0, 9.0]])
  ids = np.array([[4, 8, 2, 5, -1]])
  best, order = best_first(scores, ids, 4)
  assert order.tolist() == [[2, 8, 5, 4]] and best.tolist() == [[3.0, 3.0, 2.0, 1.0]]


@pytest.mark.parametrize("kind", ["exact", "hnsw", "milvus"])
def test_what_is_removed_is_not_found_and_crowds_nothing_out(milvus, kind):
  vectors = unit(30, WIDTH)
  if kind == "milvus":
    gallery = milvus
    refill(gallery, vectors)
  else:
    gallery = filled(kind, vectors)
  gallery.remove(np.array([1, 2, 3, 77]))
  assert gallery.num == 27 and sorted(gallery.ids()) == list(range(4, 31))
  _, ids = gallery.search(vectors[:1], 27)
  assert sorted(ids[0]) == list(range(4, 31))


# --- FAISS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hnsw", "codes"])
def test_a_gallery_saved_and_loaded_finds_the_same(tmp_path, kind):
  vectors = unit(300, 32)
  coder = fit_codes(vectors, 16) if kind == "codes" else None
  gallery = filled(kind, vectors, coder)
  gallery.save(tmp_path / "a.faiss")
  again = FaissGallery(kind, 32, coder)
  assert again.load(tmp_path / "a.faiss") and again.num == 300
  for one, other in zip(gallery.search(vectors[:9], 7), again.search(vectors[:9], 7), strict=True):
    np.testing.assert_array_equal(one, other)


def test_a_file_that_is_damaged_missing_or_anothers_is_not_loaded(tmp_path):
  filled("hnsw", unit(50, 16)).save(tmp_path / "a.faiss")
  whole = (tmp_path / "a.faiss").read_bytes()
  (tmp_path / "cut.faiss").write_bytes(whole[: len(whole) // 2])
  (tmp_path / "odd.faiss").write_bytes(b"\0" * 100)
  gallery = FaissGallery("hnsw", 8)
  for name in ("a.faiss", "cut.faiss", "odd.faiss", "none.faiss"):
    assert not gallery.load(tmp_path / name), name
  assert gallery.num == 0


def test_a_file_that_cannot_be_written_is_a_users_error(tmp_path):
  with pytest.raises(UserError, match=r"no/a.faiss cannot be written .*; make room"):
    filled("hnsw", unit(5)).save(tmp_path / "no" / "a.faiss")


def test_the_graph_finds_nearly_all_that_exact_search_finds():
  vectors, queries = unit(2000, 32), unit(50, 32, seed=1)
  found = filled("hnsw", vectors).search(queries, 10)[1] - 1
  right = by_numpy(vectors, queries, 10)
  shared = [len(set(a) & set(b)) for a, b in zip(found.tolist(), right.tolist(), strict=True)]
  assert sum(shared) >= 0.98 * right.size


def test_codes_are_scored_by_the_bits_that_differ():
  vectors = unit(100, 32)
  coder = fit_codes(vectors, 16)
  scores, ids = filled("codes", vectors, coder).search(vectors[:3], 5)
  assert scores[:, 0].tolist() == [0, 0, 0]
  assert (np.diff(scores, axis=1) <= 0).all() and (scores >= -16).all()
  assert [i in row for i, row in zip((1, 2, 3), ids.tolist(), strict=True)] == [True] * 3


@pytest.mark.parametrize("k", [1, 7])
def test_an_empty_gallery_finds_nothing(k):
  scores, ids = FaissGallery("exact", 8).search(unit(2), k)
  assert scores.shape == ids.shape == (2, 0)


# --- Milvus ---------------------------------------------------------------------------------------


def test_a_large_collection_is_searched_through_a_graph(tmp_path, monkeypatch):
  monkeypatch.setattr(milvus_gallery, "EXACT_UP_TO", 50)
  gallery = MilvusGallery(f"milvus://{tmp_path}/b.db/photos", WIDTH)
  vectors = unit(200, WIDTH)
  refill(gallery, vectors)
  gallery.settle(200)
  assert gallery._client.describe_index("photos", "vector")["index_type"] == "HNSW"
  found = gallery.search(vectors[:20], 10)[1] - 1
  right = by_numpy(vectors, vectors[:20], 10)
  assert (found[:, 0] == np.arange(20)).all() and (found == right).mean() > 0.95
  gallery.close()


def test_a_collection_whose_index_got_lost_gets_one_again(tmp_path):
  place = f"milvus://{tmp_path}/c.db/photos"
  gallery = MilvusGallery(place, WIDTH)
  refill(gallery, unit(5, WIDTH))
  gallery._client.release_collection("photos")
  gallery._client.drop_index("photos", "vector")
  gallery.close()
  again = MilvusGallery(place, WIDTH)
  assert again._client.list_indexes("photos") == ["vector"]
  assert again.search(unit(5, WIDTH)[:1], 1)[1].tolist() == [[1]]
  again.close()


def test_a_collection_of_another_width_is_refused(milvus):
  with pytest.raises(UserError, match=r"holds FLOAT_VECTOR of width 8, expected .* of width 12"):
    MilvusGallery(milvus._place, 12)


def test_milvus_lite_keeps_no_codes(tmp_path):
  coder = fit_codes(unit(100, 32), 16)
  with pytest.raises(UserError, match=r"milvus-lite keeps no codes \(--bits\); use a server"):
    MilvusGallery(f"milvus://{tmp_path}/d.db/photos", 32, coder)


@pytest.mark.parametrize(
  ("place", "parts"),
  [
    ("milvus://db.example.org:19530/photos", ("http://db.example.org:19530", "photos")),
    ("milvus://localhost/my_photos", ("http://localhost", "my_photos")),
    ("milvus:///data/a.db/photos", ("/data/a.db", "photos")),
  ],
)
def test_a_place_names_a_server_or_a_file_and_a_collection(place, parts):
  assert parse(place) == parts


@pytest.mark.parametrize(
  ("place", "message"),
  [
    ("milvus://photos", "is no place in Milvus, expected milvus://host:19530/collection"),
    ("milvus://host:1x/photos", "is no place in Milvus"),
    ("milvus:///data/a.sqlite/photos", "is no place in Milvus"),
    ("milvus://host:19530/", "'' is no name of a collection, expected letters, digits and _"),
    ("milvus://host:19530/my-photos", "'my-photos' is no name of a collection"),
  ],
)
def test_what_is_no_place_is_refused(place, message):
  with pytest.raises(UserError, match=message):
    parse(place)

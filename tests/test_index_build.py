"""Building an index of a folder and keeping it up to date: what is embedded, found and told."""

import json
import os
import shutil

import numpy as np
import pytest

from sbir import cli, index, index_build, index_check, index_search, models
from sbir.models import from_pretrained
from sbir.photo_index import open_index
from sbir.run_lock import locked
from tests.photo_folders import needs_milvus, save_model, save_photos


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  return str(save_model(tmp_path_factory.mktemp("model") / "package"))


@pytest.fixture(scope="module")
def built(tmp_path_factory, model):
  root = tmp_path_factory.mktemp("built")
  save_photos(root / "photos", 12)
  index_build.build(str(root / "index"), model, str(root / "photos"))
  return root


@pytest.fixture
def own(built, tmp_path):
  """A copy of the folder and its index, and a count of the photos that are embedded."""
  shutil.copytree(built, tmp_path, dirs_exist_ok=True)
  return tmp_path


@pytest.fixture
def embedded(monkeypatch):
  """How many different photos were embedded."""
  count, encode = [0], models.Model.encode_squares

  def counting(model, squares, modality):
    count[0] += len({square.tobytes() for square in squares})
    return encode(model, squares, modality)

  monkeypatch.setattr(models.Model, "encode_squares", counting)
  return count


def add(root):
  return index_build.add(str(root / "index"), photos=str(root / "photos")).partition(": ")[2]


def names_in(root):
  with_folder = open_index(str(root / "index"))
  names = with_folder.table.names(with_folder.table.live_ids())
  return sorted(names.values())


def call(capsys, *arguments):
  """Returns (exit status, stdout, stderr) of the main, in this process."""
  with pytest.raises(SystemExit) as stopped:
    cli.tool(index.main, [str(argument) for argument in arguments])
  return stopped.value.code, *capsys.readouterr()


def test_every_photo_has_the_embedding_that_the_model_gives_its_file(built, model):
  opened = open_index(str(built / "index"))
  names = opened.table.names(opened.table.live_ids())
  assert len(names) == opened.num_photos == 12
  paths = [built / "photos" / name for name in names.values()]
  stored = np.stack([opened.vector(i) for i in names])
  np.testing.assert_allclose(stored, from_pretrained(model).encode_photos(paths), atol=1e-6)
  assert [opened.file(i) for i in names] == paths
  assert opened.thumbnail(1).startswith(b"\xff\xd8")
  assert opened.model_place == model


def test_nothing_new_embeds_nothing(own, embedded):
  assert add(own) == "12 photos; 0 files added, 0 changed, 0 gone"
  assert embedded == [0]


def test_new_changed_deleted_and_moved_files_are_found(own, embedded):
  save_photos(own / "photos", 3, seed=5, form="new{}.jpg")
  (own / "photos" / "new0.jpg").rename(own / "photos" / "000.jpg")  # in the place of another
  (own / "photos" / "002.jpg").unlink()
  (own / "photos" / "004.jpg").rename(own / "photos" / "moved.jpg")
  done = add(own)
  assert (
    done
    == "13 photos; 3 files added, 1 changed, 2 gone, 1 of them known photos, not embedded again"
  )
  assert embedded == [3]
  names = names_in(own)
  assert "moved.jpg" in names and "inner/new1.jpg" in names and "004.jpg" not in names


def test_a_file_that_was_only_touched_is_not_embedded_again(own, embedded):
  os.utime(own / "photos" / "000.jpg", ns=(1, 1))
  assert "0 files added, 1 changed" in add(own)
  assert embedded == [0] and len(names_in(own)) == 12


def test_a_copy_is_embedded_once_and_told(own, embedded, capsys):
  new = save_photos(own / "photos", 1, seed=6, form="x.jpg")[0]
  shutil.copy(own / "photos" / new, own / "photos" / "copy.jpg")
  assert add(own).endswith(
    "2 files added, 0 changed, 0 gone, 1 of them known photos, not embedded again"
  )
  assert embedded == [1] and open_index(str(own / "index")).num_photos == 13
  assert index_check.stats(str(own / "index"))["copies"] == 1


def test_many_copies_are_embedded_once_though_they_are_read_ahead(own, embedded):
  data = (own / "photos" / save_photos(own / "photos", 1, seed=6, form="x.jpg")[0]).read_bytes()
  for i in range(200):
    (own / "photos" / f"copy{i}.jpg").write_bytes(data)
  assert add(own).startswith("13 photos; 201 files added")
  assert embedded == [1]


def test_a_known_photo_is_not_even_decoded(own, monkeypatch):
  (own / "photos" / "000.jpg").rename(own / "photos" / "moved.jpg")
  monkeypatch.setattr("sbir.photo_folder.decode", None)
  assert add(own).startswith("12 photos; 1 files added, 0 changed, 1 gone")


def test_unreadable_files_are_named_skipped_counted_and_tried_again(own, capsys):
  whole = (own / "photos" / "000.jpg").read_bytes()
  (own / "photos" / "cut.jpg").write_bytes(whole[:60])
  (own / "photos" / "text.png").write_text("no image")
  (own / "photos" / "000.jpg").write_bytes(b"")  # in the index until now
  (own / "photos" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(whole)
  assert add(own) == "11 photos; 0 files added, 0 changed, 1 gone, 4 unreadable and skipped"
  said = capsys.readouterr().err
  for name in ("000.jpg", "cut.jpg", "text.png"):
    assert f"skipped {name}: not a readable image" in said
  assert "its name is not UTF-8; rename it" in said
  assert len(index_check.stats(str(own / "index"))["unreadable"]) == 4
  (own / "photos" / "cut.jpg").write_bytes(whole)
  assert "1 files added" in add(own)
  assert "cut.jpg" in names_in(own)


def test_what_is_removed_is_not_found_and_add_does_not_bring_it_back(own, capsys):
  status, said, _ = call(capsys, "remove", "--index", own / "index", "000.jpg", "inner/001.jpg")
  assert (status, said) == (0, f"{own / 'index'}: 2 photos fewer; the files are still there\n")
  add(own)
  assert "000.jpg" not in names_in(own) and len(names_in(own)) == 10
  assert (own / "photos" / "000.jpg").exists()


def test_a_search_prints_rank_score_and_file(own, capsys):
  place = own / "index"
  status, said, _ = call(capsys, "search", "--index", place, "--sketch", own / "photos" / "000.jpg")
  lines = [line.split() for line in said.splitlines()]
  assert status == 0 and [line[0] for line in lines] == [str(i) for i in range(1, 11)]
  scores = [float(line[1]) for line in lines]
  assert scores == sorted(scores, reverse=True) and os.path.exists(lines[0][2])


def test_a_search_as_json_is_what_the_index_finds(own, model, capsys):
  sketch = own / "photos" / "002.jpg"
  asked = ("search", "--index", own / "index", "--sketch", sketch, "-k", 3, "--json")
  status, said, _ = call(capsys, *asked)
  found = json.loads(said)
  vectors = from_pretrained(model).encode_sketches([sketch])
  (hits,) = open_index(str(own / "index")).search(vectors, 3)
  assert status == 0 and found["sketch"] == str(sketch)
  assert [row["name"] for row in found["results"]] == [hit.name for hit in hits]
  assert [row["score"] for row in found["results"]] == [hit.score for hit in hits]


def test_the_page_of_results_holds_its_pictures_and_escapes_names(own, monkeypatch, capsys):
  (own / "photos" / "002.jpg").rename(own / "photos" / "<b>&.jpg")
  add(own)
  opened = []
  monkeypatch.setattr("webbrowser.open", opened.append)
  asked = ("search", "--index", own / "index", "--sketch", own / "photos" / "000.jpg", "--open")
  assert call(capsys, *asked, "-k", 12)[0] == 0
  page = index_search.Path(opened[0].removeprefix("file://")).read_text()
  assert page.count("data:image/jpeg;base64,") == 13 and "http" not in page
  assert "&lt;b&gt;&amp;.jpg" in page and "<b>" not in page


def test_stats_say_what_the_index_holds(own, model, capsys):
  status, said, _ = call(capsys, "stats", "--index", own / "index", "--json")
  found = json.loads(said)
  assert status == 0 and found["photos"] == 12 and found["search"] == "exact"
  assert (found["width"], found["architecture"], found["model"]) == (10, "xmodal-pair", model)
  assert "photos          12\n" in call(capsys, "stats", "--index", own / "index")[1]


def test_verify_finds_nothing_wrong_with_a_new_index(built, capsys):
  status, said, _ = call(capsys, "verify", "--index", built / "index")
  assert status == 0 and said.endswith("nothing is wrong\n")
  assert "12 files, 12 photos" in said and "recall@10 1.0000 of the exact search" in said


def test_verify_names_files_that_are_gone_or_changed_and_wrong_embeddings(own, capsys):
  (own / "photos" / "000.jpg").unlink()
  (own / "photos" / "002.jpg").write_bytes(b"other")
  opened = open_index(str(own / "index"), read_only=False)
  opened.table.set_about(folder=str(own / "photos"))
  with opened.table._sql.writing() as db:
    db.execute("UPDATE vector SET data = (SELECT data FROM vector WHERE id = 5) WHERE id = 6")
  status, said, _ = call(capsys, "verify", "--index", own / "index")
  assert status == 1
  assert "000.jpg cannot be read; run add" in said and "002.jpg has changed; run add" in said
  assert "from the model's; build again" in said


@pytest.mark.parametrize("bits", [64, 16])
def test_a_few_photos_are_found_by_codes_too(built, model, tmp_path, bits):
  index_build.build(str(tmp_path / "index"), model, str(built / "photos"), bits)
  found = index_check.verify(str(tmp_path / "index"), None, 5)
  assert found.problems == [] and found.kind == f"codes, {bits} bits" and found.recall == 1
  assert list((tmp_path / "index").glob("codes-*.faiss"))


def test_two_writers_at_once_are_refused(own, capsys):
  with locked(own / "index", "index"):
    status, _, said = call(capsys, "add", "--index", own / "index", "--photos", own / "photos")
  assert status == 2 and f"index {own / 'index'} is in use by process {os.getpid()}" in said


@needs_milvus
def test_a_collection_that_lags_behind_or_is_lost_is_filled_again(own, model, monkeypatch):
  monkeypatch.setenv("XDG_DATA_HOME", str(own / "data"))
  place, query = f"milvus://{own}/b.db/photos", np.ones((1, 10), np.float32)
  index_build.build(place, model, str(own / "photos"))
  save_photos(own / "photos", 4, seed=8, form="new{}.jpg")
  settle = index_build._settle
  monkeypatch.setattr(index_build, "_settle", lambda place: 0)  # killed before
  index_build.add(place)
  monkeypatch.setattr(index_build, "_settle", settle)
  for is_lost in (False, True):
    opened = open_index(place)
    assert len(opened.search(query, 99)[0]) == opened.gallery.num == 16
    if not is_lost:
      opened.gallery._client.drop_collection("photos")
    opened.close()


@needs_milvus
def test_an_index_in_milvus_is_used_by_the_same_commands(own, model, capsys, monkeypatch):
  monkeypatch.setenv("XDG_DATA_HOME", str(own / "data"))
  place = f"milvus://{own}/a.db/photos"
  asked = ("build", "--model", model, "--photos", own / "photos", "--index", place)
  assert call(capsys, *asked)[:2] == (
    0,
    f"{place}: 12 photos; 12 files added, 0 changed, 0 gone\n",
  )
  (own / "photos" / "000.jpg").unlink()
  assert "11 photos" in call(capsys, "add", "--index", place)[1]
  index_build.add(str(own / "index"), photos=str(own / "photos"))
  sketch = ("--sketch", own / "photos" / "002.jpg", "--json")
  of_milvus, of_faiss = (
    json.loads(call(capsys, "search", "--index", where, *sketch)[1])["results"]
    for where in (place, own / "index")
  )
  of = lambda rows: [(row["name"], row["score"]) for row in rows]
  assert of(of_milvus) == of(of_faiss)
  assert call(capsys, "verify", "--index", place)[1].endswith("nothing is wrong\n")

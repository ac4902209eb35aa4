"""Indexes that cannot be: one line that helps, status 2, nothing half-written."""

import sqlite3

import pytest

from sbir import cli, encode, index, index_build
from sbir.photo_index import TABLE
from tests.packages import save_package
from tests.photo_folders import needs_milvus, save_model, save_photos


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  return save_model(tmp_path_factory.mktemp("model") / "package")


@pytest.fixture(scope="module")
def built(tmp_path_factory, model):
  root = tmp_path_factory.mktemp("built")
  save_photos(root / "photos", 6)
  index_build.build(str(root / "index"), str(model), str(root / "photos"))
  return root


@pytest.fixture
def refuse(capsys):
  """Returns refuse(*arguments) -> what is said, in one line, with exit status 2."""

  def run(*arguments, main=index.main):
    with pytest.raises(SystemExit) as stopped:
      cli.tool(main, [str(argument) for argument in arguments])
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert (stopped.value.code, said.out, len(lines)) == (2, "", 1), said
    assert said.err.endswith(f"{lines[0]}\n")
    return lines[0]

  return run


def snapshot(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".db", ".faiss")}


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "the following arguments are required: command"),
    (["biuld"], "invalid choice: 'biuld'"),
    (["build", "--index", "x"], "the following arguments are required: --model"),
    (["build", "--index", "x", "--model", "m"], "--photos DIR is missing"),
    (["search", "--index", "x", "--sketch", "a.png", "--kk", "3"], "unrecognized arguments: --kk"),
    (["stats", "--index", ""], "'' is empty, expected the path of a folder"),
    (["stats", "--index", "gs://bucket/x"], "--index=gs://bucket/x must be a local folder"),
  ],
)
def test_a_wrong_command_line_is_refused(refuse, arguments, message):
  assert message in refuse(*arguments)


def test_a_folder_without_images_makes_no_index(refuse, model, tmp_path):
  (tmp_path / "photos").mkdir()
  (tmp_path / "photos" / "notes.txt").write_text("none")
  asked = ("--model", model, "--photos", tmp_path / "photos", "--index", tmp_path / "index")
  assert f"--photos {tmp_path / 'photos'} holds no images, expected JPEG" in refuse("build", *asked)
  asked = ("--model", model, "--photos", tmp_path / "nowhere", "--index", tmp_path / "index")
  assert "nowhere cannot be read (No such file or directory)" in refuse("build", *asked)
  assert not (tmp_path / "index").exists()


def test_photos_of_which_none_is_readable_make_no_index(refuse, model, tmp_path):
  (tmp_path / "photos").mkdir()
  (tmp_path / "photos" / "a.jpg").write_text("none")
  asked = ("--model", model, "--photos", tmp_path / "photos", "--index", tmp_path / "index")
  assert "no photo would be left in the index; check that the photos are" in refuse("build", *asked)
  assert not (tmp_path / "index").exists()


def test_a_folder_that_is_empty_now_leaves_the_index_as_it_was(refuse, built, tmp_path):
  before = snapshot(built / "index")
  said = refuse("add", "--index", built / "index", "--photos", tmp_path)
  assert "holds no images" in said and snapshot(built / "index") == before


@pytest.mark.parametrize("command", ["add", "search", "stats", "verify", "remove"])
def test_where_no_index_is_none_is_made(refuse, tmp_path, command):
  sketch = tmp_path / "a.png"
  save_photos(tmp_path, 1, form="a.png")
  more = {"search": ["--sketch", sketch], "remove": ["a.jpg"]}.get(command, [])
  said = refuse(command, "--index", tmp_path / "index", *more)
  assert "is no index, it has no photos.db; make one with python -m sbir.index build" in said
  assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
  ("architecture", "message"),
  [
    ("xmodal-student", "is of photos alone, expected a model of photos and of sketches"),
    ("xmodal-teacher", "is a teacher, which sees both at once, expected a model of photos and of"),
  ],
)
def test_a_model_that_cannot_search_makes_no_index(refuse, tmp_path, architecture, message):
  save_photos(tmp_path / "photos", 2)
  package = save_package(tmp_path / "package", architecture)
  asked = ("--model", package, "--photos", tmp_path / "photos", "--index", tmp_path / "index")
  assert message in refuse("build", *asked)
  assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
  ("architecture", "seed", "message"),
  [
    (
      "pskd",
      0,
      "is pskd, and {index} was built with xmodal-pair; give the model it was built with",
    ),
    ("xmodal-pair", 7, "another xmodal-pair; give the model it was built with, or build another"),
  ],
)
def test_another_model_is_refused_by_every_command(
  refuse, built, tmp_path, architecture, seed, message
):
  package = save_package(tmp_path / "package", architecture, seed=seed)
  before = snapshot(built / "index")
  sketch = built / "photos" / "000.jpg"
  for command, more in (
    ("build", ("--photos", built / "photos")),
    ("add", ()),
    ("search", ("--sketch", sketch)),
    ("verify", ()),
  ):
    said = refuse(command, "--model", package, "--index", built / "index", *more)
    assert message.format(index=built / "index") in said, command
  assert snapshot(built / "index") == before


def test_the_same_model_elsewhere_is_the_same_model(built, tmp_path, capsys):
  package = save_model(tmp_path / "moved", card="# Another card\n")
  sketch = built / "photos" / "000.jpg"
  asked = ["search", "--index", built / "index", "--model", package, "--sketch", sketch]
  with pytest.raises(SystemExit) as stopped:
    cli.tool(index.main, [str(word) for word in asked])
  assert stopped.value.code == 0


def test_a_model_that_has_moved_is_asked_for(refuse, tmp_path):
  save_photos(tmp_path / "photos", 2)
  package = save_model(tmp_path / "package")
  index_build.build(str(tmp_path / "index"), str(package), str(tmp_path / "photos"))
  package.rename(tmp_path / "elsewhere")
  said = refuse("add", "--index", tmp_path / "index")
  assert "its model is not where it was" in said and said.endswith("give --model")


def test_an_index_of_another_version_is_left_alone(refuse, tmp_path, model):
  save_photos(tmp_path / "photos", 2)
  index_build.build(str(tmp_path / "index"), str(model), str(tmp_path / "photos"))
  sqlite3.connect(tmp_path / "index" / TABLE).execute("PRAGMA user_version = 2")
  before = snapshot(tmp_path / "index")
  for command in ("add", "stats", "verify"):
    said = refuse(command, "--index", tmp_path / "index")
    assert "is an index of version 2, expected 1, which this program reads" in said
  assert snapshot(tmp_path / "index") == before


def test_a_folder_of_other_things_is_no_place_for_an_index(refuse, built, model):
  photos = built / "photos"
  said = refuse("build", "--model", model, "--photos", photos, "--index", photos)
  assert f"{photos} holds other things, expected a new folder; choose another --index" in said
  said = refuse("build", "--model", model, "--photos", photos, "--index", photos / "000.jpg")
  assert "holds other things" in said


def test_a_drawing_that_cannot_be_read_is_refused(refuse, built, tmp_path):
  (tmp_path / "a.png").write_text("no image")
  asked = ("search", "--index", built / "index", "--sketch")
  assert "not a readable image" in refuse(*asked, tmp_path / "a.png")
  assert "cannot be read (No such file or directory)" in refuse(*asked, tmp_path / "b.png")
  said = refuse(*asked, built / "photos" / "000.jpg", "-k", "0")
  assert "k=0 must be a whole number, at least 1" in said


def test_a_folder_that_another_index_is_of_does_not_replace_its_photos(
  refuse, built, model, tmp_path
):
  save_photos(tmp_path / "others", 2)
  before = snapshot(built / "index")
  asked = ("--model", model, "--photos", tmp_path / "others", "--index", built / "index")
  said = refuse("build", *asked)
  assert f"was built of {built / 'photos'}; if that has moved, say so with" in said
  assert snapshot(built / "index") == before


def test_other_bits_than_the_index_has_are_refused(refuse, built, model):
  asked = ("--model", model, "--photos", built / "photos", "--index", built / "index")
  assert "was built with --bits 0; give that, or build" in refuse("build", *asked, "--bits", 64)
  assert "--bits 12 must be a multiple of 8 from 16 to 256" in refuse("build", *asked, "--bits", 12)


@needs_milvus
def test_a_server_that_is_down_is_one_line_and_nothing_is_written(
  refuse, built, model, tmp_path, monkeypatch
):
  monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
  place = "milvus://127.0.0.1:9/photos"
  said = refuse("build", "--model", model, "--photos", built / "photos", "--index", place)
  assert said.startswith(f"error: {place} cannot be reached (") and "start the server" in said
  assert not (tmp_path / "data").exists()


@needs_milvus
def test_a_collection_that_another_machine_has_made_is_not_written_to(
  refuse, built, model, tmp_path, monkeypatch
):
  place = f"milvus://{tmp_path}/a.db/photos"
  asked = ("build", "--model", model, "--photos", built / "photos", "--index", place)
  monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "there"))
  index_build.build(place, str(model), str(built / "photos"))
  monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "here"))
  assert "the server has this collection, and" in refuse(*asked)
  assert "is no index, it has no photos.db" in refuse("stats", "--index", place)
  assert not (tmp_path / "here").exists()


# --- shards ---------------------------------------------------------------------------------------


@pytest.fixture
def shards(built, model, tmp_path, capsys):
  """Returns a function that writes shards of the folder, and the arguments that merge them."""

  def write(*which, of=model, photos=built / "photos"):
    for shard in which:
      asked = ["--model", of, "--photos", photos, "--out", tmp_path / "shards", "--shard", shard]
      with pytest.raises(SystemExit) as stopped:
        cli.tool(encode.main, [str(word) for word in asked])
      assert stopped.value.code == 0
    capsys.readouterr()
    merged = ("--embeddings", tmp_path / "shards", "--index", tmp_path / "index")
    return ("build", "--model", model, "--photos", built / "photos", *merged)

  return write


def test_merged_shards_are_the_index_that_one_machine_builds(shards, built, tmp_path, capsys):
  with pytest.raises(SystemExit) as stopped:
    cli.tool(index.main, [str(word) for word in shards("1/3", "2/3", "3/3")])
  assert stopped.value.code == 0
  assert capsys.readouterr().out.endswith(": 6 photos; 6 files added, 0 changed, 0 gone\n")
  held = []
  for folder in (tmp_path, built):
    db = sqlite3.connect(folder / "index" / TABLE)
    rows = "SELECT name, sha256, thumbnail, size, mtime_ns FROM file JOIN photo ON id = photo_id"
    held.append(sorted(db.execute(rows)))
  assert held[0] == held[1] and len(held[0]) == 6


def test_missing_and_mixed_shards_are_refused(refuse, shards, tmp_path):
  asked = shards("1/3")
  assert "lacks 2 of 3 shards; run python -m sbir.encode --shard 2/3" in refuse(*asked)
  asked = shards("1/2")
  assert "holds shards of 2 and of 3, expected those of one division" in refuse(*asked)
  assert not (tmp_path / "index").exists()


def test_shards_of_another_model_or_another_folder_are_refused(refuse, shards, tmp_path):
  asked = shards("1/2")
  save_photos(tmp_path / "more", 9)
  assert "the shards saw different files" in refuse(*shards("2/2", photos=tmp_path / "more"))
  other = save_model(tmp_path / "other", seed=3)
  said = refuse("build", "--model", other, *asked[3:])
  assert "another xmodal-pair; give the model it was built with" in said
  assert not (tmp_path / "index").exists()


def test_a_shard_that_was_not_finished_is_refused(refuse, shards, tmp_path):
  asked = shards("1/1")
  table = tmp_path / "shards" / "shard-1-of-1" / TABLE
  sqlite3.connect(table).executescript("DELETE FROM about WHERE key = 'listing';")
  said = refuse(*asked)
  assert "shard-1-of-1 is not finished; run python -m sbir.encode --shard 1/1 again" in said


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "a/b"])
def test_a_shard_that_is_none_is_refused(refuse, model, built, tmp_path, shard):
  asked = (
    "--model",
    model,
    "--photos",
    built / "photos",
    "--out",
    tmp_path / "s",
    "--shard",
    shard,
  )
  assert f"--shard {shard} must be i/n, from 1/n to n/n" in refuse(*asked, main=encode.main)
  assert not (tmp_path / "s").exists()

"""The page's plain HTTP, on a server process with a real index: what it answers, and what never."""

import gzip
import io
import json
import re

import numpy as np
import pytest

from sbir import cli, index, serve
from sbir.data.images import as_jpeg
from sbir.models import from_pretrained
from sbir.page_sketch import MAX_BYTES, MAX_PIXELS, TOO_LARGE
from sbir.photo_index import open_index
from tests.load_page import by_http, by_page, load, make_sketches
from tests.packages import noise, save_package
from tests.page_process import Server, ask, get, search
from tests.paths import REPO

pytest.importorskip("gradio", reason="requirements-serve.txt is not installed")
NUM_PHOTOS, K = 24, 10


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """Returns a folder with a package of random weights and an index of photos of noise."""
  folder = tmp_path_factory.mktemp("page")
  package = save_package(folder / "package", "xmodal-pair")
  (folder / "photos").mkdir()
  for i, photo in enumerate(noise(NUM_PHOTOS, 40, seed=1)):
    (folder / f"photos/<b>{i}.jpg").write_bytes(as_jpeg(photo))
  given = ["--model", package, "--photos", folder / "photos", "--index", folder / "index"]
  index.build(list(map(str, given)))
  return folder


@pytest.fixture(scope="module")
def server(home):
  running = Server(home / "log.txt", "sbir.serve", "--index", home / "index", "--port", 0)
  yield running
  running.stop()


@pytest.fixture(scope="module")
def sketch():
  return png(noise(1, 48, seed=2)[0])


def png(pixels):
  from PIL import Image

  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "PNG")
  return file.getvalue()


def error_of(answer):
  status, _, body = answer
  return status, json.loads(body)["error"]


def test_ten_photos_of_the_page_are_those_of_the_index(home, server, sketch):
  opened = open_index(str(home / "index"))
  (expected,) = opened.search(from_pretrained(home / "package").encode_sketches([sketch]), K)
  status, found = search(server.port, sketch, K)
  assert status == 200
  assert [(hit["photo_id"], hit["name"]) for hit in found["hits"]] == [
    (hit.photo_id, hit.name) for hit in expected
  ]
  np.testing.assert_allclose([h["score"] for h in found["hits"]], [h.score for h in expected], 1e-5)


def test_photos_like_a_photo_are_those_of_the_index_without_it(home, server):
  opened = open_index(str(home / "index"))
  some = opened.search(np.ones((1, 10), np.float32), 1)[0][0].photo_id
  (expected,) = opened.search(opened.vector(some)[None], K + 1)
  status, _, body = get(server.port, f"/api/like/{some}?k={K}")
  assert status == 200
  found = [hit["photo_id"] for hit in json.loads(body)["hits"]]
  assert found == [hit.photo_id for hit in expected if hit.photo_id != some]


def test_a_photo_comes_from_the_index_alone(home, server, sketch):
  hit = search(server.port, sketch, 1)[1]["hits"][0]
  moved = home / "photos" / hit["name"]
  moved.rename(home / "moved.jpg")
  status, headers, body = get(server.port, hit["thumbnail"])
  (home / "moved.jpg").rename(moved)
  assert (status, headers["content-type"]) == (200, "image/jpeg")
  assert body == open_index(str(home / "index")).thumbnail(hit["photo_id"])


BLANK = png(np.full((300, 300, 3), 255, np.uint8))
WIDE = png(np.zeros((2, MAX_PIXELS // 2 + 1, 3), np.uint8))


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"", "Nothing was sent, expected an image of a sketch; draw or upload one."),
    (b"not an image", "This file: not a readable image .* copy it again or remove it."),
    (BLANK, "There is nothing on this sheet yet; draw the thing you look for."),
    (BLANK[:60], "This file: not a readable image .*"),
    (bytes(MAX_BYTES + 1), re.escape(TOO_LARGE)),
    (WIDE, "This file: .* pixels, expected at most 24000000 in all and 65500 a side; .*"),
  ],
  ids=["nothing", "text", "blank", "cut", "large", "wide"],
)
def test_what_is_no_sketch_is_one_clear_line(server, data, message):
  status, found = search(server.port, data)
  assert status == 400
  assert re.fullmatch(message, found["error"])


@pytest.mark.parametrize("k", ["0", "49", "-1", "ten", "", "9" * 30, "%C2%B2"])
def test_a_wrong_number_of_photos_is_one_clear_line(server, sketch, k):
  status, found = search(server.port, sketch, k)
  assert status == 400
  assert re.match(r"k='?.*must be a whole number", found["error"])


def test_a_photo_that_is_not_there_is_one_clear_line(server):
  gone = "Photo 999999999999999999 is not in the index any more; search again."
  for path in ("photo", "like"):
    assert error_of(get(server.port, f"/api/{path}/999999999999999999")) == (400, gone)


def test_an_upload_that_never_ends_is_cut_off(server):
  parts = (bytes(1_000_000) for _ in range(40))
  try:
    status, message = error_of(ask(server.port, "POST", "/api/search", parts))
  except OSError:  # the server hung up while we still sent
    return
  assert (status, message) == (413, TOO_LARGE)


CLOSED = [
  "/gradio_api/file=/etc/passwd",
  "/gradio_api/file/etc/passwd",
  "/gradio_api/file=requirements.txt",
  "/file=/etc/passwd",
  "/gradio_api/proxy=http://example.com/",
  "/gradio_api/upload",
  "/gradio_api/component_server",
  "/gradio_api/run/predict",
  "/gradio_api/call/answer",
  "/gradio_api/vibe-code/",
  "/monitoring",
  "/static/../../../../etc/passwd",
  "/assets/..%2f..%2f..%2f..%2fetc/passwd",
  "/api/photo/..%2f..%2fetc%2fpasswd",
  "/docs",
  "/openapi.json",
]


@pytest.mark.parametrize("path", CLOSED)
def test_nothing_else_is_open(server, path):
  for method in ("GET", "POST"):
    status, _, body = ask(server.port, method, path)
    assert status in (404, 405), (method, body[:200])
    assert b"root:" not in body


def test_no_answer_names_a_path_of_the_server(home, server, sketch):
  answers = [get(server.port, path) for path in ("/", "/config", "/api/state", "/theme.css")]
  answers += [ask(server.port, "POST", "/api/search", body) for body in (sketch, b"x", b"")]
  answers += [get(server.port, "/api/photo/12345"), get(server.port, "/gradio_api/info")]
  for _, headers, body in answers:
    text = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
    for path in (str(home), str(REPO), cli.cache_dir().parent.as_posix(), "site-packages"):
      assert path.encode() not in text, (path, text[:200])


def test_a_question_of_the_page_that_cannot_be_read_is_one_clear_line(server):
  config = json.loads(get(server.port, "/config")[2])
  function = next(d for d in config["dependencies"] if any(t[1] == "ask" for t in d["targets"]))
  for question in ('{"sketch": "/etc/passwd"}', "[", "[1]", '{"photo": 99999}'):
    data = {"data": [question, 12], "fn_index": function["id"], "session_hash": "test"}
    headers = {"content-type": "application/json"}
    body = json.dumps(data)
    status, _, _ = ask(server.port, "POST", "/gradio_api/queue/join", body, headers=headers)
    assert status == 200
    said = get(server.port, "/gradio_api/queue/data?session_hash=test")[2].decode()
    assert "process_completed" in said and '\\"alert\\"' in said
    assert "Something went wrong" not in said
    assert '"success":true' in said.replace(" ", "") and "Traceback" not in said


def test_a_name_that_leads_here_from_elsewhere_is_refused(server):
  status, message = error_of(get(server.port, "/api/state", headers={"Host": "evil.example"}))
  assert (status, message) == (
    403,
    "This server answers this machine alone; start it with --host.",
  )
  assert get(server.port, "/api/state", headers={"Host": f"localhost:{server.port}"})[0] == 200


@pytest.mark.parametrize("way", [by_http, by_page])
def test_many_who_search_at_once_all_find_what_one_finds_alone(server, way):
  found = load(server, way(server.port, make_sketches()), searches=100)
  assert found.failures == []


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "serve what? give --index PATH, or demo"),
    (["demo", "--index", "x"], "serve what? give --index PATH, or demo"),
    (["demmo"], "unknown 'demmo', expected demo, demo xmodal or demo pskd"),
    (["--index", "{home}/nowhere", "--port", "0"], "nowhere is no index"),
    (["--index", "{home}/index", "--port", "99999"], "--port 99999 must be from 0 to 65535"),
    (["--index", "{home}/index", "--host", "256.1.1.1"], "256.1.1.1:7860 cannot be opened"),
    (["--index", "{home}/index", "--port", "0", "--model", "{home}/photos"], "is no model package"),
  ],
)
def test_what_cannot_be_served_is_one_line(home, capsys, arguments, message):
  with pytest.raises(SystemExit) as ended:
    cli.tool(serve.main, [word.format(home=home) for word in arguments])
  said = capsys.readouterr().err
  assert (ended.value.code, said.count("\n")) == (2, 1)
  assert message in said


def test_an_address_that_is_taken_is_one_line(home, server, capsys):
  with pytest.raises(SystemExit) as ended:
    cli.tool(serve.main, ["--index", str(home / "index"), "--port", str(server.port)])
  said = capsys.readouterr().err
  assert (ended.value.code, "cannot be opened (Address already in use)" in said) == (2, True)


def test_a_demo_that_has_not_run_is_one_line(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit):
    cli.tool(serve.main, ["demo", "--port", "0"])
  assert "runs/demo/xmodal/package is not there; run ./launch.sh demo xmodal first" in (
    capsys.readouterr().err
  )

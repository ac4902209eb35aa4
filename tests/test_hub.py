"""The hub through huggingface_hub's own client: its cache offline, and a server of our own."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import COMMIT, FILES, serve
from tests.paths import REPO

OLD_COMMIT = "f" * 40
WANTED = ["config.json", "model.safetensors"]
# Reads calls, writes what each gave. A process of its own: the client reads the environment once.
ASK = """
import json, sys
from sbir import hub
from sbir.types import UserError
answers = []
for name, arguments, options in json.load(sys.stdin):
  try:
    answers.append(str(getattr(hub, name)(*arguments, **options)))
  except UserError as error:
    answers.append(f"UserError: {error}")
print(json.dumps(answers))
"""


def ask(calls, **settings):
  kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
  done = subprocess.run(
    [sys.executable, "-c", ASK],
    input=json.dumps(calls),
    env={**kept, "NO_PROXY": "127.0.0.1", **{name: str(s) for name, s in settings.items()}},
    cwd=REPO,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


def fetch(place):
  return "fetch", [place], {"files": WANTED}


def is_one_line(answer, place):
  return answer.startswith(f"UserError: {place} ") and len(answer.splitlines()) == 1


# --- the cache ------------------------------------------------------------------------------------


def fill(home):
  """Makes the cache as the client leaves it: one repository, two commits, main at the newer."""
  repo = home / "hub/models--org--name"
  for commit, number in ((COMMIT, b"2"), (OLD_COMMIT, b"1")):
    for name in (*WANTED, "deep/er/a.npz"):
      blob = repo / "blobs" / f"{commit[:4]}{Path(name).suffix}"
      link = repo / "snapshots" / commit / name
      for path in (blob, link):
        path.parent.mkdir(parents=True, exist_ok=True)
      blob.write_bytes(number)
      link.symlink_to(os.path.relpath(blob, link.parent))
  (repo / "refs").mkdir()
  (repo / "refs/main").write_text(COMMIT)
  return repo / "snapshots"


OFFLINE = {
  "hf:org/name": COMMIT,
  "hf:org/name@main": COMMIT,
  f"hf:org/name@{OLD_COMMIT}": OLD_COMMIT,
  "hf:org/name/config.json": f"{COMMIT}/config.json",
  "hf:org/name/deep/er/a.npz": f"{COMMIT}/deep/er/a.npz",
  f"hf:org/name/deep/er/a.npz@{OLD_COMMIT}": f"{OLD_COMMIT}/deep/er/a.npz",
}
NOT_CACHED = [
  "hf:org/other",
  "hf:org/other/config.json",
  "hf:org/name/other.json",
  "hf:org/name@other",
  f"hf:org/name/config.json@{'a' * 40}",
]


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
  """Returns ({place: answer}, the folder of snapshots) of a process without the network."""
  home = tmp_path_factory.mktemp("home")
  snapshots = fill(home)
  places = [*OFFLINE, *NOT_CACHED]
  calls = [*map(fetch, places), ("fetch", ["hf:org/name"], {"files": ["other.bin", "*.pth"]})]
  calls.append(("push", [str(home), "org/name"], {}))
  answers = ask(calls, HF_HOME=home, HF_HUB_OFFLINE=1)
  return dict(zip([*places, "other files", "push"], answers, strict=True)), snapshots


@pytest.mark.parametrize("place", OFFLINE)
def test_what_is_cached_needs_no_network(offline, place):
  answers, snapshots = offline
  assert answers[place] == str(snapshots / OFFLINE[place])
  assert (snapshots / OFFLINE[place]).exists()


@pytest.mark.parametrize("place", NOT_CACHED)
def test_what_is_not_cached_is_one_line_offline(offline, place):
  answer = offline[0][place]
  assert is_one_line(answer, place)
  assert "is not in the cache, and HF_HUB_OFFLINE is set; set HF_HUB_OFFLINE=0" in answer


def test_a_cached_folder_without_any_of_the_files_is_refused(offline):
  answer = offline[0]["other files"]
  assert is_one_line(answer, "hf:org/name")
  assert "has none of other.bin, *.pth in the cache" in answer


def test_nothing_is_pushed_offline(offline):
  answer = offline[0]["push"]
  assert is_one_line(answer, "hf:org/name") and "set HF_HUB_OFFLINE=0" in answer


# --- the network ----------------------------------------------------------------------------------

REFUSED = {
  "hf:org/absent": "does not exist, or not for you: check the name, or log in with `hf auth login`",
  "hf:org/absent/a.npz": "does not exist, or not for you",
  "hf:org/gated": "asks for your name first: request access at http",
  "hf:org/gated/a.npz": "asks for your name first: request access at http",
  "hf:org/foreign": "is refused by the hub (status 403): log in with `hf auth login`",
  "hf:org/foreign/a.npz": "is refused by the hub (status 403): log in with `hf auth login`",
  "hf:org/broken": "is not in the cache, and the hub cannot be asked",
  "hf:org/name/other.npz": "does not exist in that repository; see http",
  "hf:org/name@other-revision": "does not exist in this revision; see http",
  "hf:org/name/config.json@other-revision": "does not exist in this revision; see http",
  "hf:org/na--me": "is no name of a repository (HFValidationError: Cannot have -- or ..",
}
PUSHES = {"org/name": {}, "hf:org/public": {"private": False}, "org/foreign": {}, "org/absent": {}}


@pytest.fixture(scope="module")
def online(tmp_path_factory):
  """Returns ({place or repository to push to: answer}, what was posted, the server's address)."""
  home = tmp_path_factory.mktemp("home")
  package = tmp_path_factory.mktemp("package")
  for name in WANTED:
    (package / name).write_bytes(FILES[name])
  fetched = ["hf:org/name", "hf:org/second/deep/er/a.npz", *REFUSED]
  calls = [*map(fetch, fetched), *(("push", [str(package), r], o) for r, o in PUSHES.items())]
  with serve() as server:
    answers = ask(calls, HF_HOME=home, HF_ENDPOINT=server.address)
  return dict(zip([*fetched, *PUSHES], answers, strict=True)), server.posted, server.address


def test_of_a_repository_only_the_files_asked_for_are_fetched(online):
  folder = Path(online[0]["hf:org/name"])
  assert folder.name == COMMIT
  there = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*")}
  assert there == {name: FILES[name] for name in WANTED}


def test_a_single_file_is_fetched(online):
  path = Path(online[0]["hf:org/second/deep/er/a.npz"])
  assert path.parts[-4:] == (COMMIT, "deep", "er", "a.npz") and path.read_bytes() == b"zip"


@pytest.mark.parametrize("place", REFUSED)
def test_what_the_hub_refuses_is_one_line(online, place):
  answer = online[0][place]
  assert is_one_line(answer, place) and REFUSED[place] in answer


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path):
  (tmp_path / "a").touch()
  calls = [fetch("hf:org/name"), ("push", [str(tmp_path), "org/name"], {})]
  answers = ask(calls, HF_HOME=tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
  assert all(is_one_line(answer, "hf:org/name") for answer in answers)
  assert all("Connection refused" in answer and "check the network" in answer for answer in answers)


def test_a_folder_is_pushed_whole_into_a_repository_that_is_made(online):
  answers, posted, address = online
  assert answers["org/name"] == f"{address}/org/name"
  bodies = dict(posted)
  lines = map(json.loads, bodies["/api/models/org/name/commit/main"].splitlines())
  files = {
    line["value"]["path"]: base64.b64decode(line["value"]["content"])
    for line in lines
    if line["key"] == "file"
  }
  assert files == {name: FILES[name] for name in WANTED}


def test_a_repository_is_made_private_unless_told_otherwise(online):
  made = [json.loads(body) for path, body in online[1] if path == "/api/repos/create"]
  assert {r["name"]: r["visibility"] for r in made} == {
    "name": "private",
    "public": "public",
    "foreign": "private",
    "absent": "private",
  }


@pytest.mark.parametrize(
  ("repo", "message"),
  [("org/foreign", "is refused by the hub (status 403)"), ("org/absent", "log in")],
)
def test_a_push_that_the_hub_refuses_is_one_line(online, repo, message):
  answer = online[0][repo]
  assert is_one_line(answer, f"hf:{repo}") and message in answer

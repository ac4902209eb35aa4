"""Places that need no huggingface_hub: local paths, forms, and what is said where it is missing."""

import sys
from pathlib import Path

import pytest

from sbir import hub
from sbir.types import UserError

WANTED = ["config.json", "model.safetensors"]


@pytest.fixture
def no_client(monkeypatch):
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)


@pytest.mark.parametrize(
  ("place", "path"),
  [
    ("runs/a", "runs/a"),
    ("~/a", "HOME/a"),
    ("/hf:/a", "/hf:/a"),
    ("~nobody-here/a", "~nobody-here/a"),
  ],
)
def test_a_local_path_is_returned_as_it_is(no_client, monkeypatch, place, path):
  monkeypatch.setenv("HOME", "/home/of/me")
  assert not hub.is_remote(place)
  assert hub.fetch(place, files=WANTED) == Path(path.replace("HOME", "/home/of/me"))


@pytest.mark.parametrize(
  ("place", "parts"),
  [
    ("hf:org/name", ("org/name", None, None)),
    ("hf:a-b.c/d_e.f", ("a-b.c/d_e.f", None, None)),
    ("hf:org/name/a.npz", ("org/name", "a.npz", None)),
    ("hf:org/name/a/b+c/d-e.npz@v1.0", ("org/name", "a/b+c/d-e.npz", "v1.0")),
    ("hf:org/name@refs/pr/1", ("org/name", None, "refs/pr/1")),
  ],
)
def test_a_place_has_parts(place, parts):
  assert hub.is_remote(place) and hub.parse(place) == parts


@pytest.mark.parametrize(
  "place",
  [
    "hf:",
    "hf:name",
    "hf:/org/name",
    "hf://org/name",
    "hf:org/name/",
    "hf:org//name",
    "hf:../name",
    "hf:org/..",
    "hf:org/name/../a",
    "hf:org/name/a/../../b",
    "hf:org/name/.hidden",
    "hf:org/name@",
    "hf:org/name@a@b",
    "hf:org/name@../a",
    "hf:org/name@a..b",
    "hf:org/name@/a",
    "hf:org/name/a b",
    "hf:org/name\n",
    "hf:org/n\u00e4me",
    "hf:org/name?x=1",
    "hf:org/name/a%2e%2e",
    "hf:org\\name/a",
  ],
)
def test_another_form_is_one_line_with_the_right_one(no_client, place):
  with pytest.raises(UserError) as error:
    hub.fetch(place, files=WANTED)
  message = str(error.value)
  assert len(message.splitlines()) == 1
  assert message.startswith(f"{place!r} is no place on the hub, expected {hub.FORM}, for instance")


def test_without_the_client_the_way_to_install_it_is_named(no_client, tmp_path):
  for call in (
    lambda: hub.fetch("hf:org/name", files=WANTED),
    lambda: hub.push(tmp_path, "org/name"),
  ):
    with pytest.raises(UserError) as error:
      call()
    assert str(error.value) == (
      "hf:org/name needs huggingface_hub, which is not installed; run ./launch.sh setup --with hub"
    )


@pytest.mark.parametrize("repo", ["name", "org/name/more", "org/name@main", "../name", "org/", ""])
def test_what_is_no_repository_is_not_pushed_to(no_client, tmp_path, repo):
  with pytest.raises(UserError, match=r"is no repository of the hub, expected org/name$"):
    hub.push(tmp_path, repo)


def test_a_folder_that_is_not_there_is_not_pushed(no_client, tmp_path):
  with pytest.raises(UserError, match="gone is not a folder; give the one to upload to org/name"):
    hub.push(tmp_path / "gone", "org/name")

"""The photos that the page serves after a demo."""

import pytest

from sbir import demo_gallery
from sbir.data.synthetic import CATEGORIES
from sbir.demo_gallery import demo_index, gallery_of
from sbir.photo_index import open_index
from tests.packages import save_package


@pytest.fixture
def home(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(demo_gallery, "SIZE", 16)
  save_package(tmp_path / "runs/demo/xmodal/package", "xmodal-pair")
  save_package(tmp_path / "runs/demo/pskd/package", "pskd")
  return tmp_path


@pytest.mark.parametrize(("method", "num", "kinds"), [("xmodal", 112, 16), ("pskd", 150, 5)])
def test_a_gallery_is_the_demo_s_test_photos_named_by_their_kinds(method, num, kinds):
  names = [name for name, _, _ in gallery_of(method)]
  found = {name.partition("-")[0] for name in names}
  assert (len(set(names)), len(found)) == (num, kinds)
  assert found <= set(CATEGORIES)


def test_a_demo_is_indexed_once(home):
  index = demo_index("xmodal")
  assert open_index(index).num_photos == 112
  before = {path: path.stat().st_mtime_ns for path in home.glob("runs/demo/xmodal/gallery/*")}
  assert demo_index("xmodal") == index
  after = {path: path.stat().st_mtime_ns for path in home.glob("runs/demo/xmodal/gallery/*")}
  assert before == after


def test_a_demo_that_was_trained_again_gets_an_index_of_its_own(home):
  first = demo_index("pskd")
  save_package(home / "runs/demo/pskd/package", "pskd", seed=1)
  assert demo_index("pskd") != first

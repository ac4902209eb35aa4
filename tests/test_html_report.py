"""The HTML file: it holds everything, every word is escaped, nothing comes from the net."""

import base64
import re
from html.parser import HTMLParser

import pytest

from sbir.html_report import Picture, Section, Table, write_html
from sbir.types import UserError

# One grey pixel.
PNG = base64.b64decode(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
NASTY = "<script>alert('&\"')</script> $x_1$"


class Reader(HTMLParser):
  """Collects the text of a page, its pictures, and whether its tags are balanced."""

  VOID = ("meta", "img")

  def __init__(self, path):
    super().__init__()
    self.open, self.text, self.images, self.tags = [], [], [], []
    self.feed(path.read_text())
    assert self.open == []

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    if tag == "img":
      self.images.append(dict(attributes))
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] != "style":
      self.text.append(data.strip())


@pytest.fixture
def picture(tmp_path):
  (tmp_path / "a.png").write_bytes(PNG)
  return tmp_path / "a.png"


def test_the_file_holds_every_word_and_picture(tmp_path, picture):
  table = Table(("name", "value"), [("cat", "1.0"), ("dog", "2.0")], "A caption.")
  sections = [Section("One", [table, Picture(picture, "Seen.")], "Line 1\nLine 2"), Section("Two")]
  page = Reader(write_html(tmp_path / "new" / "report.html", "Title", sections))
  words = [text for text in page.text if text]
  rows = ["name", "value", "cat", "1.0", "dog", "2.0"]
  assert words == [
    *("Title", "Title", "One", "Line 1", "Line 2"), *rows, "A caption.", "Seen.", "Two"
  ]  # fmt: skip
  (image,) = page.images
  assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == PNG
  assert (image["width"], image["height"], image["alt"]) == ("1", "1", "Seen.")


def test_all_text_is_escaped(tmp_path, picture):
  table = Table((NASTY, "b"), [(NASTY, NASTY)], NASTY)
  sections = [Section(NASTY, [table, Picture(picture, NASTY)], NASTY)]
  page = Reader(write_html(tmp_path / "a.html", NASTY, sections))
  assert "script" not in page.tags
  assert page.text.count(NASTY) == 9
  assert page.images[0]["alt"] == NASTY


def test_nothing_comes_from_the_net_and_a_phone_is_told_its_width(tmp_path, picture):
  text = write_html(tmp_path / "a.html", "t", [Section("s", [Picture(picture)])]).read_text()
  assert not re.search(r"https?:|<link|<script|@import|url\(", text)
  assert '<meta name="viewport" content="width=device-width' in text


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda folder: Picture(folder / "none.png"), "none.png cannot be read (No such file"),
    (lambda folder: Picture(folder / "text.png"), "text.png is no PNG, expected one"),
    (lambda folder: Table(("a", "b"), [("x",)]), "a row of 1 cells under a header of 2, expected"),
  ],
)
def test_parts_that_cannot_be_shown_are_refused_and_nothing_is_written(tmp_path, make, message):
  (tmp_path / "text.png").write_text("hello")
  with pytest.raises(UserError, match=re.escape(message)):
    write_html(tmp_path / "a.html", "t", [Section("s", [make(tmp_path)])])
  assert [path.name for path in tmp_path.iterdir()] == ["text.png"]


def test_a_folder_that_cannot_be_made_is_a_users_mistake(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot be written"):
    write_html(tmp_path / "file" / "a.html", "t", [])

"""The page in a headless Chromium, as its user has it. The model is a stand-in that was not trained
(`tests.page_server`); the same story with the demo's is told by `python -m tests.browser_demo`."""

from urllib.parse import urlsplit

import numpy as np
import pytest

pytest.importorskip("gradio", reason="requirements-serve.txt is not installed")
pytest.importorskip("selenium", reason="requirements-test.txt is not installed")

from sbir.data.images import as_jpeg
from sbir.data.synthetic import open_synthetic
from tests import page_browser as page
from tests import page_story as story
from tests.page_process import Server
from tests.page_server import NUM_PHOTOS
from tests.page_strokes import strokes_of

pytestmark = page.needs_browser
RECIPES = [r for r in open_synthetic("test", num_test=NUM_PHOTOS).recipes if r.sketch is None]
MUG = next(recipe for recipe in RECIPES if recipe.category == "mug")
NAME = MUG.record().instance + ".jpg"
LINE = np.array([[-0.5, 0], [0.5, 0.1]])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
  log = tmp_path_factory.mktemp("server") / "log.txt"
  running = Server(log, "tests.page_server", "--port", 0)
  yield running
  running.stop()


@pytest.fixture(scope="module")
def driver():
  opened = page.open_browser()
  yield opened
  opened.quit()


@pytest.fixture
def fresh(driver, server):
  """Returns the driver on a page where nothing is drawn."""
  page.open_page(driver, server.address)
  yield driver
  driver.execute_script("sessionStorage.clear()")


def found(driver, words="Best matches"):
  return page.wait(driver, lambda: words in page.heading(driver) and page.shown(driver))


def test_the_right_photo_reaches_the_first_row_while_it_is_drawn(fresh):
  first, num_strokes, is_there = story.draw_until_found(fresh, MUG, NAME)
  assert is_there and first <= num_strokes
  story.clear(fresh)
  assert not fresh.find_element("css selector", ".undo").is_enabled()


def test_where_the_model_looked_is_shown_beside_a_drawing(fresh):
  page.draw(fresh, [LINE])
  look = "return document.querySelector('.look img')?.naturalWidth || 0"
  assert page.wait(fresh, lambda: fresh.execute_script(look)) == 256


def test_undo_takes_the_last_stroke_back_and_asks_again(fresh):
  page.draw(fresh, [LINE])
  one = found(fresh)
  page.draw(fresh, strokes_of(MUG)[:1])
  page.wait(fresh, lambda: page.shown(fresh) not in ([], one))
  page.click(fresh, ".undo")
  page.wait(fresh, lambda: page.shown(fresh) == one)


def test_an_uploaded_sketch_is_searched_and_a_photo_leads_to_others_like_it(fresh, tmp_path):
  story.upload_sketch(fresh, MUG, tmp_path)
  drawn = page.shown(fresh)
  assert NAME in page.first_row(fresh)
  like = story.more_like_first(fresh)
  assert like not in page.shown(fresh)
  page.click(fresh, ".back-to-drawing")
  assert found(fresh) == drawn


def test_the_number_of_photos_can_be_chosen(fresh):
  page.draw(fresh, [LINE])
  found(fresh)
  page.click(fresh, ".count label:nth-of-type(3)")
  page.wait(fresh, lambda: len(page.shown(fresh)) == 24)


@pytest.mark.parametrize(
  ("name", "data", "message"),
  [
    ("words.png", b"no image", "not a readable image"),
    ("blank.jpg", as_jpeg(np.full((99, 99, 3), 255, np.uint8)), "There is nothing on this sheet"),
    ("huge.png", bytes(8_000_001), "expected at most 8 MB"),
  ],
)
def test_a_wrong_file_is_a_clear_message(fresh, tmp_path, name, data, message):
  (tmp_path / name).write_bytes(data)
  page.upload(fresh, tmp_path / name)
  said = "return [...document.querySelectorAll('[role=alert]')].map(e => e.innerText).join()"
  page.wait(fresh, lambda: message in fresh.execute_script(said))
  assert "Traceback" not in fresh.page_source


def test_a_finger_draws_and_does_not_move_the_page(fresh):
  page.set_width(fresh, page.PHONE)
  up = np.stack([np.zeros(9), np.linspace(0.8, -0.8, 9)], axis=1)
  page.touch(fresh, up)
  found(fresh)
  at, expected = fresh.execute_script("return [scrollY, window.scrolledBefore]")
  assert at == expected


@pytest.mark.parametrize("size", [page.PHONE, page.DESKTOP], ids=["phone", "desktop"])
def test_nothing_is_wider_than_the_screen(fresh, size, tmp_path):
  page.set_width(fresh, size)
  page.draw(fresh, [LINE])
  found(fresh)
  page.screenshot(fresh, tmp_path / f"{size[0]}.png")
  wide = "return [...document.querySelectorAll('.page-body *')].filter(e => {const r = "
  wide += "e.getBoundingClientRect(); return r.right > innerWidth + 1 || r.left < -1}).length"
  assert fresh.execute_script(wide) == 0
  assert fresh.execute_script("return document.documentElement.scrollWidth") <= size[0]


def test_the_page_calls_nobody_else(fresh):
  page.draw(fresh, [LINE])
  found(fresh)
  assert {urlsplit(address).hostname for address in page.called(fresh)} == {"127.0.0.1"}
  assert [entry for entry in fresh.get_log("browser") if "Content Security" in str(entry)] == []


def test_a_page_that_is_loaded_again_has_its_drawing_still(fresh):
  page.draw(fresh, [LINE])
  before = found(fresh)
  fresh.refresh()
  assert found(fresh) == before


def test_a_server_that_is_killed_says_so_and_goes_on_when_it_is_back(fresh, server):
  page.draw(fresh, [LINE])
  before, port = found(fresh), server.port
  gone = lambda: page.text(fresh, ".server-gone")
  server.kill()
  page.wait(fresh, gone)
  assert "Your drawing is safe" in gone()
  page.draw(fresh, strokes_of(MUG))
  server.start("--port", port)
  page.wait(fresh, lambda: not gone() and page.shown(fresh) not in ([], before))
  page.wait(fresh, lambda: NAME in page.first_row(fresh))

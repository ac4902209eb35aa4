"""What a user of the page does and sees, in steps: for the stand-in of the test suite, and for the
demo's true model (`python -m tests.browser_demo`)."""

from PIL import Image

from sbir.data.synthetic import FIRST_SKETCH, SHAPE
from sbir.data.synthetic_objects import make_object
from sbir.data.synthetic_sketch import render_sketch
from tests import page_browser as page
from tests.page_strokes import strokes_of


def draw_until_found(driver, recipe, name):
  """Draws the object of a recipe stroke by stroke; returns after how many strokes its photo was
  first in the first row, and whether it was there in the end."""
  first = None
  strokes = strokes_of(recipe)
  for number, stroke in enumerate(strokes, 1):
    asked = num_answers(driver)
    page.draw(driver, [stroke])
    page.wait(driver, lambda asked=asked: num_answers(driver) > asked)
    page.wait(driver, lambda: page.shown(driver))
    if first is None and name in page.first_row(driver):
      first = number
  return first, len(strokes), name in page.first_row(driver)


def num_answers(driver):
  """Returns how often the grid has changed; counts from the first call on."""
  return driver.execute_script("""
    if (window.answers === undefined) {
      window.answers = 0;
      new MutationObserver(() => window.answers++).observe(
        document.querySelector('.page-right'), {subtree: true, childList: true, attributes: true});
    }
    return window.answers""")


def clear(driver):
  """Presses Clear and waits for the first view."""
  page.click(driver, ".clear")
  page.wait(driver, lambda: "A few of the photos" in page.heading(driver))


def upload_sketch(driver, recipe, folder):
  """Uploads a sketch of the object and waits for the answer."""
  parts = make_object(recipe.category, recipe.generator(0, SHAPE))
  sketch = render_sketch(parts, recipe.generator(0, FIRST_SKETCH + 1), 256)
  Image.fromarray(sketch).save(folder / "sketch.png")
  page.upload(driver, folder / "sketch.png")
  page.wait(driver, lambda: "Best matches" in page.heading(driver) and page.shown(driver))


def more_like_first(driver):
  """Clicks the first photo and waits for those like it; returns its name."""
  name = page.shown(driver)[0]
  page.click(driver, ".hit")
  page.wait(driver, lambda: "More like" in page.heading(driver) and page.shown(driver))
  return name

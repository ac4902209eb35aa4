"""A headless Chromium in front of the page: draws with the mouse, looks at what is shown."""

import json
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

BROWSERS, DRIVERS = ("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)
PROGRAMS = [next(filter(None, map(shutil.which, names)), None) for names in (BROWSERS, DRIVERS)]
needs_browser = pytest.mark.skipif(
  None in PROGRAMS, reason="no Chromium and its driver here: apt-get install chromium-driver"
)
PHONE, DESKTOP = (390, 844), (1280, 900)
SECONDS = 30  # to wait for the page, on a machine with other things to do


def open_browser():
  """Returns a driver; the caller quits it."""
  options = webdriver.ChromeOptions()
  options.binary_location = PROGRAMS[0]
  for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars"):
    options.add_argument(f"--{flag}")
  options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
  return webdriver.Chrome(options, webdriver.ChromeService(PROGRAMS[1]))


def set_width(driver, size):
  """Makes the page as wide as the screen of a phone or a desktop, exactly."""
  width, height = size
  metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
  driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def open_page(driver, address, size=DESKTOP):
  """Opens the page and waits until it can be drawn on."""
  set_width(driver, size)
  driver.get(address)
  wait(driver, lambda: shown(driver))


def wait(driver, condition, seconds=SECONDS):
  """Waits until the condition is true; returns what it returned."""
  return WebDriverWait(driver, seconds, 0.1).until(lambda _: condition())


def canvas(driver):
  return driver.find_element(By.CSS_SELECTOR, ".drawing canvas")


def draw(driver, strokes):
  """Draws strokes with the mouse; points run from -1 to 1 over the canvas."""
  driver.execute_script("arguments[0].scrollIntoView({block: 'nearest'})", canvas(driver))
  half = canvas(driver).size["width"] / 2 - 2
  for stroke in strokes:
    (x, y), *rest = [(round(x * half), round(y * half)) for x, y in stroke]
    mouse = ActionChains(driver, duration=0)
    mouse.move_to_element_with_offset(canvas(driver), x, y).click_and_hold()
    for x, y in rest:
      mouse.move_to_element_with_offset(canvas(driver), x, y)
    mouse.release().perform()


def shown(driver):
  """Returns the names of the photos in the grid, best first, once their pictures are there."""
  ask = """return [...document.querySelectorAll('.hit img')]
    .map(image => image.complete && image.naturalWidth ? image.alt : null)"""
  names = driver.execute_script(ask)
  return [] if None in names else names


def first_row(driver):
  """Returns the names of the photos in the grid's first row."""
  ask = """const hits = [...document.querySelectorAll('.hit')];
    return hits.filter(hit => hit.offsetTop === hits[0].offsetTop)
      .map(hit => hit.querySelector('img').alt)"""
  return driver.execute_script(ask)


def text(driver, selector):
  """Returns the text of what is shown there, "" if nothing is: in one step, for the page may be
  loaded again at any time."""
  ask = (
    "const e = document.querySelector(arguments[0]); return e && e.offsetParent ? e.innerText : ''"
  )
  return driver.execute_script(ask, selector)


def heading(driver):
  return text(driver, ".found")


def click(driver, selector):
  element = driver.find_element(By.CSS_SELECTOR, selector)
  driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
  element.click()


def upload(driver, path):
  driver.find_element(By.CSS_SELECTOR, ".upload input").send_keys(str(path))


def called(driver):
  """Returns the addresses that the browser has asked for since the last time."""
  events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
  return [
    event["params"]["request"]["url"]
    for event in events
    if event["method"] == "Network.requestWillBeSent"
    and not event["params"]["request"]["url"].startswith(("data:", "blob:"))
  ]


def touch(driver, stroke):
  """Draws a stroke with a finger."""
  driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas(driver))
  box = driver.execute_script(
    "return arguments[0].getBoundingClientRect().toJSON()", canvas(driver)
  )
  half = box["width"] / 2
  points = [{"x": box["x"] + half * (1 + x), "y": box["y"] + half * (1 + y)} for x, y in stroke]
  send = lambda kind, points: driver.execute_cdp_cmd(
    "Input.dispatchTouchEvent", {"type": kind, "touchPoints": points}
  )
  driver.execute_script("window.scrolledBefore = scrollY")
  send("touchStart", points[:1])
  for point in points[1:]:
    send("touchMove", [point])
  send("touchEnd", [])


def screenshot(driver, path):
  """Saves the page from its top to the bottom of the screen."""
  driver.execute_script("window.scrollTo(0, 0)")
  driver.save_screenshot(str(path))

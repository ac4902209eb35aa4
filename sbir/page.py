"""The page: a canvas, the photos found, where the model looked. The only file that knows Gradio.

Gradio carries questions and answers; what the browser must remember is in page_files/page.js.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sbir import page_html
from sbir.page_api import OURS, make_api, report
from sbir.page_gate import AT_HOME, App, Gate
from sbir.page_look import look_at
from sbir.page_search import Searcher
from sbir.page_sketch import MAX_BYTES, TOO_LARGE, PageError, from_data_url

if TYPE_CHECKING:
  from gradio import Blocks

FILES = Path(__file__).with_name("page_files")
TITLE = "Find a photo with a drawing"
COUNTS, SHOWN = (6, 12, 24, 48), 12  # photos to choose from, and at first
MAX_BODY = 4 * MAX_BYTES // 3 + 100_000  # an upload in base64 in JSON
MOST_WAITING = 200  # questions
FIRST = "A few of the photos.", "Draw what you look for."
FOUND = "Best matches first.", "Click one for more like it."


def make_app(searcher: Searcher, address: str, *, for_all: bool) -> App:
  """Returns the whole server. `address` is what its users call; `for_all`: also other machines."""
  os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
  import gradio as gr

  system = ["system-ui", "sans-serif"]  # any other Gradio would fetch from Google
  theme = gr.themes.Base(font=system, font_mono=["ui-monospace", "monospace"])
  blocks = make_blocks(searcher, address)
  app = gr.mount_gradio_app(
    make_api(searcher),
    blocks,
    path="/",
    footer_links=[],
    run_history=False,
    show_error=False,
    max_file_size=1,
    ssr_mode=False,
    enable_monitoring=False,
    mcp_server=False,
    pwa=False,
    theme=theme,
    css=(FILES / "page.css").read_text("utf-8"),
  )
  hosts = () if for_all else AT_HOME
  return Gate(app, max_body=MAX_BODY, too_large=TOO_LARGE, hosts=hosts)


def make_blocks(searcher: Searcher, address: str) -> "Blocks":
  """Returns the page's parts and what happens when one of them is used."""
  import gradio as gr

  with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
    gr.HTML(page_html.header(searcher.num_photos), padding=False)
    with gr.Row(elem_classes="page-body"):
      with gr.Column(elem_classes="page-left", min_width=300):
        canvas = _canvas()
        looked = gr.HTML("", elem_classes="looked", padding=False)
      with gr.Column(elem_classes="page-right", min_width=300):
        with gr.Row(elem_classes="results-head"):
          heading = gr.HTML(page_html.heading(*FIRST), elem_classes="heading", padding=False)
          count = gr.Radio(
            COUNTS, value=SHOWN, label="Photos", elem_classes="count", container=False
          )
        grid = gr.HTML(elem_classes="results", padding=False)
    gr.HTML(page_html.footer(address, MAX_BYTES), elem_classes="page-foot", padding=False)

    def answer(question: str, k: int) -> tuple[Any, Any]:
      try:
        return _answer(searcher, question, int(k))
      except PageError as error:
        return page_html.problem(str(error)), gr.skip()
      except Exception as error:
        report(error)
        return page_html.problem(OURS), gr.skip()

    def look(question: str) -> str:
      try:
        return look_at(searcher.model, _sketch_of(question))
      except PageError:
        return ""

    shared = {
      "show_progress": "hidden",
      "api_visibility": "private",
      "trigger_mode": "always_last",
      "concurrency_limit": 4,
    }
    one_by_one = {**shared, "concurrency_limit": 1}
    canvas.ask(answer, [canvas, count], [heading, grid], **shared).then(
      look, canvas, looked, **one_by_one
    )
    count.change(answer, [canvas, count], [heading, grid], **shared)
  blocks.queue(max_size=MOST_WAITING, api_open=False)
  return blocks


def _canvas() -> Any:
  import gradio as gr

  script = (FILES / "page.js").read_text("utf-8")
  return gr.HTML(
    "{}",
    html_template=(FILES / "canvas.html").read_text("utf-8"),
    js_on_load=script.replace("__MAX_UPLOAD__", str(MAX_BYTES)),
    elem_classes="drawing",
    padding=False,
    apply_default_css=False,
  )


def _answer(searcher: Searcher, question: str, k: int) -> tuple[str, str]:
  """Returns (heading, photos). Raises: PageError."""
  asked = _read(question)
  tiles = lambda hits, **words: page_html.grid(hits, searcher.started, **words)
  if isinstance(photo_id := asked.get("photo"), int):
    name, hits = searcher.more_like(photo_id, k)
    return page_html.like_heading(photo_id, name, searcher.started), tiles(hits)
  if "sketch" not in asked:
    return page_html.heading(*FIRST), tiles(searcher.some(k), with_scores=False)
  hits = searcher.by_sketch(_sketch_of(question), k)
  return page_html.heading(*FOUND), tiles(hits)


def _sketch_of(question: str) -> bytes:
  return from_data_url(str(_read(question).get("sketch", "")))


def _read(question: str) -> dict[str, Any]:
  try:
    asked = json.loads(question or "{}")
  except (ValueError, TypeError, RecursionError):
    asked = None
  if not isinstance(asked, dict):
    raise PageError("This question cannot be read; load the page again.")
  return asked

"""Asks an index with a drawing, and shows what it found."""

import base64
import html
import tempfile
import webbrowser
from pathlib import Path
from typing import Any, NamedTuple

from sbir.data.images import decode
from sbir.index_build import model_of
from sbir.photo_folder import thumbnail_of
from sbir.photo_index import Hit, open_index
from sbir.places import local
from sbir.progress import say

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Photos found</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.4 system-ui, sans-serif; margin: 1rem; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1rem; }}
figure {{ margin: 0; }} img {{ width: 100%; height: 150px; object-fit: contain; background: #eee; }}
figcaption {{ font-size: .8rem; overflow-wrap: anywhere; }}
</style></head><body><main>
{figures}
</main></body></html>
"""
FIGURE = """<figure><a href="{link}"><img alt="{name}" src="data:image/jpeg;base64,{data}"></a>
<figcaption>{name}<br>{words}</figcaption></figure>"""


class Found(NamedTuple):
  """What a drawing found."""

  index: str
  sketch: Path
  folder: Path  # of the photos
  hits: list[Hit]
  thumbnails: list[bytes]  # JPEG

  def as_json(self) -> dict[str, Any]:
    """Returns it as plain values."""
    rows = [{**hit._asdict(), "file": str(self.folder / hit.name)} for hit in self.hits]
    return {"index": self.index, "sketch": str(self.sketch), "results": rows}


def search(index: str, model: str | None, sketch: str, k: int) -> Found:
  """Returns the k photos nearest to a drawing.

  Raises: UserError if it cannot be read, there is no index, or `model` is another than the index's.
  """
  path = local(sketch, "--sketch")
  decode(path)  # before the model is loaded, which takes seconds
  opened = open_index(index)
  try:
    _, network = model_of(opened.table, index, model)
    (hits,) = opened.search(network.encode_sketches([path]), k)
    pictures = [opened.thumbnail(hit.photo_id) for hit in hits]
    return Found(index, path, Path(opened.table.about("folder")), hits, pictures)
  finally:
    opened.close()


def show(found: Found) -> Path:
  """Writes a page with the drawing and the photos, opens it in a browser, and returns it."""
  page = Path(tempfile.mkdtemp(prefix="found-")) / "found.html"
  page.write_text(as_page(found), encoding="utf-8")
  say(f"{page}: the photos found")
  webbrowser.open(page.as_uri())
  return page


def as_page(found: Found) -> str:
  """Returns a page of HTML that needs no other file; its links lead to the photos."""
  drawing = _figure(
    found.sketch, found.sketch.name, "the drawing", thumbnail_of(decode(found.sketch))
  )
  photos = [
    _figure(found.folder / hit.name, hit.name, f"{hit.score:.3f}", picture)
    for hit, picture in zip(found.hits, found.thumbnails, strict=True)
  ]
  return PAGE.format(figures="\n".join([drawing, *photos]))


def _figure(path: Path, name: str, words: str, picture: bytes) -> str:
  return FIGURE.format(
    link=html.escape(path.absolute().as_uri()),
    name=html.escape(name),
    words=html.escape(words),
    data=base64.b64encode(picture).decode("ascii"),
  )

"""The page's words and pictures as HTML. Pure; whatever comes from a file name is escaped."""

import html
from collections.abc import Sequence
from typing import Protocol


class Hit(Protocol):
  """A photo that was found."""

  photo_id: int
  name: str  # relative to the photo folder
  score: float  # cosine similarity


def grid(hits: Sequence[Hit], version: str, *, with_scores: bool = True) -> str:
  """Returns the photos, best first; a click on one asks for more like it.

  `version` names this start of the server: a browser keeps no photo of another index.
  """
  return f'<div class="hits">{"".join(_tile(hit, version, with_scores) for hit in hits)}</div>'


def _tile(hit: Hit, version: str, with_scores: bool) -> str:
  name = html.escape(hit.name, quote=True)
  short = html.escape(hit.name.rpartition("/")[2])
  score = f'<span class="score">{hit.score:.2f}</span>' if with_scores else ""
  return (
    f'<button type="button" class="hit" data-photo="{hit.photo_id}" title="{name}: more like this">'
    f'<img src="api/photo/{hit.photo_id}?v={version}" alt="{name}">'
    f'<span class="caption"><span class="name">{short}</span>{score}</span></button>'
  )


def heading(text: str, more: str) -> str:
  """Returns the line above the photos; a narrow screen leaves `more` out."""
  more = f'<span class="more">{html.escape(more)}</span>'
  return f'<p class="found" role="status"><span>{html.escape(text)}</span>{more}</p>'


def problem(text: str) -> str:
  """Returns a message in place of that line."""
  return f'<p class="found problem" role="alert">{html.escape(text)}</p>'


def like_heading(photo_id: int, name: str, version: str) -> str:
  """Returns the line above photos that are like one of them, with the way back."""
  name = html.escape(name, quote=True)
  return (
    f'<p class="found" role="status"><img src="api/photo/{photo_id}?v={version}" alt="{name}">'
    f'<span>More like this photo</span><button type="button" class="back-to-drawing">'
    "Back to my drawing</button></p>"
  )


def header(num_photos: int) -> str:
  """Returns the page's head, and what is shown while the server does not answer."""
  photos = "1 photo" if num_photos == 1 else f"{num_photos:,} photos".replace(",", " ")
  return (
    '<header class="page-head"><h1>Find a photo with a drawing</h1>'
    f"<p>{photos} to look through. Results follow every stroke.</p></header>"
    '<p class="server-gone" role="alert" hidden>The server does not answer. Your drawing is safe '
    "in this window; the search goes on as soon as the server is back.</p>"
  )


def footer(address: str, max_upload: int) -> str:
  """Returns the foot: the API in one line of curl and one of Python, and what becomes of data."""
  url = html.escape(f"{address}/api/search?k=10")
  curl = f"curl --data-binary @sketch.png '{url}'"
  python = (
    "import json, urllib.request as r; "
    f"json.load(r.urlopen('{url}', open('sketch.png', 'rb').read()))['hits']"
  )
  return (
    "<details><summary>Search from a program</summary>"
    f"<pre>{curl}</pre><pre>{python}</pre>"
    "<p>The answer lists <code>photo_id</code>, <code>name</code>, <code>score</code> (cosine "
    "similarity) and <code>thumbnail</code>; <code>/api/like/ID?k=10</code> finds photos like one "
    "of them. A mistake is answered with <code>error</code>, one line.</p></details>"
    f"<details><summary>Privacy and limits</summary><p>Drawings and uploads go to this server "
    "alone and are kept only until they are answered. The page calls nothing else on the "
    f"net. Files up to {max_upload // 1_000_000} MB.</p></details>"
  )

"""The page's plain HTTP: searches for programs, and the small photos that the page shows.

POST /api/search?k=10      a sketch's file as the body -> hits
GET  /api/like/ID?k=10     photos like a photo -> hits
GET  /api/photo/ID         its thumbnail, a JPEG
GET  /api/state            how many photos there are, and which start of the server answers
"""

import sys
import traceback
from typing import TYPE_CHECKING, Any

from sbir.page_html import Hit
from sbir.page_search import Searcher
from sbir.page_sketch import PageError

if TYPE_CHECKING:
  from fastapi import FastAPI

FOUND_BY_DEFAULT = 10
OURS = "Something went wrong in the server; its log says what. Try again."


def make_api(searcher: Searcher) -> "FastAPI":
  """Returns the application; every answer but a thumbnail is JSON, a mistake's {"error": line}."""
  from fastapi import FastAPI, Request
  from fastapi.concurrency import run_in_threadpool
  from fastapi.responses import JSONResponse, Response
  from starlette.requests import ClientDisconnect

  api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

  async def search(request: Request) -> JSONResponse:
    data, k = await request.body(), _number(request.query_params)
    return JSONResponse(as_json(await run_in_threadpool(searcher.by_sketch, data, k)))

  async def like(request: Request) -> JSONResponse:
    k, photo_id = _number(request.query_params), int(request.path_params["photo_id"])
    return JSONResponse(as_json((await run_in_threadpool(searcher.more_like, photo_id, k)).hits))

  async def photo(request: Request) -> Response:
    photo_id = int(request.path_params["photo_id"])
    jpeg = await run_in_threadpool(searcher.thumbnail, photo_id)
    return Response(jpeg, media_type="image/jpeg", headers={"cache-control": "max-age=86400"})

  async def state(request: Request) -> JSONResponse:
    return JSONResponse({"photos": searcher.num_photos, "started": searcher.started})

  async def refuse(request: Request, error: PageError) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 400)

  async def let_go(request: Request, error: ClientDisconnect) -> Response:
    return Response()  # to nobody

  async def fail(request: Request, error: Exception) -> JSONResponse:
    report(error)
    return JSONResponse({"error": OURS}, 500)

  api.add_route("/api/search", search, ["POST"])
  api.add_route("/api/like/{photo_id:int}", like)
  api.add_route("/api/photo/{photo_id:int}", photo)
  api.add_route("/api/state", state)
  api.add_exception_handler(PageError, refuse)
  api.add_exception_handler(ClientDisconnect, let_go)
  api.add_exception_handler(Exception, fail)
  return api


def as_json(hits: list[Hit]) -> dict[str, Any]:
  """Returns what a program is answered."""
  fields = lambda hit: {
    "photo_id": hit.photo_id,
    "name": hit.name,
    "score": round(float(hit.score), 6),
    "thumbnail": f"/api/photo/{hit.photo_id}",
  }
  return {"hits": [fields(hit) for hit in hits]}


def report(error: Exception) -> None:
  """Prints what went wrong on the server's stderr: it is our bug, or the index is gone."""
  traceback.print_exception(error, file=sys.stderr)


def _number(query: Any) -> int:
  text = query.get("k", str(FOUND_BY_DEFAULT))
  if not text.isascii() or not text.isdigit() or len(text) > 9:
    raise PageError(f"k={text[:20]!r} must be a whole number; write ?k=10.")
  return int(text)

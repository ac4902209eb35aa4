r"""Serves a page to draw on, which finds photos of an index with every stroke.

  python -m sbir.serve --index PATH                       (or ./launch.sh serve --index PATH)
  python -m sbir.serve demo                               the photos of a demo that has run

The model is the one that the index was built with; --model names it where it has moved to. The page
answers this machine alone unless --host says otherwise: it asks nobody for a password.
"""

import importlib.util
import os
import socket
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sbir import cli
from sbir.page_gate import AT_HOME, App
from sbir.user_error import UserError

if TYPE_CHECKING:
  from sbir.page_search import Searcher

HOST, PORT = "127.0.0.1", 7860
EVERYWHERE = ("0.0.0.0", "::")
SECONDS_TO_END = 2  # for answers that are on their way; then open pages are left alone


def main(arguments: Sequence[str]) -> None:
  """Parses the command line, opens the index and serves until it is stopped."""
  options = _parse(arguments)
  if importlib.util.find_spec("gradio") is None:
    raise UserError("gradio is not installed; run ./launch.sh setup --with serve")
  serve(lambda: _open(options), options.host, options.port)


def serve(open_searcher: Callable[[], "Searcher"], host: str, port: int) -> None:
  """Serves until the process is told to end; takes the address before it opens anything.

  Raises: UserError if the address is not to be had, and what `open_searcher` raises.
  """
  with _listen(host, port) as listening:
    searcher = open_searcher()
    address = f"http://{_called(host)}:{listening.getsockname()[1]}"
    from sbir.page import make_app

    app = make_app(searcher, address, for_all=host not in AT_HOME)
    print(f"{searcher.num_photos} photos to draw for: {address} (Ctrl-C ends it)", flush=True)
    _run(app, listening)


def _called(host: str) -> str:
  """Returns what to write into a browser for an address to listen at."""
  return "localhost" if host in EVERYWHERE else f"[{host}]" if ":" in host else host


def _parse(arguments: Sequence[str]) -> Namespace:
  flags = cli.parser(__doc__)
  words = "demo: the photos of the demo that has run; demo pskd: of the other one"
  flags.add_argument("demo", nargs="*", metavar="demo [METHOD]", help=words)
  flags.add_argument("--index", metavar="PATH", type=cli.folder, help="of python -m sbir.index")
  flags.add_argument("--model", metavar="PKG", help="its model's package, if it has moved")
  flags.add_argument("--host", default=HOST, help=f"the address to answer at ({HOST})")
  flags.add_argument("--port", type=int, default=PORT, help=f"0: any that is free ({PORT})")
  options = flags.parse_args(arguments)
  if bool(options.demo) == bool(options.index):
    flags.error("serve what? give --index PATH, or demo")
  if options.demo and options.demo not in (["demo"], ["demo", "xmodal"], ["demo", "pskd"]):
    flags.error(f"unknown {' '.join(options.demo)!r}, expected demo, demo xmodal or demo pskd")
  return options


def _listen(host: str, port: int) -> socket.socket:
  """Returns a socket that listens. Raises: UserError if the address is taken, or not ours."""
  if not 0 <= port <= 65_535:
    raise UserError(f"--port {port} must be from 0 to 65535; 0 takes any that is free")
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  try:
    return socket.create_server((host, port), family=family, backlog=512)
  except OSError as error:
    reason = os.strerror(error.errno) if (error.errno or 0) > 0 else error.strerror or error
    raise UserError(f"{host}:{port} cannot be opened ({reason}); choose another --port") from None


def _open(options: Namespace) -> "Searcher":
  from sbir.index_build import model_of
  from sbir.page_search import Searcher
  from sbir.photo_index import open_index

  place = options.index
  if options.demo:
    from sbir.demo_gallery import demo_index

    place = demo_index(options.demo[1] if options.demo[1:] else "xmodal")
  index = open_index(place)
  return Searcher(model_of(index.table, place, options.model)[1], index)


def _run(app: App, listening: socket.socket) -> None:
  import uvicorn

  config = uvicorn.Config(
    app,
    log_level="warning",
    access_log=False,
    server_header=False,
    timeout_graceful_shutdown=SECONDS_TO_END,
  )
  try:
    uvicorn.Server(config).run(sockets=[listening])
  except KeyboardInterrupt:
    print("ended", file=sys.stderr)


if __name__ == "__main__":
  cli.tool(main)

r"""Serves a page to draw on, which finds photos of an index with every stroke.

  python -m sbir.serve --index PATH                       (or ./launch.sh serve --index PATH)
  python -m sbir.serve demo                               the photos of a demo that has run

The model is the one that the index was built with; --model names it where it has moved to. The page
answers this machine alone unless --host says otherwise: it asks nobody for a password.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from socket import socket

from sbir import cli
from sbir.user_error import UserError

HOST, PORT = "127.0.0.1", 7860
SECONDS_TO_END = 2  # for answers that are on their way; then open pages are left alone


def main(arguments: Sequence[str]) -> None:
  """Parses the command line, opens the index and serves until it is stopped."""
  options = _parse(arguments)
  listening = _listen(options.host, options.port)
  with listening:
    import uvicorn

    from sbir.page import make_app

    searcher = _open(options)
    host, port = listening.getsockname()[:2]
    address = f"http://{'localhost' if host in ('0.0.0.0', '::') else host}:{port}"
    app = make_app(searcher, address, for_all=not is_at_home(host))
    config = uvicorn.Config(
      app,
      log_level="warning",
      access_log=False,
      server_header=False,
      timeout_graceful_shutdown=SECONDS_TO_END,
    )
    print(f"{searcher.num_photos} photos to draw for at {address} (Ctrl-C ends it)", flush=True)
    try:
      uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
      print("ended", file=sys.stderr)


if __name__ == "__main__":
  cli.tool(main)

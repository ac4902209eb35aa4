"""What stands before the page: only the addresses that it needs are answered, uploads are measured
while they come, and no answer lets the browser call anybody else.

Gradio's other addresses (uploads to the disk, files, proxies) do not exist here.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

OPEN = re.compile(
  r"/|/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json)/?"
  r"|/(assets|static|svelte)/[\w./@-]+"
  r"|/api/(search|state|like/\d{1,18}|photo/\d{1,18})"
  r"|/gradio_api/(queue/join|queue/data|cancel|reset|info|startup-events|app_id|theme\.css)/?"
  r"|/gradio_api/heartbeat/\w+"
)
AT_HOME = frozenset(("localhost", "127.0.0.1", "::1"))
MOST_AT_ONCE = 256_000_000  # bytes of all uploads that are on their way
BUSY = "Too many uploads at once; try again in a moment."
HEADERS = {
  "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
  "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
  "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
  "form-action 'self'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "x-dns-prefetch-control": "off",
}


class Gate:
  """An ASGI application around another one."""

  def __init__(self, app: App, *, max_body: int, too_large: str, hosts: Iterable[str] = ()):
    """`hosts`: the names under which the server answers, any if there is none given. A server for
    this machine alone must know: a stranger's page can call itself by a name that leads here."""
    self._app, self._hosts = app, frozenset(hosts)
    self._max_body, self._too_large = max_body, too_large
    self._on_the_way = 0

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers one request."""
    if scope["type"] == "lifespan":
      await self._app(scope, receive, send)
    elif scope["type"] != "http":
      await send({"type": "websocket.close"})
    elif self._hosts and _host(scope) not in self._hosts:
      await _answer(send, 403, "This server answers this machine alone; start it with --host.")
    elif not OPEN.fullmatch(scope["path"]) or ".." in scope["path"]:
      await _answer(send, 404, "There is nothing at this address.")
    else:
      await self._pass(scope, receive, send)

  async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
    taken, is_refused = 0, False

    async def refuse(status: int, text: str) -> MutableMapping[str, Any]:
      nonlocal is_refused
      is_refused = True
      await _answer(send, status, text)
      return {"type": "http.disconnect"}  # for the application, nobody is there any more

    async def measured() -> MutableMapping[str, Any]:
      nonlocal taken
      message = await receive()
      taken += len(message.get("body", b""))
      self._on_the_way += len(message.get("body", b""))
      if is_refused:
        return {"type": "http.disconnect"}
      if taken > self._max_body:
        return await refuse(413, self._too_large)
      if self._on_the_way > MOST_AT_ONCE:
        return await refuse(503, BUSY)
      return message

    async def guarded(message: MutableMapping[str, Any]) -> None:
      if is_refused:
        return
      if message["type"] == "http.response.start":
        message = {**message, "headers": [*message.get("headers", ()), *_headers(HEADERS)]}
      await send(message)

    try:
      if _length(scope) > self._max_body:
        await refuse(413, self._too_large)
      else:
        await self._app(scope, measured, guarded)
    finally:
      self._on_the_way -= taken


def _headers(named: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
  return [(name.encode(), value.encode()) for name, value in named.items()]


def _header(scope: Scope, name: bytes) -> str:
  return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _host(scope: Scope) -> str:
  """Returns the name that the browser called, without its port."""
  return re.sub(r":\d+$", "", _header(scope, b"host")).strip("[]").lower()


def _length(scope: Scope) -> int:
  text = _header(scope, b"content-length")
  return int(text) if text.isdigit() else 0


async def _answer(send: Send, status: int, text: str) -> None:
  body = json.dumps({"error": text}).encode()
  kind = {"content-type": "application/json", "content-length": str(len(body))}
  headers = _headers({**kind, **HEADERS, "connection": "close"})
  await send({"type": "http.response.start", "status": status, "headers": headers})
  await send({"type": "http.response.body", "body": body})

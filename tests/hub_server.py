"""A hub of one's own: answers huggingface_hub's client on this machine, as far as we ask it."""

import contextlib
import hashlib
import http.server
import json
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b'{"format": 1}', "model.safetensors": b"weights", "deep/er/a.npz": b"zip"}
# How the hub refuses: what stands in the repository's name -> status and the word for it.
REFUSALS = {
  "absent": (401, "RepoNotFound"),
  "gated": (403, "GatedRepo"),
  "foreign": (403, ""),
  "broken": (404, ""),
}


class Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    parts = self.path.split("?")[0].split("/")
    if refusal := self.refusal():
      self.answer(b"{}", *refusal)
    elif "tree" in parts:
      self.answer(json.dumps([self.entry(name, data) for name, data in FILES.items()]).encode())
    elif "resolve" in parts:
      name = "/".join(parts[parts.index("resolve") + 2 :])
      if name in FILES:
        self.answer(FILES[name])
      else:
        self.answer(b"", 404, "EntryNotFound")
    else:
      self.answer(json.dumps({"id": "org/name", "sha": COMMIT, "siblings": []}).encode())

  do_HEAD = do_GET

  def do_POST(self):
    body = self.rfile.read(int(self.headers["Content-Length"]))
    self.server.posted.append((self.path, body))
    if refusal := self.refusal(body.decode()):
      self.answer(b"{}", *refusal)
    elif "preupload" in self.path:
      names = [file["path"] for file in json.loads(body)["files"]]
      files = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
      self.answer(json.dumps({"files": files}).encode())
    elif self.path.startswith("/api/repos/create"):
      self.answer(json.dumps({"url": f"{self.server.address}/org/name"}).encode())
    else:
      url = f"{self.server.address}/org/name/commit/{COMMIT}"
      self.answer(json.dumps({"commitUrl": url, "commitOid": COMMIT}).encode())

  def refusal(self, more=""):
    if "/other-revision" in self.path:
      return 404, "RevisionNotFound"
    return next((said for word, said in REFUSALS.items() if word in self.path + more), None)

  def entry(self, name, data):
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

  def answer(self, body, status=200, code=""):
    self.send_response(status)
    headers = {"Content-Length": len(body), "X-Repo-Commit": COMMIT, "X-Error-Code": code}
    headers["ETag"] = f'"{hashlib.sha1(body).hexdigest()}"'
    for name, value in headers.items():
      if value != "":
        self.send_header(name, str(value))
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(body)

  def log_message(self, *_):
    pass


@contextlib.contextmanager
def serve():
  """Yields a server with `address` and `posted`, the (path, body) of what was sent to it."""
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    server.posted = []
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()

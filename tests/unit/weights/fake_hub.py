"""A server on this machine that answers as the Hugging Face Hub does to uploads and downloads."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_of_this_test"
COMMIT = "c" * 40


@dataclass
class FakeHub:
    """What it holds, and what was asked of it.

    Attributes:
        url: of the server.
        files: ``owner/name/file`` → content.
        private: repository → whether it is private.
        asked: method and path of every request.
        refuse: whether it refuses every token.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuse: bool = False
    large: dict[str, bytes] = field(default_factory=dict)


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that runs meanwhile."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = self.path_of("POST")
        if self.hub.refuse or self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid credentials"}, 401)
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            files = [{**f, "uploadMode": self.mode(f), "shouldIgnore": False}
                     for f in json.loads(body)["files"]]  # fmt: skip
            self.answer({"files": files})
        elif path.endswith("/info/lfs/objects/batch"):
            self.answer(self.places(json.loads(body)))
        elif path.endswith("/commit/main"):
            self.commit(path.split("/")[3:5], [json.loads(line) for line in body.splitlines()])
        else:
            self.answer({"error": f"no such place: {path}"}, 404)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.path_of("PUT")
        self.hub.large[hashlib.sha256(content).hexdigest()] = content
        self.answer({})

    def do_HEAD(self) -> None:
        self.file("HEAD")

    def do_GET(self) -> None:
        self.file("GET")

    def path_of(self, method: str) -> str:
        path = urlsplit(self.path).path
        self.hub.asked.append(f"{method} {path}")
        return path

    def create(self, wanted: dict[str, Any]) -> None:
        name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.hub.private[name] = bool(private)
        self.answer({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    @staticmethod
    def mode(file: dict[str, Any]) -> str:
        return "lfs" if file["path"].endswith(".safetensors") else "regular"

    def places(self, wanted: dict[str, Any]) -> dict[str, Any]:
        def upload(item: dict[str, Any]) -> dict[str, Any]:
            where = {"href": f"{self.hub.url}/upload/{item['oid']}"}
            return {**item, "actions": {"upload": where}}

        return {"transfer": "basic", "objects": [upload(item) for item in wanted["objects"]]}

    def commit(self, owner_and_name: list[str], lines: list[dict[str, Any]]) -> None:
        repository = "/".join(owner_and_name)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self.hub.large[value["oid"]]
            else:
                continue
            self.hub.files[f"{repository}/{value['path']}"] = content
        url = f"{self.hub.url}/{repository}/commit/{COMMIT}"
        self.answer({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})

    def file(self, method: str) -> None:
        owner, name, resolve, _, *rest = [*self.path_of(method).strip("/").split("/"), *[""] * 4]
        key = f"{owner}/{name}/{'/'.join(filter(None, rest))}"
        content = self.hub.files.get(key) if resolve == "resolve" else None
        if content is None:
            known = f"{owner}/{name}" in self.hub.private
            code = "EntryNotFound" if known else "RepoNotFound"
            self.answer({"error": "not found"}, 404, {"X-Error-Code": code})
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if method == "GET":
            self.wfile.write(content)

    def answer(
        self, value: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, said in (headers or {}).items():
            self.send_header(name, said)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass

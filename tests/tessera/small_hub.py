"""A hub of one process: as much of the Hugging Face hub's HTTP interface as pushing and pulling a bundle uses."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

TOKEN = "hf_secret"


@dataclass
class Repository:
    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.branches.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None

    def add(self, branch: str, files: dict[str, bytes]) -> str:
        before = self.files(branch)
        whole = {**(before[1] if before else {}), **files}
        commit = sha1(b"".join(whole.values()) + branch.encode()).hexdigest()
        self.commits[commit], self.branches[branch] = whole, commit
        return commit


@dataclass
class SmallHub:
    """The repositories by name, and the address that HF_ENDPOINT is set to."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    hub: SmallHub

    def do_HEAD(self) -> None:
        self._resolve()

    def do_GET(self) -> None:
        match = re.fullmatch(r"/api/models/(\w+/\w+)", self.path)
        if match and (repository := self.hub.repositories.get(match[1])):
            self._json({"id": match[1], "private": repository.private})
        else:
            self._resolve()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "no right"}, 401)
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/(\w+/\w+)/(branch|preupload|commit)/(\w+)", self.path):
            getattr(self, f"_{match[2]}")(match[1], match[3], body)
        else:
            self._json({"error": "no such thing"}, 404)

    def _create(self, wanted: dict[str, object]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        address = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repositories:
            self._json({**address, "error": "it exists"}, 409)
            return
        repository = self.hub.repositories[name] = Repository(
            private=wanted.get("visibility") == "private" or wanted.get("private") is True
        )
        repository.add("main", {".gitattributes": b""})
        self._json(address)

    def _branch(self, name: str, branch: str, body: bytes) -> None:
        repository = self.hub.repositories[name]
        known = branch in repository.branches
        repository.branches.setdefault(branch, repository.branches["main"])
        self._json({}, 409 if known else 200)

    def _preupload(self, name: str, branch: str, body: bytes) -> None:
        paths = [entry["path"] for entry in json.loads(body)["files"]]
        files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
        self._json({"files": files})

    def _commit(self, name: str, branch: str, body: bytes) -> None:
        entries = [json.loads(line) for line in body.splitlines()]
        files = {
            entry["value"]["path"]: base64.b64decode(entry["value"]["content"])
            for entry in entries
            if entry["key"] == "file"
        }
        commit = self.hub.repositories[name].add(branch, files)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def _resolve(self) -> None:
        match = re.fullmatch(r"/(\w+/\w+)/resolve/(\w+)/([\w.]+)", self.path)
        repository = self.hub.repositories.get(match[1]) if match else None
        found = repository.files(match[2]) if match and repository else None
        if match is None or repository is None:
            self._json({}, 404, {"X-Error-Code": "RepoNotFound"})
        elif found is None:
            self._json({}, 404, {"X-Error-Code": "RevisionNotFound"})
        elif match[3] not in found[1]:
            self._json({}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found[0]})
        else:
            data = found[1][match[3]]
            self._send(200, data, {"X-Repo-Commit": found[0], "ETag": f'"{sha1(data).hexdigest()}"'})

    def _json(self, answer: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(
            status, json.dumps(answer).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Silence: a test reads what the command prints."""


@contextmanager
def running_hub() -> Iterator[SmallHub]:
    """A hub without repositories, on a free port."""
    hub = SmallHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

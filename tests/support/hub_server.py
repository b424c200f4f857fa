"""The part of the Hugging Face Hub's HTTP interface that `huggingface_hub` and `datasets` use here, on a real socket.

    with HubServer() as hub:                       # its only user's token is hub.token
        environment = os.environ | hub.environment(folder)
        hub.repositories["datasets/owner/parts"]   # commits, tags and whether it is private; change it to be hostile
        hub.requests                               # (method, path) in order
        hub.faults = lambda method, path: 503      # status to answer with, or None

Files of `REGULAR` kinds below 1 MB are stored in git as the Hub does, others in LFS. The environment turns off Xet, the
Hub's newer storage.
"""

import base64
import hashlib
import json
import re
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

REGULAR = (".md", ".json", ".html", ".css", ".yaml", ".txt", ".gitattributes")
Files = dict[str, str]  # sha256 by path
API = re.compile(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(\w[\w-]*)(?:/([^/]+)(?:/(.+))?)?)?")
RESOLVE = re.compile(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)")
BATCH = re.compile(r"/(?:datasets/)?[^/]+/[^/]+\.git/info/lfs/objects/batch")


class Refusal(Exception):
    """An answer other than success: status, and the Hub's code for the error."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


@dataclass
class Repository:
    """`commits`: files of each commit; `main` and `tags` name commits."""

    private: bool
    commits: dict[str, Files] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    main: str = ""

    def commit(self, files: Files) -> str:
        """Make a commit on main."""
        self.main = hashlib.sha1(uuid.uuid4().bytes).hexdigest()
        self.commits[self.main] = files
        return self.main

    def resolve(self, revision: str) -> str:
        """The commit of a branch, tag or commit."""
        commit = {"main": self.main, **self.tags}.get(revision, revision)
        if commit not in self.commits:
            raise Refusal(404, "RevisionNotFound")
        return commit


class _Server(ThreadingHTTPServer):
    """A server that says nothing of clients that are killed."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class HubServer:
    """A server with one user; a context."""

    def __init__(self) -> None:
        self.token = f"hf_{uuid.uuid4().hex}"
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: Callable[[str, str], int | None] = lambda method, path: None
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """Variables by which a process finds the server as its only user, with caches in `home`."""
        found = {"HF_ENDPOINT": self.endpoint, "HF_TOKEN": self.token, "HF_HOME": str(home)}
        return found | {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def read(self, name: str, path: str, revision: str = "main") -> bytes:
        """The bytes of a file."""
        repository = self.repositories[name]
        return self.blobs[repository.commits[repository.resolve(revision)][path]]

    def put(self, data: bytes) -> str:
        """Keep bytes; return their sha256."""
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def describe(self, path: str, digest: str) -> dict[str, Any]:
        """A file as the interface lists it."""
        data = self.blobs[digest]
        git = hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()
        lfs = {} if is_regular(path, len(data)) else {"lfs": {"oid": digest, "size": len(data), "pointerSize": 130}}
        return {"type": "file", "path": path, "size": len(data), "oid": git, **lfs}


def is_regular(path: str, size: int) -> bool:
    """Whether a file is stored in git."""
    return path.endswith(REGULAR) and size < 1_000_000


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    @property
    def hub(self) -> HubServer:
        return self.server.hub  # type: ignore[attr-defined,no-any-return]

    def _serve(self) -> None:
        """Answer a request."""
        address = urlsplit(self.path)
        self.query, path = parse_qs(address.query), unquote(address.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.requests.append((self.command, path))
        try:
            if status := self.hub.faults(self.command, path):
                raise Refusal(status, message="It broke.")
            with self.hub.lock:
                self._answer(path)
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            self._send(refusal.status, b"{}", **{key: value for key, value in headers.items() if value})

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def _send(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def _answer(self, path: str) -> None:
        given = self.headers.get("Authorization")
        known = given == f"Bearer {self.hub.token}"
        if path.startswith("/lfs/"):  # the address itself allows it, as those of the Hub do
            self.hub.put(self.body)
            return self._send(200, b"")
        if given is not None and not known:
            raise Refusal(401, message="Invalid credentials in Authorization header")
        if self.command in ("POST", "PUT") and not known and "/paths-info/" not in path:
            raise Refusal(401, message="Unauthorized")
        if path == "/api/repos/create":
            return self._create(json.loads(self.body))
        if path == "/api/validate-yaml":  # the front matter of a card
            yaml.safe_load(json.loads(self.body)["content"].split("---\n")[1])
            return self._send_json({"errors": [], "warnings": []})
        if BATCH.fullmatch(path):
            return self._send_json({"objects": list(map(self._ask_for, json.loads(self.body)["objects"]))})
        if found := RESOLVE.fullmatch(path):
            return self._send_file(found[1], found[2], found[3], known)
        if found := API.fullmatch(path):
            name = f"datasets/{found[2]}" if found[1] == "datasets" else found[2]
            return self._answer_api(name, self._find(name, known), found[3], found[4] or "main", found[5] or "")
        raise Refusal(404)

    def _find(self, name: str, known: bool) -> Repository:
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not known):
            raise Refusal(404 if known else 401, "RepoNotFound", "Repository not found")
        return found

    def _create(self, wanted: dict[str, Any]) -> None:
        prefix = "datasets/" if wanted.get("type") == "dataset" else ""
        name = f"{prefix}{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repositories:
            self._send(409, json.dumps({"url": f"{self.hub.endpoint}/{name}"}).encode())
            return
        private = wanted.get("private") or wanted.get("visibility") == "private"
        made = self.hub.repositories[name] = Repository(bool(private))
        made.commit({".gitattributes": self.hub.put(b"*.tar filter=lfs diff=lfs merge=lfs -text\n")})
        self._send_json({"url": f"{self.hub.endpoint}/{name}"})

    def _ask_for(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Where to upload an object, or nothing if it is there."""
        if wanted["oid"] in self.hub.blobs:
            return wanted
        return {**wanted, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{wanted['oid']}"}}}

    def _send_file(self, name: str, revision: str, path: str, known: bool) -> None:
        repository = self._find(name, known)
        commit = repository.resolve(revision)
        if path not in repository.commits[commit]:
            raise Refusal(404, "EntryNotFound")
        digest = repository.commits[commit][path]
        data, told = self.hub.blobs[digest], self.hub.describe(path, digest)
        etag = told["lfs"]["oid"] if "lfs" in told else told["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part is None:
            return self._send(200, data, **headers)
        stop = min(int(part[2]) + 1 if part[2] else len(data), len(data))
        headers["Content-Range"] = f"bytes {part[1]}-{stop - 1}/{len(data)}"
        self._send(206, data[int(part[1]) : stop], **headers)

    def _answer_api(self, name: str, repository: Repository, action: str | None, revision: str, path: str) -> None:
        if action == "refs":
            tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": c} for t, c in repository.tags.items()]
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.main}
            return self._send_json({"branches": [main], "converts": [], "tags": tags})
        commit = repository.resolve(revision)
        files = repository.commits[commit]
        match action:
            case None | "revision":
                siblings = [{"rfilename": each} for each in files]
                told = {"id": name.removeprefix("datasets/"), "sha": commit, "private": repository.private}
                self._send_json(told | {"siblings": siblings, "tags": [], "downloads": 0, "likes": 0})
            case "tree":
                self._send_json(self._list(files, path, "recursive" in self.query))
            case "paths-info":
                wanted = parse_qs(self.body.decode()).get("paths", [])
                if self.body[:1] == b"{":
                    wanted = json.loads(self.body)["paths"]
                self._send_json([each for path in wanted for each in self._list_one(files, path)])
            case "preupload":
                self._send_json({"files": [self._plan(files, each) for each in json.loads(self.body)["files"]]})
            case "commit":
                oid = self._commit(repository, dict(files))
                address = f"{self.hub.endpoint}/{name}/commit/{oid}"
                self._send_json({"success": True, "commitOid": oid, "commitUrl": address})
            case "tag":
                tag = json.loads(self.body)["tag"]
                if tag in repository.tags:
                    raise Refusal(409, message="Tag reference exists already")
                repository.tags[tag] = commit
                self._send(200, b"")
            case _:
                raise Refusal(404)

    def _list_one(self, files: Files, path: str) -> list[dict[str, Any]]:
        """A file or folder, or nothing."""
        if path in files:
            return [self.hub.describe(path, files[path])]
        inside = any(each.startswith(f"{path}/") for each in files)
        return [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0}] if inside else []

    def _list(self, files: Files, path: str, recursive: bool) -> list[dict[str, Any]]:
        """The entries of a folder, and with `recursive` those of its folders."""
        prefix = f"{path}/" if path else ""
        inside = [each.removeprefix(prefix) for each in files if each.startswith(prefix)]
        if path and not inside:
            raise Refusal(404, "EntryNotFound")
        names = {"/".join(each.split("/")[:depth]) for each in inside for depth in range(1, each.count("/") + 2)}
        shown = [f"{prefix}{each}" for each in sorted(names) if recursive or "/" not in each]
        return [entry for each in shown for entry in self._list_one(files, each)]

    def _plan(self, files: Files, wanted: dict[str, Any]) -> dict[str, Any]:
        """How to upload a file, and what is there."""
        path, told = wanted["path"], None
        mode = "regular" if is_regular(path, wanted["size"]) else "lfs"
        if path in files:
            told = self.hub.describe(path, files[path])
        oid = told and (told["lfs"]["oid"] if "lfs" in told else told["oid"])
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, **({"oid": oid} if oid else {})}

    def _commit(self, repository: Repository, files: Files) -> str:
        for line in self.body.splitlines():
            step = json.loads(line)
            match step["key"]:
                case "file":
                    files[step["value"]["path"]] = self.hub.put(base64.b64decode(step["value"]["content"]))
                case "lfsFile":
                    if step["value"]["oid"] not in self.hub.blobs:
                        raise Refusal(400, message="LFS pointer pointed to a file that does not exist")
                    files[step["value"]["path"]] = step["value"]["oid"]
                case "deletedFile":
                    del files[step["value"]["path"]]
        return repository.commit(files)

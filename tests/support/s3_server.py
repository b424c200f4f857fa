"""An S3 server that answers over HTTP, behind a proxy on a real socket that spoils some of its answers.

    with S3Server() as s3:                               # moto in a process of its own; two to five seconds
        os.environ.update(s3.environment)                # endpoint (the proxy's) and credentials, for botocore
        store = Store.open(f"s3://{s3.make_bucket()}/store", create=True)
        s3.faults = seeded(seed=7, rate=0.05)            # of all requests from now on; None stops it
        s3.faults = once(lambda request: request.method == "PUT", Fault.LOST_ANSWER)
        s3.requests                                      # what was asked and answered, in order; .clear() to count anew

`faults` is any function Request -> Fault | None; it is called once for every request that reaches the proxy, repeated
ones included, from several threads under one lock. Processes that a test starts find the server by `s3.environment`;
their faults are decided here too. `s3.direct` is the server without the proxy.

Tests take the fixture `s3` (tests/conftest.py): one server for all, without faults at first.

Each fault is what a network or a store does:

    INTERNAL_ERROR   500, and the server never hears of the request
    SLOW_DOWN        503 SlowDown, likewise: throttling
    BROKEN           the connection is reset before anything is answered, and the server never hears of the request
    LOST_ANSWER      the server does what was asked, and then the connection is reset instead of the answer
    TORN_UPLOAD      half of the request's body reaches the server, then both connections break
    TORN_DOWNLOAD    half of the answer's body arrives, then the connection is reset; an answer without a body is whole
    DELAYED          the server hears of the request `delay_s` later, or when `released` is set
"""

import http.client
import io
import os
import random
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

START_SECONDS = 120
UPLOADS = "uploads"


class Fault(Enum):
    """What happens to a request; the module says what each is."""

    INTERNAL_ERROR = "internal_error"
    SLOW_DOWN = "slow_down"
    BROKEN = "broken"
    LOST_ANSWER = "lost_answer"
    TORN_UPLOAD = "torn_upload"
    TORN_DOWNLOAD = "torn_download"
    DELAYED = "delayed"


@dataclass
class Request:
    """A request as the proxy saw it. `number` counts from 0; `status` is None where no answer was passed on whole."""

    number: int
    method: str
    path: str  # of bucket and key, without escapes
    query: dict[str, str]
    headers: dict[str, str]  # names in small letters
    body_bytes: int
    fault: Fault | None = None
    status: int | None = None

    @property
    def action(self) -> str:
        """What S3 calls it, as far as costs need: GET, HEAD, PUT, COPY, DELETE, LIST, or POST or PUT of an upload."""
        if self.method == "GET" and ("list-type" in self.query or UPLOADS in self.query):
            return "LIST"
        if self.method == "PUT" and "x-amz-copy-source" in self.headers:
            return "COPY"
        return "DELETE" if self.method == "POST" and "delete" in self.query else self.method


Faults = Callable[[Request], Fault | None]


def seeded(seed: int, rate: float, kinds: Sequence[Fault] = tuple(Fault)) -> Faults:
    """A fault of one of these kinds for a share `rate` of the requests, drawn in the order in which they come."""
    draws = random.Random(seed)

    def choose(request: Request) -> Fault | None:
        return draws.choice(kinds) if draws.random() < rate else None

    return choose


def once(chosen: Callable[[Request], bool], fault: Fault, times: int = 1) -> Faults:
    """This fault for the first `times` requests that are chosen, and none afterwards."""
    left = [times]

    def choose(request: Request) -> Fault | None:
        if not left[0] or not chosen(request):
            return None
        left[0] -= 1
        return fault

    return choose


@dataclass
class S3Server:
    """A server and its proxy; a context. `endpoint` is the proxy's address."""

    faults: Faults | None = None
    delay_s: float = 0.2
    released: threading.Event = field(default_factory=threading.Event)
    ignored_headers: tuple[str, ...] = ()  # names in small letters that the server never hears of
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        port = _free_port()
        self.direct = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        quiet: Any = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        self._lock, self._proxy = threading.Lock(), _Proxy(self, port)
        self.endpoint = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        threading.Thread(target=self._proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        _wait_for(port, self._process)
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()
        self._process.terminate()
        self._process.wait()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find the server; the configuration of the machine's user is left out."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self) -> str:
        """Name of a new, empty bucket."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        assert self.ask("PUT", f"/{name}")[0] == 200
        return name

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Every key of a bucket that begins so, sorted; asked without the proxy."""
        return sorted(_between(self.ask("GET", f"/{bucket}?list-type=2&prefix={prefix}")[1], "Key"))

    def unfinished_uploads(self, bucket: str) -> list[str]:
        """Keys of the multi-part uploads that were begun and neither completed nor aborted."""
        return _between(self.ask("GET", f"/{bucket}?{UPLOADS}")[1], "Key")

    def read(self, bucket: str, key: str) -> bytes:
        """The bytes of an object; asked without the proxy."""
        status, body = self.ask("GET", f"/{bucket}/{key}")
        assert status == 200, (status, body)
        return body

    def ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """(status, body) of a request to the server itself."""
        connection = http.client.HTTPConnection(urlsplit(self.direct).netloc, timeout=60)
        scope = "testing/20260101/us-east-1/s3/aws4_request"
        signed = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
        connection.request(method, target, body, {"Authorization": signed})
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def decide(self, request: Request) -> Fault | None:
        """Record a request and say what happens to it."""
        with self._lock:
            request.number = len(self.requests)
            self.requests.append(request)
            request.fault = self.faults(request) if self.faults else None
        return request.fault


class _Proxy(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, server: S3Server, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.s3, self.port = server, port


class _Connection(socketserver.StreamRequestHandler):
    """One connection of a client: request after request, until it or a fault closes it."""

    server: _Proxy
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):
            while self._answer_next():
                pass

    def _answer_next(self) -> bool:
        head = _read_head(self.rfile)
        if head is None:
            return False
        request, length = _parse(head)
        if request.headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.rfile.read(length)
        fault = self.server.s3.decide(request)
        if fault is Fault.BROKEN:
            return self._reset()
        if fault in (Fault.INTERNAL_ERROR, Fault.SLOW_DOWN):
            request.status = REFUSALS[fault][0]
            self.wfile.write(_refusal(request, *REFUSALS[fault]))
            return True
        if fault is Fault.DELAYED:
            self.server.s3.released.wait(self.server.s3.delay_s)
        if fault is Fault.TORN_UPLOAD:
            self._forward(head, body[: len(body) // 2], answered=False)
            return self._reset()
        answer = self._forward(head, body)
        if fault is Fault.LOST_ANSWER:
            return self._reset()
        if fault is Fault.TORN_DOWNLOAD:
            begin = answer.index(b"\r\n\r\n") + 4
            self.wfile.write(answer[: begin + (len(answer) - begin) // 2])
            return self._reset()
        request.status = int(answer.split(b" ", 2)[1])
        self.wfile.write(answer)
        return True

    def _forward(self, head: list[bytes], body: bytes, answered: bool = True) -> bytes:
        """The server's whole answer, with a length; empty where it is not waited for."""
        hidden = ("expect", "connection", *self.server.s3.ignored_headers)
        lines = [line for line in head if line.split(b":", 1)[0].decode().lower() not in hidden]
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=60) as upstream:
            upstream.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)
            if not answered:
                return b""
            answer = http.client.HTTPResponse(upstream, method=head[0].split(b" ", 1)[0].decode())
            answer.begin()
            data = answer.read()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
            if answer.status not in (204, 304) and "content-length" not in {name.lower() for name, _ in kept}:
                kept.append(("Content-Length", str(len(data))))
            text = f"HTTP/1.1 {answer.status} {answer.reason}\r\n"
            return (text + "".join(f"{name}: {value}\r\n" for name, value in kept) + "\r\n").encode("latin-1") + data

    def _reset(self) -> bool:
        """Close as a connection breaks: the other side gets an error, not an end."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        return False

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()


HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}
REFUSALS = {
    Fault.INTERNAL_ERROR: (500, "InternalError", "We encountered an internal error. Please try again."),
    Fault.SLOW_DOWN: (503, "SlowDown", "Please reduce your request rate."),
}


def _read_head(stream: io.BufferedIOBase) -> list[bytes] | None:
    """Lines of a request's head; None where the client is done."""
    lines: list[bytes] = []
    while line := stream.readline():
        if not line.strip():
            return lines
        lines.append(line.rstrip(b"\r\n"))
    return None


def _parse(head: list[bytes]) -> tuple[Request, int]:
    """A request and how many bytes its body has."""
    method, target, _ = head[0].decode("latin-1").split(" ", 2)
    pairs = [line.decode("latin-1").partition(":") for line in head[1:]]
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    assert headers.get("transfer-encoding", "").lower() != "chunked", "bodies without a length are not known here"
    parts, length = urlsplit(target), int(headers.get("content-length", 0))
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return Request(-1, method, unquote(parts.path), query, headers, length), length


def _refusal(request: Request, status: int, code: str, message: str) -> bytes:
    text = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    body = "" if request.method == "HEAD" else text
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def _between(document: bytes, tag: str) -> list[str]:
    """Texts of the elements of an XML answer with this name."""
    return [piece.split(f"</{tag}>")[0] for piece in document.decode().split(f"<{tag}>")[1:]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError("the S3 server did not start; try `python -m moto.server` by hand")

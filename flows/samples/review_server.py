"""The server of the review page, on this machine alone, for the holder of the printed address.

Pages of other origins can neither read nor decide: every address begins with a random token. The server first refuses
requests with another host (a name that resolves here) or another origin.
"""

import hmac
import json
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import Field, ValidationError

from tailforge.flows.samples.review import ReviewedSamples
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import NotFoundError, TailforgeError, UserError
from tailforge.schemas.review import Decision, Verdict
from tailforge.schemas.settings.fields import Strict
from tailforge.tasks.report.review import draw_review
from tailforge.tasks.report.template_files import read_template

LOOPBACK = "127.0.0.1"
BODY_BYTES = 4096  # longest decision
WAIT_S = 30  # for a client that stops in the middle of a request
GONE = (ConnectionError, TimeoutError)  # errors of a client that disconnected
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
POLICY = (
    "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
    "style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Wish(Strict):
    """The body of a POST: a decision on a sample, or None to remove it."""

    sample_id: str
    decision: Verdict | None
    reason: str = Field("", max_length=200)


class Refused(Exception):
    """A refused request: HTTP status and reason."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class ReviewServer(ThreadingHTTPServer):
    """Serves the review of some samples; `address` is the page's. Errors: UserError for an unusable port."""

    daemon_threads = True

    def __init__(self, reviewed: ReviewedSamples, template: str, *, port: int = 0, reviewer: str = "") -> None:
        self.reviewed, self.template, self.reviewer = reviewed, template, reviewer
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((LOOPBACK, port), ReviewHandler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--port {port} cannot be used: {describe_failure(error)}; give another, or none for a free one"
            ) from error
        self.hosts = tuple(f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost"))

    @property
    def address(self) -> str:
        """Return the address of the page."""
        return f"http://{self.hosts[0]}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect; print other errors on the terminal."""
        if not isinstance(sys.exception(), GONE):
            super().handle_error(request, client_address)


class ReviewHandler(BaseHTTPRequestHandler):
    """GET: the page, `samples`, `decisions`, `images/ID`, `masks/ID`. POST: `decisions`. All below the token."""

    server: ReviewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "tailforge", ""
    timeout = WAIT_S

    def do_GET(self) -> None:
        """Answer a GET request."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer a POST request."""
        self._answer(self._post)

    def _answer(self, act: Callable[[str], None]) -> None:
        try:
            act(self._enter())
        except Refused as error:
            self._refuse(error.status, str(error))
        except NotFoundError as error:
            self._refuse(404, str(error))
        except GONE:
            raise
        except (TailforgeError, OSError) as error:
            self._refuse(500, str(error))

    def _enter(self) -> str:
        """Return the path below the token. Errors: Refused."""
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            raise Refused(403, "this server answers to its own address alone")
        if origins and origins != [f"http://{hosts[0]}"]:
            raise Refused(403, "pages of other origins are refused")
        token, _, path = self.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise Refused(403, "open the address that `tailforge review` printed")
        return path

    def _get(self, path: str) -> None:
        reviewed = self.server.reviewed
        kind, _, sample_id = path.partition("/")
        if path == "":
            return self._send_page()
        if path == "samples":
            return self._send_json({"samples": reviewed.list_samples(), "decisions": self._tell_decisions()})
        if path == "decisions":
            return self._send_json({"decisions": self._tell_decisions()})

        if kind == "images":
            return self._send(200, *reviewed.read_image(sample_id), cache="private, max-age=3600")
        if kind == "masks":
            return self._send(200, *reviewed.read_overlay(sample_id), cache="private, max-age=3600")
        raise Refused(404, "there is no such page")

    def _post(self, path: str) -> None:
        if path != "decisions":
            raise Refused(404, "there is no such page")
        wish = self._read_wish()
        reviewed, reviewer = self.server.reviewed, self.server.reviewer
        made = reviewed.decide(wish.sample_id, wish.decision, wish.reason, reviewer)
        self._send_json({"sample_id": wish.sample_id, "decision": made and tell_decision(made)})

    def _read_wish(self) -> Wish:
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "a decision is sent as application/json")
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdecimal() or not 0 < int(length) <= BODY_BYTES:
            raise Refused(413, f"a decision has 1 to {BODY_BYTES} bytes")
        try:
            return Wish.model_validate_json(self.rfile.read(int(length)))
        except ValidationError as error:
            raise Refused(400, f"this is no decision: {error.error_count()} mistake(s)") from error

    def _tell_decisions(self) -> dict[str, dict[str, str]]:
        reviewed = self.server.reviewed
        return {name: tell_decision(each) for name, each in reviewed.read_decisions().items() if name in reviewed.rows}

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        text = draw_review(self.server.reviewed.label, self.server.template, nonce)
        self._send(200, text.encode(), "text/html; charset=utf-8", policy=POLICY.format(nonce=nonce))

    def _send_json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value, allow_nan=False).encode(), "application/json")

    def _refuse(self, status: int, why: str) -> None:
        """Send an error and close the connection, since the rest of the request stays unread."""
        self.close_connection = True
        self._send_json({"error": why}, status)

    def _send(
        self, status: int, data: bytes, media: str, *, cache: str = "no-store", policy: str = "default-src 'none'"
    ) -> None:
        self.send_response(status)
        own = {"Content-Type": media, "Content-Length": str(len(data)), "Cache-Control": cache}
        for name, value in {**own, **HEADERS, "Content-Security-Policy": policy}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal belongs to the person."""


def tell_decision(decision: Decision) -> dict[str, str]:
    """Return a decision for the page."""
    return {"decision": decision.decision, "reason": decision.reason, "reviewer": decision.reviewer}


def serve_review(reviewed: ReviewedSamples, port: int, reviewer: str, tell: Callable[[str], None]) -> dict[str, int]:
    """Serve a review until the person presses ctrl-C; `tell` receives the page's address.

    Returns the counts of accepted and rejected samples of the dataset. Errors: UserError before serving starts.
    """
    template = read_template("review.html.j2")
    with ReviewServer(reviewed, template, port=port, reviewer=reviewer) as server, suppress(KeyboardInterrupt):
        tell(server.address)
        server.serve_forever()
    decided = [each.decision for each in reviewed.read_decisions().values()]
    return {decision: decided.count(decision) for decision in ("accept", "reject")}

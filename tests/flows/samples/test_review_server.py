"""The server of a review: what it tells and keeps, and whom it refuses."""

import hashlib
import http.client
import io
import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tailforge.catalog.metadata.reviews import read_decisions
from tailforge.catalog.store import Store
from tailforge.flows.samples.review import open_version
from tailforge.flows.samples.review_server import BODY_BYTES, ReviewServer
from tailforge.schemas.errors import NotFoundError, StoreAccessError, UserError, VerificationError
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.served_review import HOSTILE, TEMPLATE, publish, serve

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return publish(tmp_path_factory.mktemp("review"))


@pytest.fixture
def server(store: Store) -> Iterator[ReviewServer]:
    with serve(store, reviewer="Ada") as server:
        yield server
    store.remove("reviews")


def ask(
    server: ReviewServer, path: str, body: Any = None, *, headers: dict[str, str] | None = None, whole: bool = False
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of a GET, or of a POST of `body`. `path` is below the token unless `whole`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        target = path if whole else f"/{server.token}/{path}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = (JSON if data is not None else {}) | (headers or {})
        connection.request("GET" if data is None else "POST", target, data, sent)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.headers)
    finally:
        connection.close()


def read(server: ReviewServer, path: str, body: Any = None) -> dict[str, Any]:
    status, data, headers = ask(server, path, body)
    assert (status, headers["Content-Type"]) == (200, "application/json"), data
    return json.loads(data)  # type: ignore[no-any-return]


def test_every_sample_with_an_image_is_told_and_shown(server: ReviewServer, store: Store) -> None:
    samples = {each["id"]: each for each in read(server, "samples")["samples"]}
    folder = Path(store.path("datasets/parts/1.0.0"))
    manifest, rejects = (pq.read_table(folder / f"{table}.parquet").to_pylist() for table in ("manifest", "rejects"))
    known = {row["sample_id"] for row in manifest} | {r["sample_id"] for r in rejects if r["status"] == "ok"}
    assert samples.keys() == known
    assert {each["state"] for each in samples.values()} == {"accepted", "rejected", "surplus"}
    for sample_id in samples:
        status, data, headers = ask(server, f"images/{sample_id}")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (16, 16)
        status, data, _ = ask(server, f"masks/{sample_id}")
        assert (status, data[:4]) == (200, b"\x89PNG")


def test_crowds_are_shown_in_a_colour_of_their_own(tmp_path: Path) -> None:
    """In a build, whose masks are artifacts."""
    store = publish(tmp_path)
    build = replace(open_version("parts", store.uri), version=None)
    path = Path(store.path(build.artifacts["masks"][0]))
    table = pq.read_table(path)
    sample_id = table["sample_id"][0].as_py()

    def has_orange() -> bool:
        with Image.open(io.BytesIO(build.read_overlay(sample_id)[0])) as image:
            return bool((np.asarray(image.convert("RGBA")) == (255, 170, 0, 255)).all(axis=2).any())

    assert not has_orange()
    rows = [{**row, "instances": [{**each, "crowd": True} for each in row["instances"]]} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    assert has_orange()


def test_decisions_land_in_the_file_with_the_image_that_was_seen(server: ReviewServer, store: Store) -> None:
    samples = read(server, "samples")["samples"]
    rejected = next(each["id"] for each in samples if each["state"] == "rejected")
    accepted = next(each["id"] for each in samples if each["state"] == "accepted")
    told = read(server, "decisions", {"sample_id": accepted, "decision": "reject", "reason": "cut off"})
    assert told["decision"] == {"decision": "reject", "reason": "cut off", "reviewer": "Ada"}
    read(server, "decisions", {"sample_id": rejected, "decision": "accept"})
    kept = read_decisions(store, "parts")
    assert {name: each.decision for name, each in kept.items()} == {accepted: "reject", rejected: "accept"}
    assert kept[accepted].decided_at.endswith("+00:00")
    for path in Path(store.root).glob("artifacts/samples/*/*.parquet"):
        for row in pq.read_table(path).to_pylist():
            if row["sample_id"] in kept:
                assert kept[row["sample_id"]].image == hashlib.sha256(row["image"]).hexdigest()
    assert read(server, "decisions")["decisions"].keys() == kept.keys()
    read(server, "decisions", {"sample_id": accepted, "decision": None})
    assert list(read_decisions(store, "parts")) == [rejected]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_foreign_hosts_and_origins_are_refused(server: ReviewServer, store: Store, headers: dict[str, str]) -> None:
    sample_id = next(iter(server.reviewed.rows))
    for path, body in [("", None), ("samples", None), ("decisions", {"sample_id": sample_id, "decision": "reject"})]:
        status, data, answered = ask(server, path, body, headers=headers)
        assert status == 403
        assert sample_id.encode() not in data
        assert "Access-Control-Allow-Origin" not in answered
    assert read_decisions(store, "parts") == {}


def test_its_own_origin_under_either_name_is_served(server: ReviewServer) -> None:
    for host in server.hosts:
        assert ask(server, "samples", headers={"Host": host, "Origin": f"http://{host}"})[0] == 200


@pytest.mark.parametrize("path", ["/", "/samples", "//samples", "/wrong/samples", "/%C3%A9/samples"])
def test_without_the_token_nothing_is_told_or_kept(server: ReviewServer, store: Store, path: str) -> None:
    assert ask(server, path, whole=True)[0] == 403
    body = {"sample_id": next(iter(server.reviewed.rows)), "decision": "reject"}
    assert ask(server, "/wrong/decisions", body, whole=True)[0] == 403
    assert ask(server, "/decisions", body, whole=True)[0] == 403
    assert read_decisions(store, "parts") == {}


@pytest.mark.parametrize(
    "path",
    [
        "images/../../../../../etc/passwd", "images/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "images//etc/passwd", "images/",
        "masks/../dataset.json", "../../dataset.json", "datasets/parts/1.0.0/dataset.json", "images/0000000000000000",
    ],
)  # fmt: skip
def test_paths_lead_nowhere_but_to_samples(server: ReviewServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400), ({"sample_id": "0" * 16}, {}, 400), ([1], {}, 400), (b"\xff", {}, 400),
        ({"sample_id": "0" * 16, "decision": "reject"}, {}, 404),
        ({"sample_id": "../x", "decision": "reject"}, {}, 404),
        ({"sample_id": "0" * 16, "decision": "perhaps"}, {}, 400),
        ({"sample_id": "0" * 16, "decision": "reject", "reason": "x" * 201}, {}, 400),
        ({"sample_id": "0" * 16, "decision": "reject"}, {"Content-Type": "text/plain"}, 415),
        (b"x" * (BODY_BYTES + 1), {}, 413), (b"", {}, 413), (b"{}", {"Content-Length": "-1"}, 413),
    ],
)  # fmt: skip
def test_what_is_no_decision_is_refused(
    server: ReviewServer, store: Store, body: Any, headers: dict[str, str], status: int
) -> None:
    found, data, _ = ask(server, "decisions", body, headers=headers)
    assert found == status
    assert json.loads(data)["error"]
    assert read_decisions(store, "parts") == {}
    assert ask(server, "")[0] == 200


def test_answers_bring_no_script_but_the_pages_own(server: ReviewServer) -> None:
    status, data, headers = ask(server, "")
    assert status == 200
    assert HOSTILE.encode() not in data
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert ask(server, "")[2]["Content-Security-Policy"] != policy  # a nonce is used once
    assert ask(server, "samples")[2]["Content-Security-Policy"] == "default-src 'none'"


def test_two_servers_share_the_decisions(server: ReviewServer, store: Store) -> None:
    first, second, *_ = server.reviewed.rows
    with serve(store, reviewer="Bea") as other:
        assert other.token != server.token
        read(server, "decisions", {"sample_id": first, "decision": "reject"})
        read(other, "decisions", {"sample_id": second, "decision": "accept"})
        found = read(server, "decisions")["decisions"]
    assert {name: each["reviewer"] for name, each in found.items()} == {first: "Ada", second: "Bea"}


def test_a_sample_whose_artifact_is_gone_cannot_be_decided(tmp_path: Path) -> None:
    store = publish(tmp_path)
    store.remove("artifacts/samples")
    version = open_version("parts", store.uri)
    states = {each["id"]: each["state"] for each in version.list_samples()}
    accepted = next(name for name, state in states.items() if state == "accepted")
    rejected = next(name for name, state in states.items() if state == "rejected")
    assert version.read_image(accepted)[1] == "image/png"
    for call in (lambda: version.read_image(rejected), lambda: version.decide(accepted, "reject")):
        with pytest.raises(NotFoundError, match="build parts again"):
            call()


def test_augmented_copies_are_not_reviewed(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)
    augmentation = {"transforms": [{"name": "HorizontalFlip"}], "copies": 2}
    recipe = make_recipe(concepts=("gear",), augmentation=augmentation)
    publish_build(make_build(store, recipe, {"gear": 5}))
    assert len(open_version("parts", store.uri).rows) == 4


def test_what_cannot_be_reviewed_is_one_clear_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="has no dataset 'nuts'"):
        open_version("nuts", store.uri)
    with pytest.raises(NotFoundError, match=r"has no version '9\.0\.0'"):
        open_version("parts@9.0.0", store.uri)
    damaged = publish(tmp_path)
    damaged.write_bytes("reviews/parts.parquet", b"no table")
    with pytest.raises(StoreAccessError, match="cannot be read"):
        open_version("parts", damaged.uri)
    (tmp_path / "reviews" / "parts.parquet").unlink()
    damaged.write_bytes("datasets/parts/1.0.0/rejects.parquet", b"no table")
    with pytest.raises(VerificationError, match=r"rejects\.parquet has sha256"):
        open_version("parts", damaged.uri)
    with serve(store) as server, pytest.raises(UserError, match=f"--port {server.server_port} cannot be used"):
        ReviewServer(server.reviewed, TEMPLATE, port=server.server_port)


def test_a_browser_that_goes_away_is_no_error(server: ReviewServer, capfd: pytest.CaptureFixture[str]) -> None:
    for request in (b"GET / HT", f"POST /{server.token}/decisions HTTP/1.1\r\nHost: {server.hosts[0]}\r\n".encode()):
        with socket.create_connection(("127.0.0.1", server.server_port)) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not closed
            gone.sendall(request)
    assert ask(server, "")[0] == 200
    assert capfd.readouterr().err == ""

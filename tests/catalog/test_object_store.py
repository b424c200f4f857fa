"""Object stores over HTTP: files are there whole or not at all, tries are bounded, and one creator wins."""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import pytest

from tailforge.catalog import object_store
from tailforge.catalog.store import Store
from tailforge.schemas.errors import StoreAccessError, StoreError
from tests.support.s3_server import Fault, Request, S3Server, once

TRIES = 3
MENDED = [fault for fault in Fault if fault is not Fault.DELAYED]
LARGE = os.urandom(2 * object_store.PART_BYTES + 1000)  # goes up in three parts


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket()


@pytest.fixture
def store(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """With fewer tries, so that the tests of what no try mends end sooner."""
    monkeypatch.setitem(object_store.RETRIES, "total_max_attempts", TRIES)
    return Store.open(f"s3://{bucket}/store", create=True)


def is_of_upload(request: Request) -> bool:
    return "uploadId" in request.query and request.method in ("PUT", "POST")


def is_of_part(request: Request) -> bool:
    return is_of_upload(request) and request.method == "PUT"


def is_completion(request: Request) -> bool:
    return is_of_upload(request) and request.method == "POST"


def write_large(store: Store, path: str) -> None:
    def write_to(out: IO[bytes]) -> None:
        out.write(LARGE)

    store.write(path, write_to)


def test_written_bytes_are_read_back(store: Store) -> None:
    store.write_bytes("a/b.bin", b"0123456789")
    assert store.read("a/b.bin") == b"0123456789"
    assert store.read_range("a/b.bin", 3, 4) == b"3456"
    assert store.read_ranges("a/b.bin", [(0, 2), (8, 20)]) == [b"01", b"89"]
    assert (store.size("a/b.bin"), store.names("a"), store.names("")) == (10, ["b.bin"], ["a"])
    store.remove("a")
    assert not store.exists("a/b.bin")
    assert store.names("a") == []


def test_what_another_writes_is_seen_at_once(store: Store) -> None:
    other = Store.open(store.uri)
    assert (store.names("a"), store.exists("a/b.bin")) == ([], False)
    other.write_bytes("a/b.bin", b"")
    assert (store.names("a"), store.exists("a/b.bin")) == (["b.bin"], True)
    other.remove("a/b.bin")
    assert (store.names("a"), store.exists("a/b.bin")) == ([], False)


def test_large_files_go_up_and_are_copied_in_parts(
    store: Store, bucket: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "COPY_BYTES", object_store.PART_BYTES)
    write_large(store, "large")
    s3.requests.clear()
    store.copy("large", "copies/large")
    assert [request.action for request in s3.requests] == ["HEAD", "POST", "COPY", "COPY", "COPY", "POST"]
    with store.open_read("copies/large") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(LARGE).digest()  # type: ignore[arg-type]
    assert s3.unfinished_uploads(bucket) == []


@pytest.mark.parametrize("fault", MENDED)
def test_a_fault_is_mended_by_trying_again(store: Store, s3: S3Server, fault: Fault) -> None:
    s3.faults = once(lambda request: True, fault)
    store.write_bytes("a.bin", b"0123456789")
    s3.faults = once(lambda request: True, fault)
    assert store.read("a.bin") == b"0123456789"
    s3.faults = once(lambda request: True, fault)
    assert store.read_ranges("a.bin", [(0, 2), (4, 6)]) == [b"01", b"45"]
    s3.faults = once(is_of_upload, fault)
    write_large(store, "large")
    s3.faults = once(lambda request: True, fault)
    with store.open_read("large") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(LARGE).digest()  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", [Fault.INTERNAL_ERROR, Fault.BROKEN, Fault.TORN_UPLOAD])
@pytest.mark.parametrize("chosen", [is_of_part, is_completion])
def test_a_torn_upload_leaves_nothing(store: Store, bucket: str, s3: S3Server, fault: Fault, chosen: object) -> None:
    before = s3.keys(bucket)
    s3.faults = lambda request: fault if chosen(request) else None  # type: ignore[operator]
    with pytest.raises(StoreError, match="cannot write"):
        write_large(store, "large")
    assert (s3.keys(bucket), s3.unfinished_uploads(bucket)) == (before, [])


def test_a_failed_write_keeps_the_old_object(store: Store) -> None:
    store.write_bytes("a.bin", b"old")

    def fail(out: IO[bytes]) -> None:
        out.write(b"new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write("a.bin", fail)
    assert store.read("a.bin") == b"old"


def test_a_torn_copy_leaves_nothing(store: Store, bucket: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "COPY_BYTES", object_store.PART_BYTES)
    write_large(store, "large")
    before = s3.keys(bucket)
    s3.faults = lambda request: Fault.SLOW_DOWN if request.query.get("partNumber") == "2" else None
    with pytest.raises(StoreError, match="cannot write"):
        store.copy("large", "copies/large")
    assert (s3.keys(bucket), s3.unfinished_uploads(bucket)) == (before, [])


@pytest.mark.parametrize("fault", [Fault.INTERNAL_ERROR, Fault.SLOW_DOWN, Fault.BROKEN, Fault.TORN_DOWNLOAD])
def test_endless_faults_are_one_error_in_bounded_time(store: Store, s3: S3Server, fault: Fault) -> None:
    store.write_bytes("a.bin", b"0123456789")
    s3.requests.clear()
    s3.faults, started = lambda request: fault, time.monotonic()
    with pytest.raises(StoreError, match=r"cannot read s3://.*a\.bin.*run the same command again"):
        store.read("a.bin")
    assert time.monotonic() - started < 20
    assert len(s3.requests) <= 2 * TRIES  # the client repeats a request once by itself if its connection broke


@pytest.mark.parametrize("fault", [None, *MENDED])
def test_one_of_many_creators_wins(store: Store, s3: S3Server, fault: Fault | None) -> None:
    s3.faults = None if fault is None else once(lambda request: True, fault, TRIES - 1)
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.create("claim", f"{number}".encode()), range(8)))
    assert won.count(True) == 1
    assert store.read("claim") == f"{won.index(True)}".encode()


def test_a_creator_knows_its_own_after_a_lost_answer(store: Store, s3: S3Server) -> None:
    s3.faults = once(lambda request: request.method == "PUT", Fault.LOST_ANSWER)
    assert store.create("claim", b"mine")
    assert not store.create("claim", b"another's")


def test_a_server_without_conditional_create_is_refused(bucket: str, s3: S3Server) -> None:
    s3.ignored_headers = ("if-none-match",)
    try:
        with pytest.raises(StoreAccessError, match="replaces an existing object although the request forbids it"):
            Store.open(f"s3://{bucket}/store", create=True)
    finally:
        s3.ignored_headers = ()


def test_a_missing_bucket_is_named(s3: S3Server) -> None:
    for ask in (
        lambda: Store.open("s3://nosuch/store", create=True),
        lambda: Store.open("s3://nosuch/store").names(""),
    ):
        s3.requests.clear()
        with pytest.raises(StoreAccessError, match=r"bucket does not exist; make the bucket"):
            ask()
        assert len(s3.requests) == 1  # not tried again
    assert s3.ask("HEAD", "/nosuch")[0] == 404  # and not made by the way


def test_missing_credentials_are_named(bucket: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{s3.endpoint}/")  # another filesystem than that of the other tests
    with pytest.raises(StoreAccessError, match=r"Unable to locate credentials.*AWS_ACCESS_KEY_ID"):
        Store.open(f"s3://{bucket}/store", create=True)


def test_credentials_in_the_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(StoreAccessError, match="holds credentials") as caught:
        Store.open("s3://AKIAKEY:secret@bucket/store")
    assert "AKIAKEY" not in str(caught.value)
    assert "secret@" not in str(caught.value)


def test_an_endpoint_that_does_not_answer_is_an_error_soon(monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    monkeypatch.setitem(object_store.RETRIES, "total_max_attempts", TRIES)
    with pytest.raises(StoreError, match="Could not connect"):
        Store.open("s3://bucket/store", create=True)
    assert time.monotonic() - started < 30

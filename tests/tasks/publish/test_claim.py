"""Publication in an object store: no half version is ever visible, whoever dies, lingers or comes at once."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tailforge.catalog import object_store
from tailforge.catalog.registry import DATASET_FILE, list_datasets, list_versions, load_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.flows.build.collect_garbage import collect_garbage
from tailforge.schemas.errors import StoreAccessError, StoreError
from tailforge.tasks.publish.claim import list_promised
from tests.support.fabricate import Build, make_build, make_recipe, publish_build
from tests.support.repository import ROOT
from tests.support.s3_server import Fault, Request, S3Server, once

SMALL, LARGE = {"gear": 16, "hook": 8}, {"gear": 24, "hook": 8}
HOME = "datasets/parts"
PUBLISHER = (
    "import sys\n"
    "from tailforge.catalog.store import Store\n"
    "from tests.support.fabricate import make_build, make_recipe, publish_build\n"
    f"publish_build(make_build(Store.open(sys.argv[1]), make_recipe(), {SMALL!r}))\n"
)


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket()


@pytest.fixture
def store(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setitem(object_store.RETRIES, "total_max_attempts", 3)  # the tests of what no try mends end sooner
    return Store.open(f"s3://{bucket}/store", create=True)


def is_copy(request: Request) -> bool:
    return request.action == "COPY"


def is_publication(request: Request) -> bool:
    """The copy that makes a version visible."""
    return is_copy(request) and request.path.endswith(DATASET_FILE)


def require_whole(store: Store, *versions: str) -> None:
    """These versions and no others are there, every byte of them, and nothing is left over."""
    assert list_versions(store, "parts") == list(versions)
    for version in versions:
        assert verify(store, "parts", version) == []
    assert store.names(HOME) == [".claims", *versions]
    assert list_promised(store, "parts") == []


def test_a_version_is_the_same_as_on_a_disk(store: Store, tmp_path: Path) -> None:
    local = Store.open(str(tmp_path), create=True)
    for place in (store, local):
        publish_build(make_build(place, make_recipe(), SMALL))
    there, here = load_dataset(store, "parts"), load_dataset(local, "parts")
    assert there.shards == here.shards
    assert there.files.keys() == here.files.keys()
    for name in ("manifest.parquet", "rejects.parquet"):
        assert there.files[name] == here.files[name]
    require_whole(store, "1.0.0")


def test_nothing_changed_gives_no_new_version(store: Store) -> None:
    build = make_build(store, make_recipe(), SMALL)
    first, again = publish_build(build), publish_build(build)
    assert (again.version, again.is_new) == (first.version, False)
    require_whole(store, "1.0.0")


def test_lost_and_damaged_files_are_mended(store: Store) -> None:
    build = make_build(store, make_recipe(), SMALL)
    publish_build(build)
    store.write_bytes(f"{HOME}/1.0.0/manifest.parquet", b"damaged")
    store.remove(f"{HOME}/1.0.0/shards/train-000000.tar")
    assert not publish_build(build).is_new
    require_whole(store, "1.0.0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "finished_by_the_next"),
    [
        (lambda request: "/.claims/" in request.path and request.method == "PUT", False),
        (lambda request: is_copy(request) and request.path.endswith(".tar"), True),
        (is_publication, True),
    ],
    ids=["claim", "shards", "dataset.json"],
)
def test_a_killed_publisher_leaves_nothing_visible_and_blocks_nobody(
    store: Store, s3: S3Server, moment: object, finished_by_the_next: bool
) -> None:
    process = subprocess.Popen([sys.executable, "-c", PUBLISHER, store.uri], cwd=ROOT, env={**os.environ})

    def kill(request: Request) -> Fault | None:
        if not moment(request):  # type: ignore[operator]
            return None
        process.send_signal(signal.SIGKILL)
        return Fault.BROKEN

    s3.faults = kill
    assert process.wait(timeout=120) == -signal.SIGKILL
    s3.faults = None
    assert list_datasets(store) == list_versions(store, "parts") == []
    assert len(list_promised(store, "parts")) == finished_by_the_next
    collect_garbage(store.uri, -1, [], delete=True)  # however old it may seem: what was promised stays
    publication = publish_build(make_build(store, make_recipe(), LARGE))
    versions = ["1.0.0", "1.1.0"] if finished_by_the_next else ["1.0.0"]
    assert publication.version == versions[-1]
    require_whole(store, *versions)


def test_two_publishers_at_once_get_two_versions(store: Store) -> None:
    builds = [make_build(store, make_recipe(), counts) for counts in (SMALL, LARGE)]
    both = threading.Barrier(2)

    def publish(build: Build) -> str:
        waited = []

        def meet(folder: str, version: str) -> dict[str, bytes]:
            if not waited:
                waited.append(both.wait(60))
            return {}

        return publish_build(build, meet).version

    with ThreadPoolExecutor(2) as pool:
        versions = sorted(pool.map(publish, builds))
    assert versions in (["1.0.0", "1.1.0"], ["1.0.0", "2.0.0"])
    assert load_dataset(store, "parts", versions[1]).changes.previous == "1.0.0"
    require_whole(store, *versions)


def test_a_slow_publisher_is_helped_and_spoils_nothing_afterwards(store: Store, s3: S3Server) -> None:
    builds = [make_build(store, make_recipe(), counts) for counts in (SMALL, LARGE)]
    begun = threading.Event()

    def delay(request: Request) -> Fault | None:
        if not is_copy(request) or begun.is_set():
            return None
        begun.set()
        return Fault.DELAYED

    s3.faults, before = delay, s3.delay_s
    s3.delay_s = 60
    try:
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(publish_build, builds[0])
            assert begun.wait(60)
            fast = publish_build(builds[1])
            assert not slow.done()
            require_whole(store, "1.0.0", "1.1.0")
            s3.released.set()
            assert (slow.result().version, fast.version, fast.changes.previous) == ("1.0.0", "1.1.0", "1.0.0")
    finally:
        s3.delay_s = before
        s3.released.clear()
    require_whole(store, "1.0.0", "1.1.0")


def test_a_lost_connection_while_publishing_is_mended_by_the_next_try(store: Store, s3: S3Server) -> None:
    build = make_build(store, make_recipe(), SMALL)
    s3.faults = lambda request: Fault.INTERNAL_ERROR if is_publication(request) else None
    with pytest.raises(StoreError, match="cannot write"):
        publish_build(build)
    assert list_versions(store, "parts") == []
    s3.faults = once(is_copy, Fault.LOST_ANSWER, 3)
    again = publish_build(build)
    assert (again.version, again.is_new) == ("1.0.0", True)
    require_whole(store, "1.0.0")


def test_a_stray_object_in_the_way_is_named(store: Store) -> None:
    store.write_bytes(f"{HOME}/1.0.0/shards/train-000000.tar", b"stray")
    with pytest.raises(StoreAccessError, match=r"1\.0\.0 is in the way"):
        publish_build(make_build(store, make_recipe(), SMALL))
    assert store.read(f"{HOME}/1.0.0/shards/train-000000.tar") == b"stray"


def test_a_claim_that_cannot_be_kept_says_what_to_do(store: Store) -> None:
    build = make_build(store, make_recipe(), SMALL)
    publish_build(build)
    store.remove(f"{HOME}/1.0.0")
    with pytest.raises(StoreAccessError, match=r"after-nothing\.json claims version 1\.0\.0.*remove that claim"):
        publish_build(build)
    store.remove(f"{HOME}/.claims/after-nothing.json")
    assert publish_build(build).version == "1.0.0"
    require_whole(store, "1.0.0")


def test_old_artifacts_and_abandoned_folders_are_collected(store: Store) -> None:
    publish_build(make_build(store, make_recipe(), SMALL))
    store.write_bytes(f"{HOME}/.tmp-killed/manifest.parquet", b"half")
    store.write_bytes("artifacts/masks/" + "0" * 32 + "/part-00000.parquet", b"old")
    assert collect_garbage(store.uri, 1, [], delete=True)["removed"] == []  # all is young
    found = collect_garbage(store.uri, -1, [], delete=True)
    gone = {each["path"]: each["bytes"] for each in found["removed"]}
    assert (gone[f"{HOME}/.tmp-killed"], gone["artifacts/masks/" + "0" * 32]) == (4, 3)
    require_whole(store, "1.0.0")

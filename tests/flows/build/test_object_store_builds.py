"""Builds in an object store over HTTP: equal to those on a disk, whatever breaks on the way."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tailforge import open_dataset
from tailforge.catalog import object_store
from tailforge.catalog.registry import list_datasets, load_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.schemas.dataset import Dataset
from tests.flows.conftest import Command, build
from tests.support.s3_server import Fault, Request, S3Server, seeded

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture
def store(s3: S3Server) -> str:
    return f"s3://{s3.make_bucket()}/store"


def content(dataset: Dataset) -> dict[str, Any]:
    """What must not depend on where a version was built."""
    tables = {name: dataset.files[name] for name in ("manifest.parquet", "rejects.parquet")}
    return {"shards": dataset.shards, "tables": tables, "counts": dataset.counts, "version": dataset.version}


@pytest.fixture
def local(command: Command, tiny_recipe: Path, tmp_path: Path) -> dict[str, Any]:
    """What the tiny recipe gives on a disk."""
    build(command, tiny_recipe, tmp_path / "local")
    return content(load_dataset(Store.open(str(tmp_path / "local")), "tiny"))


@pytest.mark.slow
def test_a_build_equals_one_on_a_disk(
    command: Command, tiny_recipe: Path, store: str, local: dict[str, Any], s3: S3Server
) -> None:
    s3.requests.clear()
    made = build(command, tiny_recipe, store)
    asked = Counter(request.action for request in s3.requests)
    assert made["uri"] == f"{store}/datasets/tiny/1.0.0"
    opened = Store.open(store)
    files, partitions = len(load_dataset(opened, "tiny").files), made["work"]["samples"]
    assert asked["COPY"] == files + 1
    assert asked.total() < 60 * partitions + 4 * files  # docs/how-to/object_stores.md says what they are
    assert content(load_dataset(opened, "tiny")) == local
    assert verify(opened, "tiny") == []
    keys = [sample["key"] for sample in open_dataset(f"{store}/datasets/tiny", verify=True)]
    assert len(keys) == load_dataset(opened, "tiny").counts.by_split["train"]
    again = build(command, tiny_recipe, store)
    assert (again["new"], again["version"], again["work"]) == (False, "1.0.0", {})


def build_until_done(command: Command, recipe: Path, store: str, most: int = 4) -> tuple[dict[str, Any], list[str]]:
    """The same command until it succeeds; also what it said when it did not."""
    said: list[str] = []
    for _ in range(most):
        code, out, err = command("build", recipe, "--store", store, "--json")
        if code == 0:
            return json.loads(out), said
        said.append(err)
        assert code == 1, err
        assert "Traceback" not in err
    raise AssertionError("\n".join(said))


def require_equal(store: str, local: dict[str, Any]) -> None:
    opened = Store.open(store)
    assert content(load_dataset(opened, "tiny")) == local
    assert verify(opened, "tiny") == []


@pytest.mark.slow
def test_spoiled_requests_change_nothing(
    command: Command, tiny_recipe: Path, store: str, local: dict[str, Any], s3: S3Server
) -> None:
    s3.faults = seeded(seed=5, rate=0.05)
    build_until_done(command, tiny_recipe, store)
    s3.faults = None
    kinds = {request.fault for request in s3.requests}
    assert len(kinds) > 5, kinds
    require_equal(store, local)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", Fault)
def test_many_faults_of_one_kind_change_nothing(
    command: Command, tiny_recipe: Path, store: str, local: dict[str, Any], s3: S3Server, fault: Fault
) -> None:
    s3.faults = seeded(seed=6, rate=0.15, kinds=[fault])
    build_until_done(command, tiny_recipe, store)
    s3.faults = None
    require_equal(store, local)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_store_that_only_fails_is_one_error_soon_and_the_build_goes_on_later(
    command: Command,
    tiny_recipe: Path,
    store: str,
    local: dict[str, Any],
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(object_store.RETRIES, "total_max_attempts", 2)

    def fail_masks(request: Request) -> Fault | None:
        return Fault.INTERNAL_ERROR if "/artifacts/masks/" in request.path and request.method == "PUT" else None

    s3.faults, started = fail_masks, time.monotonic()
    code, out, err = command("build", tiny_recipe, "--store", store, "--json")
    assert (code, out) == (1, "")
    assert time.monotonic() - started < 240  # four tries of each stage under way, with 36 s of waiting between them
    assert "cannot write s3://" in err
    assert "finished work is kept" in err
    assert "Traceback" not in err
    assert list_datasets(Store.open(store)) == []
    s3.faults = None
    made = build(command, tiny_recipe, store)
    assert made["finished_before"]["samples"] > 0
    require_equal(store, local)


@pytest.mark.slow
def test_a_store_that_fails_at_once_is_one_error(command: Command, tiny_recipe: Path, store: str, s3: S3Server) -> None:
    s3.faults = lambda request: Fault.SLOW_DOWN
    code, out, err = command("build", tiny_recipe, "--store", store)
    assert (code, out) == (1, "")
    assert err.count("error: ") == 1
    assert "reduce your request rate" in err


READING: dict[str, tuple[str, ...]] = {
    "list": (),
    "show": ("tiny",),
    "verify": ("tiny",),
    "diff": ("tiny@1.0.0", "tiny"),
    "report": ("tiny",),
    "gc": (),
    "status": ("RECIPE",),
    "plan": ("RECIPE",),
    "rerun": ("RECIPE", "--failed-samples"),
    "export": ("tiny", "--format", "coco", "--out", "OUT"),
    "regenerate": ("SAMPLE", "--dataset", "tiny", "--folder", "FOLDER", "--out", "PICTURE"),
}


def test_commands_work_on_an_object_store(
    command: Command, tiny_recipe: Path, store: str, tmp_path: Path, s3: S3Server
) -> None:
    build(command, tiny_recipe, store)
    (sample, *_) = open_dataset(f"{store}/datasets/tiny")
    places = {
        "RECIPE": str(tiny_recipe),
        "FOLDER": str(tiny_recipe.parent),
        "OUT": str(tmp_path / "out"),
        "PICTURE": str(tmp_path / "again.png"),
        "SAMPLE": sample["key"],
    }
    secret = s3.environment["AWS_SECRET_ACCESS_KEY"]
    for name, words in READING.items():
        code, out, err = command(name, *(places.get(word, word) for word in words), "--store", store)
        assert code == 0, (name, err)
        assert secret not in out + err
    assert command("report", "tiny", "--store", store)[1].strip() == f"{store}/datasets/tiny/1.0.0/report/index.html"
    code, _, err = command("review", "tiny", "--store", store)
    assert (code, "need a folder on a local disk" in err) == (2, True)
    bucket = store.split("/")[2]
    assert not any(secret in s3.read(bucket, key).decode("latin-1") for key in s3.keys(bucket))

"""Datasets and versions: only published ones are seen, numbers sort as numbers, unknown ones are explained."""

from pathlib import Path

import pytest

from tailforge.catalog.registry import latest_version, list_datasets, list_versions, load_dataset, version_folder
from tailforge.catalog.store import Store
from tailforge.schemas.errors import NotFoundError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(str(tmp_path), create=True)
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        store.write_bytes(f"datasets/parts/{version}/dataset.json", b"{}")
    store.write_bytes("datasets/parts/2.0.0/manifest.parquet", b"")
    store.write_bytes("datasets/parts/.tmp-1/dataset.json", b"{}")
    store.write_bytes("datasets/unfinished/1.0.0/manifest.parquet", b"")
    return store


def test_only_published_versions_are_seen_in_the_order_of_their_numbers(store: Store) -> None:
    assert list_datasets(store) == ["parts"]
    assert list_versions(store, "parts") == ["1.2.0", "1.9.0", "1.10.0"]
    assert latest_version(store, "parts") == "1.10.0"
    assert latest_version(store, "unfinished") is None
    assert version_folder(store, "parts") == "datasets/parts/1.10.0"


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("bolts", "latest", "has no dataset 'bolts'; it has: parts"),
        ("parts", "2.0.0", "has no version '2.0.0'; it has: 1.2.0, 1.9.0, 1.10.0"),
        ("parts", "../parts/1.2.0", "has no version"),
    ],
)
def test_what_does_not_exist_is_explained(store: Store, name: str, version: str, message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        version_folder(store, name, version)


def test_an_empty_store_has_no_datasets(tmp_path: Path) -> None:
    assert list_datasets(Store.open(str(tmp_path))) == []


def test_dataset_json_is_read_back(published: Store) -> None:
    dataset = load_dataset(published, "parts")
    assert (dataset.name, dataset.version, dataset.counts.samples) == ("parts", "1.0.0", 53)
    assert sum(shard.samples for shard in dataset.shards) == 53

"""A published dataset to read; made once, and copied by the tests that damage it."""

from pathlib import Path

import pytest

from tailforge.catalog.store import Store
from tests.support.fabricate import make_build, make_recipe, publish_build


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with datasets/parts/1.0.0: 53 samples of 3 concepts, 4 shards of train and one of test."""
    store = Store.open(str(tmp_path_factory.mktemp("published") / "store"), create=True)
    recipe = make_recipe(sharding={"max_samples": 12, "attention": True})
    publish_build(make_build(store, recipe, {"gear": 30, "hook": 10, "ring": 20}), {"report/index.html": b"<html>"})
    return store


@pytest.fixture
def folder(published: Store) -> Path:
    return Path(published.path("datasets/parts/1.0.0"))

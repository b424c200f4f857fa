"""A store that an older release made is read and continued. No image is drawn again; masks are, by a newer method.

`tests/support/stores/store_0.1.0.tar.gz` is a folder `forge` as release 0.1.0 left it: a tiny generator and CLIP with
random weights, photographs, the recipes drawn.yaml (plain, augmented) and searched.yaml (seed_select, bootstrapped),
and their store.
"""

import json
import tarfile
from pathlib import Path

import pytest

from tailforge import list_datasets, open_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tests.flows.conftest import Command, build
from tests.support.repository import ROOT

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

IMAGES = {"drawn": 15, "searched": 5}
AGAIN = {"masks", "verdicts", "augmented", "selection"}  # what follows from masks


@pytest.fixture
def forge(tmp_path: Path) -> Path:
    with tarfile.open(ROOT / "tests" / "support" / "stores" / "store_0.1.0.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "forge"


def test_its_versions_are_read_and_verified(forge: Path) -> None:
    store = forge / "store"
    assert list_datasets(store) == sorted(IMAGES)
    for name, images in IMAGES.items():
        assert verify(Store.open(str(store)), name) == []
        read = [open_dataset(store / "datasets" / name, split=split) for split in ("train", "test")]
        assert sum(len([sample["image"].load() for sample in split]) for split in read) == images


@pytest.mark.parametrize("name", IMAGES)
def test_an_unchanged_recipe_draws_nothing_again(forge: Path, name: str, command: Command) -> None:
    recipe, store = forge / f"{name}.yaml", forge / "store"
    code, planned, err = command("plan", recipe, "--store", store, "--json")
    assert code == 0, err
    assert {stage["stage"] for stage in json.loads(planned)["stages"] if stage["missing"]} <= AGAIN

    # Masks of all images changed, which is a major version. Then nothing is left to do.
    made = build(command, recipe, store)
    assert (made["version"], made["samples"], made["work"].get("samples", 0)) == ("2.0.0", IMAGES[name], 0)
    assert verify(Store.open(str(store)), name) == []
    assert build(command, recipe, store)["new"] is False


def test_more_images_are_added_to_those_that_are_there(forge: Path, command: Command) -> None:
    def drawn() -> dict[str, bytes]:
        found = (forge / "store" / "artifacts" / "samples").rglob("*.parquet")
        return {str(path): path.read_bytes() for path in found}

    before = drawn()
    made = build(command, forge / "drawn.yaml", forge / "store", "--set", "concepts.0.requested=18")
    assert (made["version"], made["samples"]) == ("2.0.0", 24)
    after = drawn()
    assert {name: after[name] for name in before} == before
    assert made["work"]["samples"] == len(after) - len(before)

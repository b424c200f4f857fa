"""A store and real images for evaluations, and one finished evaluation of them."""

from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.store import Store
from tailforge.flows.training.evaluate_version import evaluate_version
from tests.support.tiny_evaluations import ask
from tests.support.tiny_shapes import draw_noise, publish_shapes, write_real


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `store`, which holds versions shapes and noise, and the images `real`."""
    folder = tmp_path_factory.mktemp("evaluated")
    store = Store.open(str(folder / "store"), create=True)
    publish_shapes(store)
    publish_shapes(store, "noise", draw_noise)
    write_real(folder / "real")
    return folder


@pytest.fixture(scope="module")
def made(place: Path) -> dict[str, Any]:
    """The evaluation of the version that holds the missing class."""
    return evaluate_version(ask(place, "shapes"), 2)

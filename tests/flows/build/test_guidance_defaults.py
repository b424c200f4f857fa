"""A recipe without guidance: the version says which guidance drew it, and equals one that sets the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tests.flows.conftest import Command, build, rows_of
from tests.support.tiny_flows import build_flux, save
from tests.support.tiny_recipes import write_recipe

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

ENGINE: dict[str, Any] = {"kind": "plain", "steps": 2, "batch_size": 4, "height": 32, "width": 32}


def test_a_version_of_flux_is_drawn_with_its_own_guidance(command: Command, tmp_path: Path) -> None:
    folder, store = tmp_path / "recipe", tmp_path / "store"
    save(build_flux(), folder / "generator")
    made = build(command, write_recipe(folder, engine=ENGINE), store)
    rows = rows_of(made)
    assert {json.loads(row["provenance"])["guidance"] for row in rows} == {3.5}
    assert load_dataset(Store.open(str(store)), "tiny").recipe["engine"]["guidance"] == 3.5

    # The setting itself changes nothing, and what the version says makes its images again.
    assert build(command, write_recipe(folder, engine=ENGINE | {"guidance": 3.5}), store)["work"] == {}
    words = ["--dataset", "tiny", "--store", store, "--folder", folder, "--json", "--out", tmp_path / "again.png"]
    code, out, err = command("regenerate", rows[0]["sample_id"], *words)
    assert code == 0, err
    assert json.loads(out)["equal"] is True
    assert "samples" in build(command, write_recipe(folder, engine=ENGINE | {"guidance": 3.0}), store)["work"]

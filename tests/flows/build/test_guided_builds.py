"""Builds by Domain Guidance: another generator gives the unconditional half."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tests.flows.conftest import Command, build, rows_of
from tests.support.bad_recipes import Change, assert_refused, put, references, search, together, write
from tests.support.tiny_generators import build_sd
from tests.support.tiny_recipes import TINY, write_recipe

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

GUIDED = TINY["engine"] | {"guide": {"model": "before"}}


def save_guide(folder: Path, **options: Any) -> None:
    build_sd(seed=1, width=24, **options).save_pretrained(folder / "before")


def digests(rows: list[dict[str, Any]], role: str) -> set[str]:
    origins: list[Mapping[str, Any]] = [json.loads(row["provenance"]) for row in rows]
    return {origin[role]["digest"] for origin in origins if role in origin}


def test_a_guide_makes_other_images_and_is_named_by_the_version(
    command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    folder, store = tiny_recipe.parent, tmp_path / "store"
    plain = rows_of(build(command, tiny_recipe, store))
    assert digests(plain, "guide") == set()
    save_guide(folder)
    made = build(command, write_recipe(folder, engine=GUIDED), store)
    assert made["version"] == "2.0.0"  # every image is another
    assert verify(Store.open(str(store)), "tiny") == []
    rows, models = rows_of(made), load_dataset(Store.open(str(store)), "tiny").lineage["models"]
    assert digests(rows, "guide") == {models["guide"]["digest"]}
    assert digests(rows, "generator") == digests(plain, "generator") == {models["generator"]["digest"]}
    assert f"- guide: sha256 `{models['guide']['digest']}`" in (Path(made["uri"]) / "README.md").read_text()
    assert build(command, write_recipe(folder, engine=GUIDED), store)["work"] == {}

    words = ["--dataset", "tiny", "--store", store, "--folder", folder, "--json", "--out", tmp_path / "again.png"]
    code, out, err = command("regenerate", rows[0]["sample_id"], *words)
    assert code == 0, err
    assert json.loads(out)["equal"] is True

    build_sd(seed=2).save_pretrained(folder / "before")
    code, _, err = command("regenerate", rows[0]["sample_id"], *words)
    assert code == 2
    assert "was made with guide" in err
    assert "samples" in build(command, write_recipe(folder, engine=GUIDED), store)["work"]


def with_guide(*changes: Change, **options: Any) -> Change:
    def change(recipe: dict[str, Any], folder: Path) -> None:
        save_guide(folder, **options)
        recipe["engine"] = dict(GUIDED)
        together(*changes)(recipe, folder)

    return change


CASES: dict[str, tuple[Change, str]] = {
    "guide missing": (put("engine", "guide", value={"model": "nowhere"}), "engine.guide: 'nowhere' is not a directory"),
    "guide is the generator": (put("engine", "guide", value={"model": "generator"}), "engine.guide is the generator"),
    "guide of another prediction": (
        with_guide(prediction="epsilon"),
        "engine.guide does not fit the generator: its kind of prediction is epsilon, the generator's v_prediction",
    ),
    "guide without guidance": (
        with_guide(put("engine", "guidance", value=1)),
        "engine.guide has no effect with engine.guidance 1",
    ),
    "guide that is broken": (
        with_guide(write("before/model_index.json", "{")),
        r"before.*model_index\.json is not JSON",
    ),
    "guide of an engine that searches": (
        search(references(3), guide={"model": "generator"}),
        "engine.guide: unknown key.*It is a key of kind plain",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_guide_that_cannot_be_is_refused(case: str, tiny_recipe: Path, command: Command) -> None:
    assert_refused(CASES[case], tiny_recipe, command)

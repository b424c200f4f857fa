"""A further round that costs many times the first is told and not begun, unless somebody wants it."""

import json
from pathlib import Path

import pytest

from tests.flows.conftest import Command
from tests.support.tiny_recipes import write_recipe

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


def drawn(store: Path) -> int:
    return len(list(store.glob("artifacts/samples/*/part-*.json")))


def test_a_costly_round_waits_for_a_word(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    quality = {
        "gates": {"brightness": {"min_quantile": 0.75}},  # one of the first four passes
        "near_duplicates": None,
        "oversample": 1.0,
        "max_rounds": 2,
        "round_limit": 1,
    }
    concepts = [{"name": "gear", "requested": 3}]
    recipe = write_recipe(
        tiny_recipe.parent, concepts=concepts, quality=quality, splits=None, prompts={"templates": ["a {concept}"]}
    )
    store = tmp_path / "store"
    words = [recipe, "--store", store, "--json"]
    code, _, err = command("build", *words)
    assert code == 1
    error = err[err.index("error:") :]
    assert "round 2 would draw 12 images, 3 times the first round, about" in error
    assert "for few images are accepted: gear 1 of 4. Finished work is kept." in error
    assert "quality.max_rounds=1" in error
    assert "--yes or a quality.round_limit above 1" in error
    assert "Traceback" not in err
    assert drawn(store) == 1
    assert not list(store.glob("datasets/tiny/1.*"))

    code, out, err = command("build", *words, "--yes")
    assert code == 0, err
    made = json.loads(out)
    assert (made["rounds"], made["work"]["samples"]) == (2, 3)
    assert drawn(store) == 4
    # What is drawn costs nothing any more, so the next night does not stop.
    code, out, err = command("build", *words, "--set", "license=MIT")
    assert code == 0, err
    assert "samples" not in json.loads(out)["work"]

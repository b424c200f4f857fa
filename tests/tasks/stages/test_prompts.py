"""Stage `prompts`: what its address depends on, and what it writes."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import BuildContext, ResolvedModel
from tailforge.schemas.recipe import parse_recipe
from tailforge.schemas.tables import PROMPTS
from tailforge.tasks.methods.planning.expand_prompts import expand_prompts as expand
from tailforge.tasks.stages.prompts import STAGE, locate, read_prompts
from tests.support.stages import run


def make_build(store: Path, prompts: dict[str, Any] | None = None, **changes: Any) -> BuildContext:
    data = {
        "name": "parts",
        "description": "parts",
        "seed": 5,
        "generator": {"model": "somewhere"},
        "concepts": [{"name": "gear", "requested": 3}, {"name": "hook", "requested": 3}],
        "prompts": {
            "templates": ["a photo of {a} {material} {concept}", "{concept}"],
            "attributes": {"material": {"steel": 1, "iron": 2}},
            **(prompts or {}),
        },
        **changes,
    }
    return BuildContext(
        store=str(store), recipe=parse_recipe(data, "test"), generator=ResolvedModel(path="x", digest="g")
    )


def test_table_holds_the_prompts_of_the_method(tmp_path: Path) -> None:
    build = make_build(tmp_path)
    receipt = run(STAGE, build.store, build, "hook")
    table = pq.read_table(tmp_path / receipt.uri)
    assert table.schema.equals(PROMPTS)
    assert read_prompts(table) == expand(build.recipe, build.recipe.concepts[1])
    assert receipt.uri == locate(build, "hook").uri
    assert receipt.rows == 3


def test_a_second_run_reads_the_receipt(tmp_path: Path) -> None:
    build = make_build(tmp_path)
    first = run(STAGE, build.store, build, "gear")
    written = (tmp_path / first.uri).stat().st_mtime_ns
    assert run(STAGE, build.store, build, "gear") == first
    assert (tmp_path / first.uri).stat().st_mtime_ns == written


CONCEPTS = [{"name": "gear", "requested": 3}, {"name": "hook", "requested": 3}]


@pytest.mark.parametrize(
    ("changes", "touched"),
    [
        ({}, False),
        ({"concepts": [{"name": "gear", "requested": 9, "references": "photos"}, CONCEPTS[1]]}, False),
        ({"concepts": [CONCEPTS[0], {"name": "hook", "requested": 3, "synonyms": ["crook"]}]}, False),
        ({"prompts": {"lexicon": {"hook": ["crook"]}}}, False),
        ({"quality": {"gates": {"contrast": {"min": 0.1}}}}, False),
        ({"concepts": [{"name": "gear", "requested": 3, "synonyms": ["cog"]}, CONCEPTS[1]]}, True),
        ({"concepts": [{"name": "gear", "requested": 3, "templates": ["{concept}"]}, CONCEPTS[1]]}, True),
        ({"prompts": {"lexicon": {"gear": ["cog"]}}}, True),
        ({"prompts": {"attributes": {"material": {"iron": 2, "steel": 1}}}}, True),
        ({"prompts": {"per_concept": 2}}, True),
        ({"prompts": {"wordnet": True}}, True),
        ({"seed": 6}, True),
    ],
)
def test_address_follows_only_what_touches_the_concept(tmp_path: Path, changes: dict[str, Any], touched: bool) -> None:
    changed = locate(make_build(tmp_path, **changes), "gear").fingerprint
    assert (changed != locate(make_build(tmp_path), "gear").fingerprint) is touched


def test_concept_without_prompts_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    build = make_build(tmp_path, concepts=[{"name": "gear", "requested": 3, "templates": []}])
    with pytest.raises(RecipeError, match="gear"):
        run(STAGE, build.store, build, "gear")
    assert not (tmp_path / "artifacts").exists()

"""The JSON schema refuses what the models refuse by key, type, bound or choice, and nothing that they accept."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from ruamel.yaml import YAML

from tailforge.catalog.sources.recipes import RECIPES, recipe_names, training_names
from tailforge.flows.photographs.defect_example import write_recipe
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.recipe import parse_recipe, rename_old_keys
from tailforge.schemas.recipe_schema import recipe_schema
from tailforge.schemas.training.embedded import parse_training_recipe
from tests.support.shown_commands import FENCE, ROOT

VALIDATOR = Draft202012Validator(recipe_schema())
TRAINED = Draft202012Validator(recipe_schema("training_recipe"))
BASE = {"name": "small", "description": "A test.", "seed": 1, "concepts": [{"name": "gear", "requested": 3}],
        "generator": {"model": "catalog:workshop"}}  # fmt: skip
REAL = {"folder": "photographs", "license": {"name": "Ours", "url": "https://example.org/x"}}
SCORER = {"model": "catalog:workshop", "subfolder": "clip"}
SEEN = {"concepts": [{"name": "gear", "requested": 3, "references": "gears"}], "quality": {"scorer": SCORER}}
ADAPT = {"images": {"folder": "photographs"}, "learning": {"steps": 2, "batch": 2, "learning_rate": 0.001}}
# One recipe per shape of a section.
SHAPES: list[dict[str, Any]] = [
    {"engine": "plain"},
    {"engine": {"steps": 4}},
    {"concepts": [{"name": "Zahnräder", "wanted": 3, "synonyms": ["é"], "templates": None}]},
    {"quality": {"gates": "none", "near_duplicates": None}},
    {"quality": {"gates": None}},
    {"quality": {"gates": {"mask_area": {"max": 0.9}}, "near_duplicates": {"max_distance": 2}}},
    {"allocation": {"by": "gain", "budget": 64, "real": REAL}},
    {"allocation": {"by": "gain", "budget": {"seconds": 60}, "real": REAL}},
    {"generator": {"base": "catalog:workshop", "adapt": ADAPT}},
    {"generator": {"base": {"model": "catalog:workshop"}, "adapt": ADAPT}},
    {"annotation": {"kind": "renoised_attention", "threshold": 0.4, "window": [0, 0.3]}},
    {"license": {"name": "Ours", "url": "https://example.org/terms"}, "splits": {"train": 0.5, "test": 0.5}},
    {"sharding": {"image_format": "jpg", "jpeg_quality": 90}, "partition_size": 16},
    {**SEEN, "engine": {"kind": "best_of_n", "candidates": 2, "target": "centroid"}},
    {**SEEN, "engine": {"kind": "zero_order", "rounds": 2}},
    {**SEEN, "engine": {"kind": "seed_select", "last_steps": [0.5, 0.5], "stop": None, "target": "centroid"}},
    {"engine": "natural_inversion", "generator": {"model": "classifier", "mean": [0.5], "std": [0.5]}},
    {"engine": {"kind": "inpaint", "sources": {"folder": "good"}, "regions": {"shapes": ["blob"]}}},
]  # fmt: skip
# What a value is replaced by. Numbers and truths in quotes are left out: pydantic reads them, and the schema does not.
OTHERS: list[Any] = ["word", "", -1, 1.5, 10**9, None, True, [], ["word"], {}, {"word": 1}]
RULES = {"value_error", "union_tag_not_found"}


def refusal(data: Any) -> RecipeError | None:
    """Return the error of the models for a recipe of a build; None if they accept it."""
    data = copy.deepcopy(data)
    try:
        rename_old_keys(data)
        parse_recipe(data, "it.yaml")
    except RecipeError as error:
        return error
    return None


def training_refusal(data: Any) -> RecipeError | None:
    """Return the error of the models for a training recipe; None if they accept it."""
    try:
        parse_training_recipe(copy.deepcopy(data), "it.yaml")
    except RecipeError as error:
        return error
    return None


def is_of_structure(error: RecipeError | None) -> bool:
    """Return whether a refusal names a mistake of a key, a type, a bound or a choice."""
    cause = error.__cause__ if error else None
    return isinstance(cause, ValidationError) and any(each["type"] not in RULES for each in cause.errors())


def read_as_editors(text: str) -> Any:
    """Return a document of YAML 1.2."""
    return YAML(typ="safe", pure=True).load(text)


def documents() -> dict[str, Any]:
    """Return the recipes of the catalog and of the pages, and one of each shape."""
    texts = {name: (RECIPES / f"{name}.yaml").read_text() for name in recipe_names()}
    texts["defects"] = write_recipe()
    for page in sorted((ROOT / "docs").rglob("*.md")):
        blocks = [block[2] for block in FENCE.finditer(page.read_text()) if block[1] == "yaml"]
        whole = [text for text in blocks if "\nconcepts:" in text and text.startswith(("name:", "# "))]
        texts |= {f"{page.stem} {number}": text for number, text in enumerate(whole)}
    read = {name: read_as_editors(text) for name, text in texts.items()}
    return read | {f"shape {number}": BASE | each for number, each in enumerate(SHAPES)}


DOCUMENTS = documents()


def change(data: Any) -> Iterator[tuple[str, Any]]:
    """Yield a name and a document for each change of one key or value; of a long document for every fourth change."""
    paths = list(places(data))
    stride = 1 if len(paths) < 50 else 4
    for first, path in enumerate(paths):
        for number, other in list(enumerate([*OTHERS, "remove", "add"]))[first % stride :: stride]:
            changed = copy.deepcopy(data)
            inside = changed
            for key in path[:-1]:
                inside = inside[key]
            if other == "remove":
                del inside[path[-1]]
            elif other == "add":
                if not isinstance(inside[path[-1]], dict):
                    continue
                inside[path[-1]]["unheard_of"] = 1
            else:
                inside[path[-1]] = other
            yield f"{'.'.join(map(str, path))} {number}", changed


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value below a document's root; of a list the first element alone."""
    inner = data.items() if isinstance(data, dict) else enumerate(data[:1]) if isinstance(data, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


def test_the_schemas_are_schemas() -> None:
    for schema in (recipe_schema(), recipe_schema("training_recipe")):
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_schema_and_models_agree(name: str) -> None:
    assert list_disagreements(DOCUMENTS[name], VALIDATOR, refusal) == []


@pytest.mark.parametrize("name", training_names())
def test_schema_and_models_of_training_agree(name: str) -> None:
    assert list_disagreements(read_as_editors((RECIPES / f"{name}.yaml").read_text()), TRAINED, training_refusal) == []


def list_disagreements(data: Any, validator: Draft202012Validator, refuse: Callable[[Any], RecipeError | None]) -> Any:
    """Return the changes of a good document on which schema and models disagree."""
    assert refuse(data) is None
    assert validator.is_valid(data), next(validator.iter_errors(data)).message
    wrong = []
    for what, changed in change(data):
        valid, error = validator.is_valid(changed), refuse(changed)
        if error is None and not valid:
            wrong.append(f"{what}: refused by the schema alone")
        elif valid and is_of_structure(error):
            wrong.append(f"{what}: refused by the models alone: {error}")
    return wrong

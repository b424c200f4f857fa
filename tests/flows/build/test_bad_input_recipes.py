"""Keys and values that no recipe may have are refused: all at once, by the key as it was written."""

from pathlib import Path

import pytest

from tests.flows.conftest import Command
from tests.support.bad_recipes import Change, assert_refused, drop, put

CASES: dict[str, tuple[Change, str]] = {
    "unknown key": (put("colour", value=1), r"colour: unknown key\. Known: name, description, .*partition_size"),
    "unknown key inside": (
        put("engine", "stepz", value=1),
        r"engine\.stepz: unknown key; did you mean 'steps'\? Known: steps,",
    ),
    "missing name": (drop("name"), "name: is missing; add it"),
    "missing generator": (drop("generator"), "generator: is missing; add it"),
    "name with spaces": (
        put("name", value="my set"),
        "name: must have the form .*lower case letters, digits.*; found 'my set'",
    ),
    "name that climbs": (put("name", value="../up"), "name: "),
    "no concepts": (put("concepts", value=[]), "concepts: must have 1 or more entries; found a list of 0"),
    "concept twice": (
        put("concepts", value=[{"name": "a b", "requested": 1}, {"name": "A b", "requested": 1}]),
        "named twice",
    ),
    "wanted zero": (put("concepts", 0, "requested", value=0), r"concepts\.0\.requested: must be 1 or more; found 0"),
    "wanted text": (
        put("concepts", 0, "requested", value="many"),
        r"concepts\.0\.requested: must be a whole number; found 'many'",
    ),
    "negative seed": (put("seed", value=-1), "seed: must be 0 or more; found -1"),
    "shares above one": (put("splits", value={"train": 0.9, "test": 0.9}), "sum to 1.8"),
    "unknown split": (
        put("splits", value={"training": 1.0}),
        r"splits\.training: unknown key; did you mean 'train'\? Known: train, validation, test",
    ),
    "template without concept": (put("prompts", "templates", value=["a photo"]), "no {concept} slot"),
    "template with unknown slot": (put("prompts", "templates", value=["{concept} in {hue}"]), "{hue}"),
    "template with a brace": (put("prompts", "templates", value=["a {Big} {concept}"]), "brace"),
    "window backwards": (put("annotation", value={"window": [0.8, 0.2]}), "window begins at 0.8"),
    "quantiles crossed": (
        put("quality", "gates", value={"sharpness": {"min_quantile": 0.9, "max_quantile": 0.1}}),
        "not below max_quantile",
    ),
    "gate without number": (put("quality", "gates", value={"sharpness": {"min": float("nan")}}), "finite"),
    "partition of broken batches": (put("partition_size", value=6), "no multiple of engine.batch_size 4, try 8"),
    "empty templates": (put("prompts", "templates", value=[]), "templates"),
    "attribute weight zero": (put("prompts", "attributes", value={"place": {"bench": 0}}), "place"),
    "unknown engine": (
        put("engine", "kind", value="magic"),
        "engine.kind: must be one of plain, best_of_n, .*found 'magic'",
    ),
    "zero steps": (put("engine", "steps", value=0), r"engine.*steps"),
    "odd height": (put("engine", "height", value=100), r"engine.*height"),
    "unknown scheduler": (put("engine", "scheduler", value="magic"), "scheduler"),
    "unknown gate": (
        put("quality", "gates", value={"beauty": {"min": 1}}),
        r"quality\.gates\.beauty: unknown key\. Known: brightness",
    ),
    "empty gate": (put("quality", "gates", value={"sharpness": {}}), "a gate needs"),
    "gate that none can pass": (
        put("quality", "gates", value={"sharpness": {"min": 2, "max": 1}}),
        "no image could pass",
    ),
    "oversample below one": (put("quality", "oversample", value=0.5), "oversample"),
    "unknown transform": (put("augmentation", value={"transforms": [{"name": "MakePretty"}]}), "MakePretty"),
    "unknown transform parameter": (
        put("augmentation", value={"transforms": [{"name": "GaussianBlur", "parameters": {"blurriness": 3}}]}),
        "blurriness",
    ),
    "soft maps of augmented images": (
        lambda recipe, folder: recipe.update(
            sharding={"attention": True}, augmentation={"transforms": [{"name": "HorizontalFlip"}]}
        ),
        "soft maps",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused(case: str, tiny_recipe: Path, command: Command) -> None:
    assert_refused(CASES[case], tiny_recipe, command)

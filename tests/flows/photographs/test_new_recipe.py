"""`tailforge new` copies a recipe of the catalog: it plans the same images, under another name and licence."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from tailforge.catalog.sources.recipes import load_recipe, recipe_names
from tests.flows.conftest import Command


@pytest.mark.parametrize("template", recipe_names())
def test_a_copy_differs_in_name_and_licence_alone(
    template: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command("new", "mine", "--from", template, "--license", "Our own terms", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert made == {"recipe": str(tmp_path / "mine/recipe.yaml"), "next": "tailforge plan mine/recipe.yaml"}

    own, copied = load_recipe(template).recipe.model_dump(), load_recipe(made["recipe"]).recipe.model_dump()
    changed = {"name": "mine", "license": {"name": "Our own terms", "url": None}}
    assert copied == own | changed
    code, out, err = command("plan", "mine/recipe.yaml", "--store", "store")
    assert code == 0, err


def test_without_a_licence_the_copy_keeps_that_of_the_catalog(command: Command, tmp_path: Path) -> None:
    assert command("new", "mine", "--out", tmp_path / "x")[0] == 0
    recipe = load_recipe(str(tmp_path / "x/recipe.yaml")).recipe
    assert (recipe.name, recipe.license) == ("mine", "CC0-1.0")


def test_the_first_line_names_the_schema_beside_the_recipe(command: Command, tmp_path: Path) -> None:
    command("new", "mine", "--out", tmp_path / "x")
    text = (tmp_path / "x/recipe.yaml").read_text()
    word, _, name = text.partition("\n")[0].rpartition("$schema=")
    assert word == "# yaml-language-server: "
    schema = json.loads((tmp_path / "x" / name).read_text())
    Draft202012Validator(schema).validate(YAML(typ="safe", pure=True).load(text))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["Mine"], "name: must have the form"),
        (["mine", "--license", "unknown"], "license: 'unknown' is no SPDX identifier"),
        (["mine", "--from", "train-workshop"], "--from 'train-workshop': the catalog has: workshop,"),
        (["mine", "--out", "missing/x"], "missing does not exist"),
        (["full"], "full is not empty"),
    ],
    ids=lambda each: "",
)
def test_what_cannot_be_is_refused_and_nothing_written(
    words: list[str], told: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/own.txt").write_text("mine")
    code, _, err = command("new", *words)
    assert (code, told in err) == (2, True), err
    assert [str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*.*")] == ["full/own.txt"]


def test_the_schema_is_printed_or_written(command: Command, tmp_path: Path) -> None:
    _, printed, _ = command("schema")
    assert command("schema", "--out", tmp_path / "it.json")[0] == 0
    assert (tmp_path / "it.json").read_text() == printed
    assert command("schema", "--training")[1] != printed
    code, _, err = command("schema", "--out", tmp_path)
    assert (code, str(tmp_path) in err) == (2, True), err

"""Reading recipes: names, paths, overrides, and what is refused."""

from pathlib import Path

import pytest

from tailforge.catalog.sources.recipes import (
    apply_override,
    load_recipe,
    load_training_recipe,
    recipe_home,
    recipe_names,
    training_names,
)
from tailforge.schemas.errors import NotFoundError, RecipeError, UserError

MINIMAL = """
name: small
description: A test.
seed: 1
concepts:
  - {name: gear, requested: 3}
  - {name: hex nut, requested: 2}
generator: {model: "catalog:workshop"}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(MINIMAL)
    return file


def test_every_catalog_recipe_is_valid() -> None:
    assert "workshop" in recipe_names()
    for name in recipe_names():
        assert load_recipe(name).recipe.name == name


def test_paths_of_a_published_recipe_start_in_the_folder_that_the_user_names(tmp_path: Path) -> None:
    assert recipe_home("small", tmp_path) == tmp_path
    assert recipe_home("small") == Path.cwd()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for folder, reason in ((tmp_path / "loop", "leads back to itself"), (Path("~nobody-here/x"), "there is no user")):
        with pytest.raises(UserError, match=f"--folder .*{reason}"):
            recipe_home("small", folder)


def test_json_and_back_is_the_identity(path: Path) -> None:
    recipe = load_recipe(str(path)).recipe
    assert type(recipe).model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=7", lambda r: r.seed == 7),
        ("concepts.gear.requested=9", lambda r: r.concepts[0].wanted == 9),
        ("concepts.hex nut.wanted=9", lambda r: r.concepts[1].wanted == 9),
        ("concepts.1.requested=9", lambda r: r.concepts[1].wanted == 9),
        ("quality.gates.sharpness.min=40", lambda r: r.quality.gates["sharpness"].min == 40),
        ("splits={train: 0.5, test: 0.5}", lambda r: r.splits == {"train": 0.5, "test": 0.5}),
    ],
)
def test_overrides(path: Path, override: str, expected) -> None:  # type: ignore[no-untyped-def]
    assert expected(load_recipe(str(path), [override]).recipe)


@pytest.mark.parametrize(
    "override", ["seed", "=3", "a..b=1", "concepts.bolt.requested=1", "seed.x=1", "concepts.7.requested=2"]
)
def test_bad_overrides_are_named(path: Path, override: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        load_recipe(str(path), [override])


def test_override_of_a_mapping_in_place() -> None:
    data = {"a": {"b": 1}}
    apply_override(data, "a.c.d=[1, 2]")
    assert data == {"a": {"b": 1, "c": {"d": [1, 2]}}}


def test_a_key_given_twice_is_refused(path: Path) -> None:
    path.write_text(MINIMAL + "seed: 2\n")
    with pytest.raises(RecipeError, match="'seed' is given twice"):
        load_recipe(str(path))


def test_settings_without_effect_are_refused_where_they_were_given(path: Path) -> None:
    engine = "engine={kind: seed_select, encoder: {model: clip}, candidates: 1"
    named = [f"concepts.{name}.references=photos" for name in ("gear", "hex nut")]
    assert load_recipe(str(path), [f"{engine}}}", *named]).recipe.engine.finalists == 2  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match=r"small\.yaml: engine\.finalists 2 is above engine\.cand"):
        load_recipe(str(path), [f"{engine}, finalists: 2}}", *named])


def test_unknown_recipes_list_what_there_is() -> None:
    with pytest.raises(NotFoundError, match="workshop"):
        load_recipe("no-such-recipe")


TRAINING = "{name: small, base: 'catalog:workshop', images: {folder: photographs}, learning: {steps: 1, colour: 3}}"


def test_a_recipe_of_the_other_kind_names_the_command_that_reads_it(path: Path, tmp_path: Path) -> None:
    training = tmp_path / "my training.yaml"
    for kind in ("", "kind: generator, "):
        training.write_text(TRAINING.replace("{name", f"{{{kind}name"))
        with pytest.raises(RecipeError) as raised:
            load_recipe(str(training), ["seed=3"])
        assert str(raised.value) == f"{training} is a training recipe; give `tailforge train '{training}'`"
    with pytest.raises(RecipeError) as raised:
        load_training_recipe(path)
    assert str(raised.value) == f"{path} is a recipe of a build; give `tailforge build {path}`"


def test_a_name_of_the_other_kind_names_the_command_that_reads_it() -> None:
    for name in recipe_names():
        with pytest.raises(RecipeError, match=f"^{name} of the catalog is a recipe of a build; give `tailforge build"):
            load_training_recipe(name)
    for name in training_names():
        with pytest.raises(RecipeError, match=f"^{name} of the catalog is a training recipe; give `tailforge train "):
            load_recipe(name)


def test_what_is_too_short_to_tell_is_read_as_what_was_asked_for(path: Path) -> None:
    path.write_text("{name: small, seed: 1}")
    with pytest.raises(RecipeError, match="long_tailed: is missing"):
        load_training_recipe(path)
    with pytest.raises(RecipeError, match="description: is missing"):
        load_recipe(str(path))

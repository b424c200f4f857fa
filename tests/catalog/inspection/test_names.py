"""Names of classes become names that a recipe holds, each its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.catalog.inspection.names import name_concepts, name_dataset, name_folders
from tailforge.schemas.recipe import parse_recipe
from tailforge.schemas.settings.fields import look, tidy


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ("gear", "gear"),
        ("Wing_Nut", "Wing Nut"),
        ("Schraube groß", "Schraube groß"),
        ("крестовина", "крестовина"),
        ("हुक", "हुक"),
        ("a/b: c", "a b c"),
        ("-x", "x"),
        ("0", "0"),
        ("🔩", "class 1"),
        ("x" * 80, "x" * 64),
    ],
)
def test_a_name_keeps_what_a_recipe_allows(found: str, name: str) -> None:
    assert name_concepts([found]) == {found: name}


def test_names_that_become_alike_get_numbers() -> None:
    assert name_concepts(["a_b", "a b", "A:b"]) == {"a_b": "a b", "a b": "a b 2", "A:b": "A b 3"}


@given(st.lists(st.text(min_size=1, max_size=70).filter(lambda each: tidy(each) == each), unique=True, min_size=1))
def test_any_names_make_a_recipe(classes: list[str]) -> None:
    names = list(name_concepts(classes).values())
    assert len({look(each) for each in names}) == len(classes)
    folders = name_folders(names)
    assert len(set(folders.values())) == len(names)
    assert all(folder[0] not in ". " and "/" not in folder for folder in folders.values())
    concepts = [{"name": name, "requested": 1, "references": f"references/{folders[name]}"} for name in names]
    data = {"name": "any", "description": "x", "seed": 1, "generator": {"model": "m"}, "concepts": concepts}
    assert [each.name for each in parse_recipe(data, "test").concepts] == names


@pytest.mark.parametrize(
    ("place", "name"), [("My Photos (2)", "my-photos-2"), ("Bölts_3", "bolts_3"), ("照片", "photographs")]
)
def test_a_dataset_is_named_after_its_folder(place: str, name: str) -> None:
    assert name_dataset(place) == name

"""Commands take a recipe or a dataset, and find the build that was made last; a store chooses no code."""

import json
from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.metadata.last_builds import LastBuild, record_build
from tailforge.catalog.sources.recipes import RECIPES, load_recipe, recipe_names
from tailforge.catalog.store import Store
from tailforge.flows.build.choose import choose_build, open_recipe, remember_build, split_reference
from tailforge.schemas.errors import NotFoundError, RecipeError, StoreAccessError
from tests.flows.conftest import Command, build
from tests.support.fabricate import make_build, make_recipe, publish_build

MODULE = "{model: own, module: 'subprocess:check_call'}"
FEWER = ("--set", "concepts.gear.requested=2", "--set", "concepts.bench.requested=1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that holds parts@1.0.0."""
    made = Store.open(str(tmp_path / "store"), create=True)
    publish_build(make_build(made, make_recipe(), {"gear": 3, "hook": 3, "ring": 3}), {"report/index.html": b"<html>"})
    return made


@pytest.mark.flow
@pytest.mark.usefixtures("prefect_server")
def test_each_command_takes_either(
    tiny_recipe: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build with --set is found by the recipe, by the dataset and by the version, without giving --set again."""
    store = tmp_path / "store"
    monkeypatch.chdir(tiny_recipe.parent)  # where the recipe of a version finds its model

    def ask(*words: Any) -> Any:
        code, out, err = command(*words, "--store", store, "--json")
        assert code == 0, err
        return json.loads(out)

    made = build(command, tiny_recipe, store, *FEWER)
    for reference in (tiny_recipe, "tiny", "tiny@1.0.0", "tiny@latest"):
        found = ask("status", reference)
        assert (found["complete"], found["published"]) == (True, "1.0.0"), reference
        assert found["evaluated"] == "not evaluated"
    assert ask("status", tiny_recipe)["overrides"] == ["concepts.gear.requested=2", "concepts.bench.requested=1"]
    assert not ask("status", tiny_recipe, "--set", "concepts.gear.requested=3")["complete"]
    assert "as built last: --set concepts.gear.requested=2 --set" in command("status", tiny_recipe, "--store", store)[1]
    assert ask("plan", "tiny")["complete"]
    assert not ask("plan", tiny_recipe)["complete"]
    for reference in (tiny_recipe, "tiny"):
        again = ask("rerun", reference, "--stage", "masks")
        assert (again["version"], again["samples"], again["new"]) == ("1.0.0", made["samples"], False)
    for words in (["show"], ["verify"], ["report"]):
        assert ask(*words, tiny_recipe) == ask(*words, "tiny")
    assert ask("diff", tiny_recipe, "tiny@1.0.0")["changed"] == 0
    exported = ask("export", tiny_recipe, "--format", "coco", "--out", tmp_path / "coco")
    assert exported["version"] == "1.0.0"
    (tiny_recipe.parent / "tiny.yaml").rename(tiny_recipe.parent / "moved.yaml")
    code, _, err = command("status", "tiny", "--store", store)
    assert code == 2
    assert "is neither a file nor in the catalog" in err


def test_what_is_neither_is_refused(store: Store) -> None:
    for reference in ("nothing", "nothing@1.0.0", "parts@9.9.9", "Parts"):
        with pytest.raises(NotFoundError, match=reference.rpartition("@")[2]):
            open_recipe(reference, store.uri)


def test_a_recipe_of_the_catalog_is_named_as_its_dataset() -> None:
    """So a name means one dataset, whether a command reads it as a recipe or as a dataset."""
    assert [load_recipe(name).recipe.name for name in recipe_names()] == recipe_names()


def test_a_dataset_is_named_by_itself_or_by_its_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text((RECIPES / "workshop.yaml").read_text().replace("name: workshop", "name: mine"))
    assert split_reference(str(recipe)) == ("mine", "latest")
    assert split_reference("mine@2.0.0") == ("mine", "2.0.0")
    assert split_reference("mine") == ("mine", "latest")


def test_the_last_build_is_that_of_the_newest_recipe_and_overrides(store: Store) -> None:
    assert choose_build("workshop", store.uri, last=True) == ("workshop", (), "")
    for wanted in (3, 4):
        remember_build(store.uri, "workshop", "workshop", [f"concepts.gear.requested={wanted}"])
    assert choose_build("workshop", store.uri, last=True).overrides == ("concepts.gear.requested=4",)
    assert choose_build("workshop", store.uri) == ("workshop", (), "")
    assert choose_build("workshop", store.uri, ["seed=1"], last=True) == ("workshop", ("seed=1",), "")


def test_a_store_chooses_no_code(store: Store) -> None:
    """Neither by overrides for a recipe that the user named, nor by a recipe, nor by the recipe of a version."""
    known = "workshop_inversion"
    record_build(store, known, LastBuild(recipe=known, overrides=(f"generator={MODULE}",)))
    with pytest.raises(RecipeError, match="imports 'subprocess:check_call'"):
        choose_build(known, store.uri, last=True)
    planted = Path(store.uri) / "evil.yaml"
    planted.write_text(
        (RECIPES / "workshop_inversion.yaml").read_text().replace('{model: "catalog:workshop-teacher"}', MODULE)
    )
    record_build(store, "parts", LastBuild(recipe=str(planted)))
    with pytest.raises(RecipeError, match="imports 'subprocess:check_call'"):
        choose_build("parts", store.uri)
    dataset = Path(store.uri) / "datasets" / "parts" / "1.0.0" / "dataset.json"
    content = json.loads(dataset.read_text())
    content["recipe"]["generator"] = {"model": "own", "module": "subprocess:check_call"}
    content["recipe"]["engine"] = {"kind": "natural_inversion", "steps": 2}
    dataset.write_text(json.dumps(content))
    with pytest.raises(RecipeError, match="imports 'subprocess:check_call'"):
        open_recipe("parts@1.0.0", store.uri)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"recipe": 3}', '{"format": "other/1", "recipe": "workshop"}', "\udcff"]
)
def test_a_damaged_record_is_refused(store: Store, content: str) -> None:
    store.write_bytes("builds/workshop.json", content.encode(errors="surrogateescape"))
    with pytest.raises(StoreAccessError, match="remove it, and name the recipe"):
        choose_build("workshop", store.uri, last=True)


@pytest.mark.parametrize("recipe", ["gone.yaml", "gone", "../../gone"])
def test_a_recipe_that_is_gone_is_told(store: Store, recipe: str) -> None:
    record_build(store, "parts", LastBuild(recipe=recipe))
    with pytest.raises(NotFoundError, match="gone"):
        choose_build("parts", store.uri)
    assert choose_build("parts@latest", store.uri) == ("parts@latest", (), "")


def test_the_old_key_of_requested_images_works_with_a_note(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    tiny_recipe.write_text(tiny_recipe.read_text().replace("requested:", "wanted:"))
    code, out, err = command("plan", tiny_recipe, "--store", tmp_path / "store", "--set", "concepts.gear.wanted=4")
    assert (code, "10 images of 2 concepts requested" in out) == (0, True), out
    assert err.count(f"{tiny_recipe}: the key wanted of concepts is now called requested") == 1

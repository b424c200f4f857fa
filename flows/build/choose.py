"""From what a user names to a build: a recipe, a dataset, or dataset@version, with the overrides of the last build.

A recipe that the user names may choose code to import; one that a store or a version names may not.
"""

import copy
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tailforge.catalog.metadata.last_builds import LastBuild, read_last_build, record_build
from tailforge.catalog.registry import NAME, list_versions, load_dataset
from tailforge.catalog.sources.recipes import (
    RecipeFile,
    apply_override,
    find_recipe,
    load_recipe,
    recipe_home,
    recipe_names,
    training_names,
)
from tailforge.catalog.store import Store, expand_home
from tailforge.schemas.documents.shown import show, show_text
from tailforge.schemas.errors import NotFoundError, RecipeError
from tailforge.schemas.recipe import Recipe, parse_recipe, read_stored_recipe, rename_old_keys

VERSIONED = re.compile(r"[^@/]+@[^@/]+")  # dataset@version


class Chosen(NamedTuple):
    """What `open_recipe` takes. `told`: overrides that the user did not give, since the last build had them."""

    reference: str
    overrides: tuple[str, ...]
    told: str = ""


def choose_build(reference: str, store: str, overrides: Sequence[str] = (), *, last: bool = False) -> Chosen:
    """The recipe and the overrides that a command means.

    A dataset without version means its last build, or else its latest version. `last`: without overrides a recipe
    stands for its last build too. Errors: NotFoundError; RecipeError where the last build would choose code.
    """
    given, kept = tuple(overrides), Store.open(store)
    if is_recipe(reference):
        recipe = load_recipe(reference).recipe
        built = read_last_build(kept, recipe.name) if last and not given else None
        if built is None or not built.overrides:
            return Chosen(reference, given)
        changed = load_recipe(reference, built.overrides).recipe
        if list_code(changed) != list_code(recipe):
            raise _refuse(reference, list_code(changed))
        return Chosen(reference, built.overrides, _tell(built))
    built = read_last_build(kept, reference) if NAME.fullmatch(reference) else None
    if built is None:
        return Chosen(reference, given)
    if not is_recipe(built.recipe) and not VERSIONED.fullmatch(built.recipe):
        raise NotFoundError(
            f"the last build of {reference} was of recipe {show_text(built.recipe)}, which is not there; name the "
            f"recipe, or {reference}@latest"
        )
    found = Chosen(built.recipe, given or built.overrides, "" if given else _tell(built))
    if code := list_code(open_recipe(found.reference, store, found.overrides).recipe):
        raise _refuse(reference, code)
    return found


def open_recipe(reference: str, store: str, overrides: Sequence[str] = ()) -> RecipeFile:
    """The recipe that a user names: a recipe file, one of the catalog, or the recipe of a published version.

    Errors: NotFoundError for what is none of these; RecipeError.
    """
    if is_recipe(reference):
        return load_recipe(reference, overrides)
    name, _, version = reference.partition("@")
    kept = Store.open(store)
    if not NAME.match(name) or not list_versions(kept, name):
        if reference in training_names():
            return load_recipe(reference, overrides)  # which says what is given in its place
        raise NotFoundError(
            f"{show_text(reference)} is no recipe (the catalog has: {', '.join(recipe_names())}), no file, and no "
            f"dataset of store {store}"
        )
    dataset = load_dataset(kept, name, version or "latest")
    origin = f"{dataset.name}@{dataset.version}"
    if code := list_code(dataset.recipe):
        raise _refuse(origin, code)
    content = copy.deepcopy(dict(dataset.recipe))
    rename_old_keys(content)
    for override in overrides:
        apply_override(content, override)
    read = parse_recipe if overrides else read_stored_recipe  # what is changed is judged as if it were written now
    return RecipeFile(read(content, f"recipe of {origin}"), recipe_home(name))


def is_recipe(reference: str) -> bool:
    """Whether it names a recipe of the catalog or a file, and not a dataset."""
    return _is_path(reference) or reference in recipe_names() or os.path.isfile(expand_home(reference))


def _is_path(reference: str) -> bool:
    return reference.endswith((".yaml", ".yml")) or "/" in reference


def remember_build(store: str, dataset: str, recipe: str, overrides: Sequence[str]) -> None:
    """Record a build that begins, for whoever asks for it later without its recipe or its overrides."""
    in_catalog = not is_recipe(recipe) or recipe in recipe_names()
    place = recipe if in_catalog else str(find_recipe(recipe).resolve())
    kept, build = Store.open(store), LastBuild(recipe=place, overrides=tuple(overrides))
    if read_last_build(kept, dataset) != build:
        record_build(kept, dataset, build)


def split_reference(reference: str) -> tuple[str, str]:
    """(dataset, version) of `dataset`, `dataset@version` or a recipe; the latest version where none is given."""
    if _is_path(reference):
        return load_recipe(reference).recipe.name, "latest"
    name, _, version = reference.partition("@")
    return name, version or "latest"


def list_code(value: Any) -> list[Any]:
    """The sections of a recipe that import a module."""
    if isinstance(value, Recipe):
        return list_code(value.model_dump(mode="json"))
    if not isinstance(value, Mapping):
        return []
    own = [value] if value.get("module") is not None else []
    return own + [code for inner in value.values() for code in list_code(inner)]


def _tell(build: LastBuild) -> str:
    return f"as built last: {' '.join(f'--set {each}' for each in build.overrides)}" if build.overrides else ""


def _refuse(reference: str, code: Sequence[Any]) -> RecipeError:
    return RecipeError(
        f"{reference}: the recipe imports {show(code[-1]['module'])}, and neither a version nor a record of the store "
        "may choose code to run; name the recipe's file, with the same --set"
    )

"""Find the recipe and overrides of a build from a recipe, a dataset or dataset@version.

A recipe that the user names may import code. A recipe from a store or a version may not.
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
    """The arguments of `open_recipe`. `told`: a text on overrides that come from the last build."""

    reference: str
    overrides: tuple[str, ...]
    told: str = ""


def choose_build(reference: str, store: str, overrides: Sequence[str] = (), *, last: bool = False) -> Chosen:
    """Return the recipe and overrides that a command means.

    A dataset without version means its last build, or without one its latest version. `last`: a recipe without
    overrides also means its last build. Errors: NotFoundError; RecipeError if the last build would import code.
    """
    given, opened = tuple(overrides), Store.open(store)
    if is_recipe(reference):
        return _choose_recipe(reference, opened, given, last=last)

    built = read_last_build(opened, reference) if NAME.fullmatch(reference) else None
    if built is None:
        return Chosen(reference, given)
    if not is_recipe(built.recipe) and not VERSIONED.fullmatch(built.recipe):
        raise NotFoundError(
            f"the last build of {reference} was of recipe {show_text(built.recipe)}, which is not there; name the "
            f"recipe, or {reference}@latest"
        )

    found = Chosen(built.recipe, given or built.overrides, "" if given else _describe_overrides(built))
    if code := list_code(open_recipe(found.reference, store, found.overrides).recipe):
        raise _refuse(reference, code)
    return found


def require_build(reference: str, store: str, overrides: Sequence[str] = (), *, last: bool = False) -> None:
    """Refuse what names no build, or holds mistakes. A command asks before it imports what its work needs.

    `last`: as in `choose_build`. Errors: those of `choose_build` and `open_recipe`.
    """
    chosen = choose_build(reference, store, overrides, last=last)
    open_recipe(chosen.reference, store, chosen.overrides)


def _choose_recipe(reference: str, store: Store, given: tuple[str, ...], *, last: bool) -> Chosen:
    """Return a recipe with the given overrides or, with `last` and without any, those of its last build."""
    recipe = load_recipe(reference).recipe
    built = read_last_build(store, recipe.name) if last and not given else None
    if built is None or not built.overrides:
        return Chosen(reference, given)

    changed = load_recipe(reference, built.overrides).recipe
    if list_code(changed) != list_code(recipe):
        raise _refuse(reference, list_code(changed))
    return Chosen(reference, built.overrides, _describe_overrides(built))


def open_recipe(reference: str, store: str, overrides: Sequence[str] = ()) -> RecipeFile:
    """Return the recipe that a user names: a recipe file, one of the catalog, or that of a published version.

    Errors: NotFoundError if it is none of these; RecipeError.
    """
    if is_recipe(reference):
        return load_recipe(reference, overrides)
    name, _, version = reference.partition("@")
    opened = Store.open(store)
    if not NAME.match(name) or not list_versions(opened, name):
        if reference in training_names():
            return load_recipe(reference, overrides)  # its error names the command for a training
        raise NotFoundError(
            f"{show_text(reference)} is no recipe (the catalog has: {', '.join(recipe_names())}), no file, and no "
            f"dataset of store {store}"
        )

    dataset = load_dataset(opened, name, version or "latest")
    origin = f"{dataset.name}@{dataset.version}"
    if code := list_code(dataset.recipe):
        raise _refuse(origin, code)

    content = copy.deepcopy(dict(dataset.recipe))
    rename_old_keys(content)
    for override in overrides:
        apply_override(content, override)
    read = parse_recipe if overrides else read_stored_recipe  # a changed recipe is checked like a new one
    return RecipeFile(read(content, f"recipe of {origin}"), recipe_home(name))


def is_recipe(reference: str) -> bool:
    """Return whether a reference names a recipe of the catalog or a file, and not a dataset."""
    return _is_path(reference) or reference in recipe_names() or os.path.isfile(expand_home(reference))


def _is_path(reference: str) -> bool:
    """Return whether a reference is written like a path."""
    return reference.endswith((".yaml", ".yml")) or "/" in reference


def remember_build(store: str, dataset: str, recipe: str, overrides: Sequence[str]) -> None:
    """Record a started build, so that later commands find it without its recipe or overrides. Errors: StoreError."""
    in_catalog = not is_recipe(recipe) or recipe in recipe_names()
    place = recipe if in_catalog else str(find_recipe(recipe).resolve())
    opened, build = Store.open(store), LastBuild(recipe=place, overrides=tuple(overrides))
    if read_last_build(opened, dataset) != build:
        record_build(opened, dataset, build)


def split_reference(reference: str) -> tuple[str, str]:
    """Return (dataset, version) of `dataset`, `dataset@version` or a recipe; without a version, "latest".

    Errors: NotFoundError and RecipeError for a recipe.
    """
    if _is_path(reference):
        return load_recipe(reference).recipe.name, "latest"
    name, _, version = reference.partition("@")
    return name, version or "latest"


def list_code(value: Any) -> list[Any]:
    """Return the sections of a recipe that import a module."""
    if isinstance(value, Recipe):
        return list_code(value.model_dump(mode="json"))
    if not isinstance(value, Mapping):
        return []
    own = [value] if value.get("module") is not None else []
    return own + [code for inner in value.values() for code in list_code(inner)]


def _describe_overrides(build: LastBuild) -> str:
    """Return the overrides of the last build, for a person; empty without any."""
    return f"as built last: {' '.join(f'--set {each}' for each in build.overrides)}" if build.overrides else ""


def _refuse(reference: str, code: Sequence[Any]) -> RecipeError:
    """Return the error for a recipe that imports a module without the user's choice."""
    return RecipeError(
        f"{reference}: the recipe imports {show(code[-1]['module'])}, and neither a version nor a record of the store "
        "may choose code to run; name the recipe's file, with the same --set"
    )

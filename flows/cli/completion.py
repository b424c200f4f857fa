"""Words for shell completion: recipes of the catalog, datasets and versions of a store on this machine.

Where nothing fits, shells complete files, so that paths of recipes and stores need nothing here.
"""

from typing import Any

import typer


def complete_recipes(incomplete: str) -> list[str]:
    """Return the recipes of the catalog that begin so."""
    from tailforge.catalog.sources.recipes import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


def complete_datasets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the datasets and versions that begin so, of the store that the line names before."""
    from tailforge.catalog.registry import list_datasets, list_versions
    from tailforge.catalog.store import Store
    from tailforge.schemas.errors import TailforgeError

    uri: Any = ctx.params.get("store")
    if not isinstance(uri, str) or "://" in uri:  # a network is too slow for a key press
        return []
    try:
        store = Store.open(uri)
        names = [name for name in list_datasets(store) if name.startswith(incomplete.partition("@")[0])]
        words = [word for name in names for word in (name, *(f"{name}@{each}" for each in list_versions(store, name)))]
    except TailforgeError:
        return []
    return [word for word in words if word.startswith(incomplete)]


def complete_builds(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the recipes, datasets and versions that begin so."""
    return list(dict.fromkeys([*complete_recipes(incomplete), *complete_datasets(ctx, incomplete)]))

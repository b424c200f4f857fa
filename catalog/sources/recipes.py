"""Find and read recipes by name in catalog/recipes or by path, and apply `key.path=value` overrides."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.checks.mistakes import list_mistakes
from tailforge.schemas.checks.unused_settings import find_idle_settings
from tailforge.schemas.documents.foreign_json import DEEPEST
from tailforge.schemas.documents.origin import Origin
from tailforge.schemas.documents.shown import describe_failure, shorten, show, show_key, show_text
from tailforge.schemas.documents.yaml_file import LARGEST, parse_yaml
from tailforge.schemas.errors import NotFoundError, RecipeError
from tailforge.schemas.recipe import CONCEPT_KEYS, Recipe, parse_recipe, rename_old_keys
from tailforge.schemas.training.embedded import AnyTrainingRecipe, parse_training_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
TRAINING = ("train-", "teacher-", "adapt-")
BUILD_KEYS = frozenset(Recipe.model_fields)
TRAINING_KEYS = frozenset[str]().union(*(model.model_fields for model in get_args(AnyTrainingRecipe)))


@dataclass(frozen=True)
class RecipeFile:
    """A recipe with the folder for its relative paths."""

    recipe: Recipe
    folder: Path
    notes: tuple[str, ...] = ()  # old keys that the author should rename


def recipe_names() -> list[str]:
    """Return the names of the dataset recipes in the catalog, without training recipes (TRAINING)."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml") if not path.stem.startswith(TRAINING))


def training_names() -> list[str]:
    """Return the names of the training recipes in the catalog."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem.startswith(TRAINING))


def recipe_home(name: str, folder: Path | None = None) -> Path:
    """Return the folder where relative paths of a published recipe start, since versions do not record folders.

    `folder`: the user's choice. By default it is the catalog for its own recipes, and the current folder for others.
    Errors: UserError for a folder that cannot be used.
    """
    if folder is not None:
        return usable_path(folder, "--folder")
    return RECIPES if name in recipe_names() else Path.cwd()


def find_recipe(reference: str) -> Path:
    """Return the path of a recipe by catalog name or path. Errors: NotFoundError with the known names; RecipeError."""
    return _find(reference, "recipe", recipe_names(), training_names())


def find_training_recipe(reference: str) -> Path:
    """Return the path of a training recipe by catalog name or path. Errors: as `find_recipe`."""
    return _find(reference, "training recipe", training_names(), recipe_names())


def _find(reference: str, kind: str, names: Sequence[str], others: Sequence[str]) -> Path:
    """Return the path of a recipe. `names`: catalog names of this kind; `others`: of the other kind."""
    if reference in names:
        return RECIPES / f"{reference}.yaml"
    path = usable_path(reference, kind, RecipeError)
    if path.is_file():
        return path

    if reference in others:
        raise _refuse_kind(f"{reference} of the catalog", reference, training=kind == "recipe")
    raise NotFoundError(
        f"{kind} {shorten(repr(reference), 300)} is neither a file nor in the catalog; the catalog has: "
        f"{', '.join(names) or 'none'}"
    )


def _read_text(path: Path) -> str:
    """Return the text of a YAML file. Errors: RecipeError, also if it is no plain file, too large or no UTF-8."""
    try:
        if not path.is_file():
            raise RecipeError(f"{path}: cannot be read: it does not exist or is no plain file")
        with path.open("rb") as file:
            content = file.read(4 * LARGEST + 1)  # bounded, since a file may grow; a character takes up to 4 bytes
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not readable as YAML: it is no UTF-8 text ({error.reason}), save it so") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {describe_failure(error)}") from error


def load_training_recipe(
    reference: str | Path, overrides: Sequence[str] = (), images: Path | None = None, root: Path | None = None
) -> AnyTrainingRecipe:
    """Return a training recipe with overrides.

    `images`: replaces the images of a generator's recipe. `root`: replaces the folder that paths in a table start from.
    Errors: NotFoundError; RecipeError with file and field, also for a recipe of a build.
    """
    path = find_training_recipe(str(reference))
    data, origin = _read_kind(path, str(reference), training=True)
    origin.replaced.update(apply_override(data, override) for override in overrides)
    if images is not None and isinstance(data, dict) and data.get("kind") == "generator":
        data["images"] = _replace_source(data.get("images"), images)
    _replace_root(data, images, root)
    return parse_training_recipe(data, origin)


def _replace_source(given: Any, images: Path) -> dict[str, Any]:
    """Return the recipe's settings for reading images, with another source."""
    keys = ("caption", "class_caption", "fit", "images")
    kept = {key: given[key] for key in keys if key in given} if isinstance(given, dict) else {}
    return {**kept, "folder": str(images.resolve())}


def _replace_root(data: Any, images: Path | None, root: Path | None) -> None:
    """Put `root` into a training recipe's settings for reading images; other images do not start from the old one."""
    source = data.get("pictures" if data.get("kind") == "teacher" else "images") if isinstance(data, dict) else None
    if isinstance(source, dict) and root is not None:
        source["root"] = str(root.resolve())
    elif isinstance(source, dict) and images is not None:
        source.pop("root", None)


def load_recipe(reference: str, overrides: Sequence[str] = ()) -> RecipeFile:
    """Return a recipe with overrides.

    Errors: NotFoundError; RecipeError, also for settings without effect and for a training recipe.
    """
    path = find_recipe(reference)
    data, origin = _read_kind(path, reference, training=False)
    renamed = rename_old_keys(data)
    origin.replaced.update(apply_override(data, override) for override in overrides)
    recipe = parse_recipe(data, origin)
    if idle := find_idle_settings(recipe):
        raise list_mistakes(idle, origin)
    notes = (f"{path}: {', '.join(renamed)}; both keys mean the same, the old one will go",) if renamed else ()
    return RecipeFile(recipe, path.resolve().parent, notes)


def _read_kind(path: Path, reference: str, *, training: bool) -> tuple[Any, Origin]:
    """Return the content and the origin of a recipe file.

    Errors: RecipeError with line and column for no YAML, and if most of its keys belong to the other kind.
    """
    text = _read_text(path)
    data = parse_yaml(text, str(path))
    keys = data.keys() if isinstance(data, dict) else set()
    surplus = len(keys & (TRAINING_KEYS - BUILD_KEYS)) - len(keys & (BUILD_KEYS - TRAINING_KEYS))
    if (surplus < 0) if training else (surplus > 0):
        raise _refuse_kind(str(path), reference, training=not training)
    return data, Origin(f"training recipe {path}" if training else str(path), text)


def _refuse_kind(found: str, reference: str, *, training: bool) -> RecipeError:
    """Return the error for a recipe of another command. `training`: whether it is a training recipe."""
    word = shlex.quote(reference)
    if training:
        return RecipeError(f"{found} is a training recipe; give `tailforge train {word}`")
    return RecipeError(f"{found} is a recipe of a build; give `tailforge build {word}`")


def apply_override(data: Any, override: str) -> str:
    """Set one value in place: `quality.gates.sharpness.min=40`, `concepts.gear.requested=10` (or `concepts.0`).

    Return the value's path as errors show it: `concepts.0.requested`.

    A key selects an element of a list by position or by its `name`. Errors: RecipeError for an override without a
    place.
    """
    path, equals, text = override.partition("=")
    keys = path.split(".")
    if not equals or not all(keys) or len(keys) > DEEPEST:
        raise RecipeError(f"--set {show_text(override)}: write it as key.path=value, for example seed=7")

    value = parse_yaml(text, f"--set {show_text(override)}")
    if keys[0] == "concepts" and len(keys) == 3:
        keys[-1] = CONCEPT_KEYS.get(keys[-1], keys[-1])
    written: list[str] = []
    for position, key in enumerate(keys):
        place = _place(data, key, override, keys[:position])
        written.append(str(place))
        if position == len(keys) - 1:
            data[place] = value
        elif isinstance(data, dict) and data.get(place) is None:
            data[place] = {}
        data = data[place]
    return ".".join(map(show_key, written))


def _place(data: Any, key: str, override: str, path: Sequence[str]) -> str | int:
    """Return a key of a mapping, or the position that it selects in a list. Errors: RecipeError for other values."""
    if isinstance(data, list):
        return _index(data, key, override)
    if isinstance(data, dict):
        return key
    raise _no_mapping(data, override, path)


def _no_mapping(data: Any, override: str, path: Sequence[str]) -> RecipeError:
    """Return the error for a key inside a plain value."""
    place = ".".join(map(show_key, path)) or "the file"
    return RecipeError(f"--set {show_text(override)}: {place} is not a mapping, found {show(data)}")


def _index(items: list[Any], key: str, override: str) -> int:
    """Return the position of an element by its name or number. Errors: RecipeError."""
    names = [str(item.get("name")) if isinstance(item, dict) else "" for item in items]
    if key in names:
        return names.index(key)
    if key.isascii() and key.isdecimal() and len(key) < 10 and int(key) < len(items):
        return int(key)
    known = shorten(", ".join(filter(None, names)), 400) or f"{len(items)} of them"
    raise RecipeError(f"--set {show_text(override)}: {show_text(key)} is not there; there are: {known}")

"""Finding and reading recipes: catalog/recipes by name, or any YAML file by path, with `key.path=value` overrides."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.checks.mistakes import list_mistakes
from tailforge.schemas.checks.unused_settings import find_idle_settings
from tailforge.schemas.documents.foreign_json import DEEPEST
from tailforge.schemas.documents.shown import describe_failure, shorten, show, show_key, show_text
from tailforge.schemas.documents.yaml_file import LARGEST, parse_yaml
from tailforge.schemas.errors import NotFoundError, RecipeError
from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.schemas.training.embedded import AnyTrainingRecipe, parse_training_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
TRAINING = ("train-", "teacher-", "adapt-")
BUILD_KEYS = frozenset(Recipe.model_fields)
TRAINING_KEYS = frozenset[str]().union(*(model.model_fields for model in get_args(AnyTrainingRecipe)))


@dataclass(frozen=True)
class RecipeFile:
    """A recipe with the folder that its relative paths start from."""

    recipe: Recipe
    folder: Path


def recipe_names() -> list[str]:
    """Names of the dataset recipes in the catalog (not those of trainings: `train-*`, `teacher-*`, `adapt-*`)."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml") if not path.stem.startswith(TRAINING))


def training_names() -> list[str]:
    """Names of the training recipes in the catalog."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem.startswith(TRAINING))


def recipe_home(name: str) -> Path:
    """Where the relative paths of a published recipe start from unless the user says otherwise.

    A version names no folder of a machine: the catalog's recipes are at home there, others in the current folder.
    """
    return RECIPES if name in recipe_names() else Path.cwd()


def find_recipe(reference: str) -> Path:
    """Path of a recipe given by catalog name or by path. Errors: NotFoundError that lists the names there are."""
    return _find(reference, "recipe", recipe_names(), training_names())


def find_training_recipe(reference: str) -> Path:
    """As `find_recipe`, of a training recipe."""
    return _find(reference, "training recipe", training_names(), recipe_names())


def _find(reference: str, what: str, names: Sequence[str], others: Sequence[str]) -> Path:
    if reference in names:
        return RECIPES / f"{reference}.yaml"
    path = usable_path(reference, what, RecipeError)
    if path.is_file():
        return path
    if reference in others:
        raise _refuse_kind(f"{reference} of the catalog", reference, training=what == "recipe")
    raise NotFoundError(
        f"{what} {shorten(repr(reference), 300)} is neither a file nor in the catalog; the catalog has: "
        f"{', '.join(names) or 'none'}"
    )


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Errors: RecipeError with line and column, also for what is no plain file or far too large."""
    try:
        if not path.is_file():
            raise RecipeError(f"{path}: cannot be read: it does not exist or is no plain file")
        with path.open("rb") as file:
            content = file.read(4 * LARGEST + 1)  # no more: a file may grow for ever, and a character takes 4 bytes
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not readable as YAML: it is no UTF-8 text ({error.reason}), save it so") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {describe_failure(error)}") from error
    return parse_yaml(text, str(path))


def load_training_recipe(
    reference: str | Path, overrides: Sequence[str] = (), images: Path | None = None
) -> AnyTrainingRecipe:
    """Read, override and validate a training recipe; a generator learns from `images` in place of the recipe's.

    Errors: NotFoundError; RecipeError naming the file and the field, also for a recipe of a build.
    """
    path = find_training_recipe(str(reference))
    data = _read_kind(path, str(reference), training=True)
    for override in overrides:
        apply_override(data, override)
    if images is not None and isinstance(data, dict) and data.get("kind") == "generator":
        data["images"] = _replace_source(data.get("images"), images)
    return parse_training_recipe(data, f"training recipe {path}")


def _replace_source(given: Any, images: Path) -> dict[str, Any]:
    """The recipe's way of reading images, with other images."""
    keys = ("caption", "class_caption", "fit", "images")
    kept = {key: given[key] for key in keys if key in given} if isinstance(given, dict) else {}
    return {**kept, "folder": str(images.resolve())}


def load_recipe(reference: str, overrides: Sequence[str] = ()) -> RecipeFile:
    """Read, override and validate a recipe.

    Errors: NotFoundError; RecipeError, also for settings without effect and for a training recipe.
    """
    path = find_recipe(reference)
    data = _read_kind(path, reference, training=False)
    for override in overrides:
        apply_override(data, override)
    recipe = parse_recipe(data, str(path))
    if idle := find_idle_settings(recipe):
        raise list_mistakes(idle, str(path))
    return RecipeFile(recipe, path.resolve().parent)


def _read_kind(path: Path, reference: str, *, training: bool) -> Any:
    """The content of a recipe of this kind. Errors: RecipeError for one whose keys are rather those of the other."""
    data = read_yaml(path)
    keys = data.keys() if isinstance(data, dict) else set()
    surplus = len(keys & (TRAINING_KEYS - BUILD_KEYS)) - len(keys & (BUILD_KEYS - TRAINING_KEYS))
    if (surplus < 0) if training else (surplus > 0):
        raise _refuse_kind(str(path), reference, training=not training)
    return data


def _refuse_kind(found: str, reference: str, *, training: bool) -> RecipeError:
    """The error to raise for a recipe that another command reads; `training`: which it is."""
    word = shlex.quote(reference)
    if training:
        return RecipeError(f"{found} is a training recipe; give `tailforge train {word}`")
    return RecipeError(f"{found} is a recipe of a build; give `tailforge build {word}`")


def apply_override(data: Any, override: str) -> None:
    """Set one value in place: `quality.gates.sharpness.min=40`, `concepts.gear.wanted=10`, `concepts.0.wanted=10`.

    A list is entered by position or by the `name` of its element. Errors: RecipeError naming what was not found.
    """
    path, equals, text = override.partition("=")
    keys = path.split(".")
    if not equals or not all(keys) or len(keys) > DEEPEST:
        raise RecipeError(f"--set {show_text(override)}: write it as key.path=value, for example seed=7")
    value = parse_yaml(text, f"--set {show_text(override)}")
    for position, key in enumerate(keys[:-1]):
        data = _enter(data, key, override, keys[: position + 1])
    if isinstance(data, list):
        data[_index(data, keys[-1], override)] = value
    elif isinstance(data, dict):
        data[keys[-1]] = value
    else:
        raise _no_mapping(data, override, keys[:-1])


def _enter(data: Any, key: str, override: str, path: Sequence[str]) -> Any:
    if isinstance(data, list):
        return data[_index(data, key, override)]
    if isinstance(data, dict):
        if data.get(key) is None:
            data[key] = {}
        return data[key]
    raise _no_mapping(data, override, path[:-1])


def _no_mapping(data: Any, override: str, path: Sequence[str]) -> RecipeError:
    place = ".".join(map(show_key, path)) or "the file"
    return RecipeError(f"--set {show_text(override)}: {place} is not a mapping, found {show(data)}")


def _index(items: list[Any], key: str, override: str) -> int:
    names = [str(item.get("name")) if isinstance(item, dict) else "" for item in items]
    if key in names:
        return names.index(key)
    if key.isascii() and key.isdecimal() and len(key) < 10 and int(key) < len(items):
        return int(key)
    known = shorten(", ".join(filter(None, names)), 400) or f"{len(items)} of them"
    raise RecipeError(f"--set {show_text(override)}: {show_text(key)} is not there; there are: {known}")

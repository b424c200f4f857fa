"""Finding and reading recipes: catalog/recipes by name, or any YAML file by path, with `key.path=value` overrides."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import NotFoundError, RecipeError
from schemas.idle_settings import find_idle_settings
from schemas.mistakes import list_mistakes
from schemas.recipe import Recipe, parse_recipe

RECIPES = Path(__file__).parent / "recipes"
TRAINING = ("train-", "teacher-", "adapt-")


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice (plain YAML keeps the last one in silence)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class RecipeFile:
    """A recipe with the folder that its relative paths start from."""

    recipe: Recipe
    folder: Path


def recipe_names() -> list[str]:
    """Names of the dataset recipes in the catalog (not those of trainings: `train-*`, `teacher-*`, `adapt-*`)."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml") if not path.stem.startswith(TRAINING))


def recipe_home(name: str) -> Path:
    """Where the relative paths of a published recipe start from unless the user says otherwise.

    A version names no folder of a machine: the catalog's recipes are at home there, others in the current folder.
    """
    return RECIPES if name in recipe_names() else Path.cwd()


def find_recipe(reference: str) -> Path:
    """Path of a recipe given by catalog name or by path. Errors: NotFoundError that lists the names there are."""
    return _find(reference, "recipe", recipe_names())


def find_training_recipe(reference: str) -> Path:
    """As `find_recipe`, of a training recipe."""
    names = sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem.startswith(TRAINING))
    return _find(reference, "training recipe", names)


def _find(reference: str, what: str, names: Sequence[str]) -> Path:
    by_name = RECIPES / f"{reference}.yaml"
    if "/" not in reference and by_name.is_file():
        return by_name
    path = Path(reference)
    if path.is_file():
        return path
    raise NotFoundError(
        f"{what} {reference!r} is neither a file nor in the catalog; the catalog has: {', '.join(names) or 'none'}"
    )


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Errors: RecipeError with line and column."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not readable as YAML: {error}") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from error


def load_recipe(reference: str, overrides: Sequence[str] = ()) -> RecipeFile:
    """Read, override and validate a recipe. Errors: NotFoundError; RecipeError, also for settings without effect."""
    path = find_recipe(reference)
    data = read_yaml(path)
    for override in overrides:
        apply_override(data, override)
    recipe = parse_recipe(data, str(path))
    if idle := find_idle_settings(recipe):
        raise list_mistakes(idle, str(path))
    return RecipeFile(recipe, path.resolve().parent)


def apply_override(data: Any, override: str) -> None:
    """Set one value in place: `quality.gates.sharpness.min=40`, `concepts.gear.wanted=10`, `concepts.0.wanted=10`.

    A list is entered by position or by the `name` of its element. Errors: RecipeError naming what was not found.
    """
    path, equals, text = override.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise RecipeError(f"--set {override!r}: write it as key.path=value, for example seed=7")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override!r}: the value is not YAML: {error}") from error
    for position, key in enumerate(keys[:-1]):
        data = _enter(data, key, override, keys[: position + 1])
    if isinstance(data, list):
        data[_index(data, keys[-1], override)] = value
    elif isinstance(data, dict):
        data[keys[-1]] = value
    else:
        raise RecipeError(f"--set {override!r}: {'.'.join(keys[:-1])} is not a mapping, found {data!r}")


def _enter(data: Any, key: str, override: str, path: Sequence[str]) -> Any:
    if isinstance(data, list):
        return data[_index(data, key, override)]
    if isinstance(data, dict):
        if data.get(key) is None:
            data[key] = {}
        return data[key]
    raise RecipeError(f"--set {override!r}: {'.'.join(path[:-1])} is not a mapping, found {data!r}")


def _index(items: list[Any], key: str, override: str) -> int:
    names = [str(item.get("name")) if isinstance(item, dict) else "" for item in items]
    if key in names:
        return names.index(key)
    if key.isdigit() and int(key) < len(items):
        return int(key)
    raise RecipeError(
        f"--set {override!r}: {key!r} is not there; there are: {', '.join(filter(None, names)) or len(items)}"
    )

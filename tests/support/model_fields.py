"""What the models of recipes and settings hold, field by field, whatever lists, mappings and unions it is inside."""

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tailforge.schemas.explanation import ExplainSettings
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.workers import WorkerSettings
from tailforge.schemas.training.classifiers import DistillSettings, TeacherRecipe
from tailforge.schemas.training.embedded import TrainingRecipe
from tailforge.schemas.training.generator import GeneratorTraining
from tailforge.schemas.training.pretraining import USES

WRITTEN = (Recipe, TrainingRecipe, TeacherRecipe, GeneratorTraining, *USES.values(), DistillSettings, ExplainSettings,
           WorkerSettings)  # fmt: skip
LOWER, UPPER = ("ge", "gt"), ("le", "lt")


def list_leaves() -> Iterator[tuple[str, Any, list[Any]]]:
    """(model.field and place in it, type, its constraints) of all that persons may write."""
    seen: set[type[BaseModel]] = set()
    for model in WRITTEN:
        yield from _of_model(model, seen)


def _of_model(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[str, Any, list[Any]]]:
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        yield from _of_type(f"{model.__name__}.{name}", field.annotation, list(field.metadata), seen)


def _of_type(
    place: str, annotation: Any, constraints: list[Any], seen: set[type[BaseModel]]
) -> Iterator[tuple[str, Any, list[Any]]]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [
            each for extra in arguments[1:] for each in (extra.metadata if isinstance(extra, FieldInfo) else [extra])
        ]
        yield from _of_type(place, arguments[0], [*constraints, *inner], seen)
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _of_type(place, argument, constraints, seen)
    elif origin is Literal:
        return
    elif origin is not None and issubclass(origin, Mapping):
        yield from _of_type(f"{place}[key]", arguments[0], [], seen)
        yield from _of_type(f"{place}[value]", arguments[1], [], seen)
    elif origin is not None:
        for argument in arguments:
            if argument is not ...:
                yield from _of_type(f"{place}[]", argument, [], seen)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _of_model(annotation, seen)
    else:
        yield place, annotation, constraints


def bounds(constraints: list[Any], names: tuple[str, ...]) -> list[Any]:
    """The bounds of one side."""
    unpacked = [
        part for each in constraints for part in (each if isinstance(each, annotated_types.GroupedMetadata) else [each])
    ]
    return [getattr(each, name) for each in unpacked for name in names if getattr(each, name, None) is not None]

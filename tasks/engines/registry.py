"""The engines, by the `kind` that a recipe names. The one list of them; one more is one line here."""

from collections.abc import Callable
from typing import Any

from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.engine_settings import EngineSettings
from tailforge.schemas.settings.engines import (
    BestOfNEngine,
    PlainEngine,
    SeedSelectEngine,
    ZeroOrderEngine,
    add_settings,
)
from tailforge.schemas.settings.inversion import NaturalInversionEngine
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.engines.inversion import Inversion
from tailforge.tasks.engines.plain import PlainSampling
from tailforge.tasks.engines.search import Search

_engines: dict[str, Callable[[Any], Engine[Any]]] = {}


def register(settings: type[EngineSettings], engine: Callable[[Any], Engine[Any]]) -> None:
    """Let recipes name an engine, by the default of the field `kind` of its settings."""
    add_settings(settings)
    _engines[settings.model_fields["kind"].default] = engine


def engine_of(recipe: Recipe) -> Engine[Any]:
    """Return the engine that a recipe names, with its settings."""
    return _engines[recipe.engine.kind](recipe.engine)


register(PlainEngine, PlainSampling)
register(BestOfNEngine, Search)
register(ZeroOrderEngine, Search)
register(SeedSelectEngine, Search)
register(NaturalInversionEngine, Inversion)

"""Register the engines by the `kind` in a recipe. This is the only list; a new engine adds one line."""

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
from tailforge.schemas.settings.inpaint import InpaintEngine
from tailforge.schemas.settings.inversion import NaturalInversionEngine
from tailforge.schemas.settings.pasting import CopyPasteEngine, CutPasteEngine, NoiseTextureEngine
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.engines.inpaint import Inpainting
from tailforge.tasks.engines.inversion import Inversion
from tailforge.tasks.engines.pasting import CopyPaste, Pasting
from tailforge.tasks.engines.plain import PlainSampling
from tailforge.tasks.engines.search import Search

_engines: dict[str, Callable[[Any], Engine[Any]]] = {}


def register(settings: type[EngineSettings], engine: Callable[[Any], Engine[Any]]) -> None:
    """Add an engine under the default of the field `kind` of its settings, so that recipes may name it."""
    add_settings(settings)
    _engines[settings.model_fields["kind"].default] = engine


def engine_of(recipe: Recipe) -> Engine[Any]:
    """Return the recipe's engine with its settings."""
    return _engines[recipe.engine.kind](recipe.engine)


register(PlainEngine, PlainSampling)
register(BestOfNEngine, Search)
register(ZeroOrderEngine, Search)
register(SeedSelectEngine, Search)
register(NaturalInversionEngine, Inversion)
register(InpaintEngine, Inpainting)
register(CopyPasteEngine, CopyPaste)
register(CutPasteEngine, Pasting)
register(NoiseTextureEngine, Pasting)

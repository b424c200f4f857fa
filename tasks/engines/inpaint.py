"""Define the engine "inpaint": concepts that a generator draws into regions of photographs.

tasks/methods/inpainting holds the method.
"""

from pathlib import Path
from typing import ClassVar

from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.inpaint import InpaintEngine
from tailforge.tasks.engines.drawing import Drawing
from tailforge.tasks.engines.search_models import check_scheduler, resolve_encoder


class Inpainting(Drawing[InpaintEngine]):
    """Drawing by a generator. A sample's seed decides its noise."""

    version: ClassVar[str] = "3"
    render = when_called("tasks.engines.work.inpaint", "render")

    def find_encoder(self, recipe: Recipe, generator: ResolvedModel, folder: Path) -> ResolvedModel | None:
        """Find and check the CLIP model of the search; None without a search. Errors: ModelError, RecipeError."""
        if self.settings.search is None:
            return None
        check_scheduler(recipe, generator)
        return resolve_encoder(recipe, folder, "engine.search.encoder")

"""Settings of the engines that draw into photographs without a generator: copies, patches of the photograph, noise."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from tailforge.schemas.documents.shown import show
from tailforge.schemas.options import ROOT
from tailforge.schemas.settings.drawing import DrawingEngine, refuse_unknown_concepts
from tailforge.schemas.settings.fields import Name, Place, Strict, look
from tailforge.schemas.settings.licences import PHOTOGRAPHS_LICENCE, UNKNOWN, OtherLicence, PhotographsLicence

if TYPE_CHECKING:
    from tailforge.schemas.recipe import Recipe

DEFECTS = "engine.defects"  # place in the recipe


class PastingEngine(DrawingEngine):
    """Base of engines that draw into photographs without a generator. They read no text."""

    needs_generator: ClassVar[bool] = False
    batch_size: ClassVar[int] = 1  # each image is made alone

    def check(self, recipe: "Recipe") -> None:
        """Refuse a recipe whose prompts would say what no image shows. Errors: ValueError."""
        super().check(recipe)
        given = {
            "prompts.attributes": bool(recipe.prompts.attributes),
            "prompts.language_model": recipe.prompts.language_model is not None,
        }
        for name in (name for name, is_given in given.items() if is_given):
            raise ValueError(
                f"{name}: engine {recipe.engine.kind} reads no prompt, so captions would say what no image shows; "
                "leave it out"
            )


class DefectImages(Strict):
    """Photographs of one concept's defect, with masks of it."""

    folder: Place = Field(description="Images with masks, relative to the recipe, as `sources.folder`.")
    root: Place | None = Field(None, description=ROOT)


class CopyPasteEngine(PastingEngine):
    """Copies of real defects, blended into regions of photographs by Poisson's equation (Perez et al. 2003).

    A copy is turned and scaled to the direction and the area of the region, and cut off at its edge.
    """

    digital_source_type: ClassVar[str] = "compositeCapture"

    kind: Literal["copy_paste"] = Field("copy_paste", description="Name of the engine.")
    defects: Mapping[Name, DefectImages] = Field(
        description="Photographs of each concept's defect, by the concept's name. Each component of a mask is one "
        "defect. A defect is copied into images of its own split alone."
    )
    defects_license: PhotographsLicence = Field(UNKNOWN, description=PHOTOGRAPHS_LICENCE)

    @property
    def photographs(self) -> Mapping[str, str | OtherLicence]:
        """Return the licence of the photographs by their use."""
        return {**super().photographs, "copies of defects": self.defects_license}

    def find_defects(self, concept: str) -> tuple[DefectImages, str]:
        """Return the photographs of a concept's defect, and their place in the recipe."""
        name = next(name for name in self.defects if look(name) == look(concept))
        return self.defects[name], f"{DEFECTS}.{name}"

    def describe(self) -> dict[str, Any]:
        """Return the settings that decide an image; addresses hold the digests of images in place of their paths."""
        return {name: each for name, each in super().describe().items() if name not in ("defects", "defects_license")}

    def check(self, recipe: "Recipe") -> None:
        """Refuse a recipe without photographs of a concept's defect. Errors: ValueError."""
        super().check(recipe)
        refuse_unknown_concepts(DEFECTS, self.defects, recipe)
        known = {look(name) for name in self.defects}
        if missing := [concept.name for concept in recipe.concepts if look(concept.name) not in known]:
            raise ValueError(
                f"{DEFECTS}: {show(missing[0])} has no photographs to copy from; give its folder of images with masks"
            )


class CutPasteEngine(PastingEngine):
    """Patches of the same photograph with other colours, in the shape of the region (CutPaste, Li et al. 2021)."""

    digital_source_type: ClassVar[str] = "compositeCapture"

    kind: Literal["cut_paste"] = Field("cut_paste", description="Name of the engine.")


class NoiseTextureEngine(PastingEngine):
    """Foreign textures where noise is high in the region (DRAEM, Zavrtanik et al. 2021)."""

    digital_source_type: ClassVar[str] = "composite"

    kind: Literal["noise_texture"] = Field("noise_texture", description="Name of the engine.")

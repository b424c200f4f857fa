"""Settings of the engines that draw into photographs without a generator: copies, patches of the photograph, noise."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field

from tailforge.schemas.documents.shown import show
from tailforge.schemas.options import ROOT
from tailforge.schemas.settings.drawing import (
    COUNT,
    DrawingEngine,
    MaskRegions,
    Number,
    ReferenceRegions,
    RegionSettings,
    ShapeRegions,
    refuse_unknown_concepts,
)
from tailforge.schemas.settings.fields import Name, Place, Strict, look
from tailforge.schemas.settings.licences import PHOTOGRAPHS_LICENCE, UNKNOWN, OtherLicence, PhotographsLicence

if TYPE_CHECKING:
    from tailforge.schemas.recipe import Recipe

DEFECTS = "engine.defects"  # place in the recipe
Blend = Literal["poisson", "none"]
Factor = Annotated[float, Field(gt=0, le=10)]


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


class DefectRegions(RegionSettings):
    """Regions in the shape of the copied defects, on a part, near the place that the defect has in its photograph."""

    copies_defects: ClassVar[bool] = True

    kind: Literal["defects"] = Field("defects", description="Name of the choice.")
    count: tuple[Number, Number] = Field((1, 1), description=COUNT)
    mirror: bool = Field(True, description="Mirror a defect and its place at random, along both sides.")
    turn: float = Field(10.0, ge=0, le=180, description="Largest turn, in degrees.")
    scale: tuple[Factor, Factor] = Field((0.8, 1.25), description="Smallest and largest change of size.")
    shift: float = Field(0.1, ge=0, le=1, description="Largest shift, as a share of the photograph's sides.")


PastedRegions = Annotated[ShapeRegions | MaskRegions | ReferenceRegions | DefectRegions, Discriminator("kind")]


class CopyPasteEngine(PastingEngine):
    """Copies of real defects in photographs.

    With regions of kind `defects` a copy keeps its shape. In other regions it is turned and scaled to the direction and
    the area of the region, and cut off at its edge.
    """

    digital_source_type: ClassVar[str] = "compositeCapture"

    kind: Literal["copy_paste"] = Field("copy_paste", description="Name of the engine.")
    defects: Mapping[Name, DefectImages] = Field(
        description="Photographs of each concept's defect, by the concept's name. Each component of a mask is one "
        "defect. A defect is copied into images of its own split alone."
    )
    defects_license: PhotographsLicence = Field(UNKNOWN, description=PHOTOGRAPHS_LICENCE)
    regions: PastedRegions = Field(DefectRegions(), description="Choice of the regions.")  # type: ignore[assignment]
    concept_regions: Mapping[Name, PastedRegions] = Field(  # type: ignore[assignment]
        {}, description="Choice per concept, in place of `regions`."
    )
    blend: Blend = Field(
        "none",
        description="Seam of a copy. poisson: the copy keeps its gradients, and its edge takes the colours of the "
        "photograph (Perez et al. 2003). none: the copy keeps its pixels, scaled to the light around it.",
    )

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

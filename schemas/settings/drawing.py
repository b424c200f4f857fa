"""Settings that all engines share that draw concepts into regions of the user's own photographs."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, field_validator, model_validator

from tailforge.schemas.documents.shown import shorten, show
from tailforge.schemas.options import ROOT
from tailforge.schemas.settings.engine_settings import CHANGED, EngineSettings
from tailforge.schemas.settings.fields import Name, Place, Strict, look
from tailforge.schemas.settings.licences import PHOTOGRAPHS_LICENCE, UNKNOWN, OtherLicence, PhotographsLicence

if TYPE_CHECKING:
    from tailforge.schemas.recipe import Recipe

Form = Literal["scratch", "stroke", "blob", "spots"]
Extent = Annotated[float, Field(gt=0, le=1)]
Number = Annotated[int, Field(ge=1, le=64)]
COUNT = "Fewest and most regions per image."
REGIONS, CONCEPT_REGIONS = "engine.regions", "engine.concept_regions"  # places in the recipe


class SourceImages(Strict):
    """Photographs that regions are drawn into."""

    folder: Place = Field(
        description="Photographs, relative to the recipe: a folder, a table, a COCO file or tars "
        "(docs/how-to/images.md). Of photographs with splits, those of the recipe's `splits` are used."
    )
    root: Place | None = Field(None, description=ROOT)
    license: PhotographsLicence = Field(UNKNOWN, description=PHOTOGRAPHS_LICENCE)
    masks: Literal["part", "ignore"] = Field(
        "part",
        description="Use of the photographs' masks. part: a region keeps to the pixels that a mask marks; without a "
        "mask it may be anywhere. ignore: it may be anywhere.",
    )


class RegionSettings(Strict):
    """Base of all ways to choose the regions of an image."""

    copies_defects: ClassVar[bool] = False  # whether a region has the shape of the defect that is copied into it

    @property
    def images(self) -> tuple[Place, Place | None] | None:
        """Return folder and root of the images whose masks the regions come from; None without such images."""
        return None

    @field_validator("count", "area", "scale", check_fields=False)
    @classmethod
    def _rising(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if bounds[0] > bounds[1]:
            raise ValueError(f"the first number, {bounds[0]:g}, is above the second, {bounds[1]:g}; swap them")
        return bounds


class ShapeRegions(RegionSettings):
    """Regions of random shapes."""

    kind: Literal["shapes"] = Field("shapes", description="Name of the choice.")
    count: tuple[Number, Number] = Field((1, 1), description=COUNT)
    shapes: tuple[Form, ...] = Field(
        ("blob",),
        min_length=1,
        description="Shapes to choose from. scratch: a thin line, almost straight. stroke: a winding band. blob: an "
        "uneven ellipse. spots: several small ellipses.",
    )
    area: tuple[Extent, Extent] = Field(
        (0.01, 0.05), description="Smallest and largest area of a region, as a share of the part or photograph."
    )


class MaskRegions(RegionSettings):
    """Regions that have the shape, the size and the place of a mask's components.

    A mask of another size is scaled to the photograph.
    """

    kind: Literal["masks"] = Field("masks", description="Name of the choice.")
    folder: Place = Field(description="Images with masks, relative to the recipe, as `sources.folder`.")
    root: Place | None = Field(None, description=ROOT)

    @property
    def images(self) -> tuple[Place, Place | None]:
        """Return folder and root of the images whose masks the regions come from."""
        return self.folder, self.root


class ReferenceRegions(MaskRegions):
    """Random shapes with the area, elongation, direction and place of a component of the masks, slightly changed."""

    kind: Literal["references"] = Field("references", description="Name of the choice.")  # type: ignore[assignment]
    count: tuple[Number, Number] = Field((1, 1), description=COUNT)


Regions = Annotated[ShapeRegions | MaskRegions | ReferenceRegions, Discriminator("kind")]


class DrawingEngine(EngineSettings):
    """Base of engines that draw into regions of photographs; every other pixel of a photograph stays as it is."""

    annotation_kind: ClassVar[str | None] = CHANGED
    follows_sources: ClassVar[bool] = True
    keeps_near_duplicates: ClassVar[bool] = True

    sources: SourceImages = Field(description="Photographs to draw into.")
    regions: Regions = Field(ShapeRegions(), description="Choice of the regions.")
    concept_regions: Mapping[Name, Regions] = Field({}, description="Choice per concept, in place of `regions`.")
    min_change: float = Field(
        2.3,
        ge=0,
        le=100,
        description="Smallest change of a pixel that its mask counts, as a distance in CIELAB (1976). 2.3 is just "
        "noticeable (Mahy et al. 1994).",
    )

    @model_validator(mode="before")
    @classmethod
    def _complete_regions(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        # Regions that name no kind have that of the default.
        kind = {"kind": cls.model_fields["regions"].default.kind}
        regions, own = data.get("regions"), data.get("concept_regions")
        further = own
        if isinstance(own, Mapping):
            further = {name: kind | each if isinstance(each, dict) else each for name, each in own.items()}
        found = {"regions": kind | regions if isinstance(regions, dict) else regions, "concept_regions": further}
        return data | {name: value for name, value in found.items() if name in data}

    @property
    def photographs(self) -> Mapping[str, str | OtherLicence]:
        """Return the licence of the photographs by their use."""
        return {"inpainting": self.sources.license}

    def find_regions(self, concept: str) -> tuple[RegionSettings, str]:
        """Return the choice of regions for a concept, and its place in the recipe."""
        own = next((name for name in self.concept_regions if look(name) == look(concept)), None)
        return (self.regions, REGIONS) if own is None else (self.concept_regions[own], f"{CONCEPT_REGIONS}.{own}")

    def list_regions(self) -> Iterator[tuple[str, RegionSettings]]:
        """Yield every choice of regions with its place in the recipe."""
        yield REGIONS, self.regions
        for name, regions in self.concept_regions.items():
            yield f"{CONCEPT_REGIONS}.{name}", regions

    def describe(self) -> dict[str, Any]:
        """Return the settings that decide an image; addresses hold the digests of images in place of their paths."""
        places = {"folder", "root", "license"}
        found = self.model_dump(mode="json", exclude={"sources", "regions", "concept_regions", "min_change"})
        regions = {name: each.model_dump(mode="json", exclude=places) for name, each in self.list_regions()}
        return found | {"sources": self.sources.model_dump(mode="json", exclude=places), "regions": regions}

    def check(self, recipe: "Recipe") -> None:
        """Refuse a recipe whose other settings do not fit drawing into photographs. Errors: ValueError."""
        super().check(recipe)
        refuse_unknown_concepts("engine.concept_regions", self.concept_regions, recipe)
        kind = recipe.engine.kind
        if recipe.annotation.kind != CHANGED:
            raise ValueError(
                f"annotation.kind {recipe.annotation.kind}: engine {kind} masks what changed in the photograph; leave "
                "it out"
            )
        if recipe.annotation.slots != ("concept",):
            raise ValueError(
                f"annotation.things and annotation.stuff: engine {kind} masks the concept alone; leave both out"
            )
        if recipe.sharding.attention:
            raise ValueError(
                f"sharding.attention ships maps of whole images, and engine {kind} draws into regions; leave it out"
            )


def refuse_unknown_concepts(place: str, names: Iterable[str], recipe: "Recipe") -> None:
    """Refuse names at a place of the recipe that are no concepts of it. Errors: ValueError."""
    known = {look(concept.name) for concept in recipe.concepts}
    if unknown := [name for name in names if look(name) not in known]:
        concepts = ", ".join(concept.name for concept in recipe.concepts)
        raise ValueError(f"{place}: {show(unknown[0])} is no concept; the concepts are {shorten(concepts)}")

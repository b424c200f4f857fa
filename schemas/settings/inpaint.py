"""Settings of engine inpaint: concepts drawn into regions of the user's own photographs."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, field_validator, model_validator

from tailforge.schemas.documents.shown import shorten, show
from tailforge.schemas.options import ROOT
from tailforge.schemas.settings.engine_settings import CHANGED
from tailforge.schemas.settings.fields import ModelSource, Name, Place, Share, Strict, look
from tailforge.schemas.settings.licences import PHOTOGRAPHS_LICENCE, UNKNOWN, OtherLicence, PhotographsLicence
from tailforge.schemas.settings.sampling import SamplingSettings

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

    @property
    def images(self) -> tuple[Place, Place | None] | None:
        """Return folder and root of the images whose masks the regions come from; None without such images."""
        return None

    @field_validator("count", "area", check_fields=False)
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


def _with_kind(data: Any) -> Any:
    """Complete the settings of regions that name no kind."""
    return {"kind": "shapes"} | data if isinstance(data, dict) else data


class RegionSearch(Strict):
    """Choice of the noise in the regions: the best of several, compared with known defects.

    A known defect is the crop around a component of a mask, of the images that the concept's regions come from.
    """

    candidates: int = Field(8, ge=2, le=4096, description="Noises drawn per image, the image's own among them.")
    screening_steps: int | None = Field(
        None, ge=1, le=1000, description="Denoising steps of a candidate; by default half of `steps`."
    )
    encoder: ModelSource | None = Field(
        None, description="CLIP model that compares crops with known defects; by default quality.scorer."
    )
    target: Literal["difference", "centroid"] = Field(
        "difference",
        description="centroid: mean feature of the known defects. difference: that mean minus the feature of the "
        "photograph's own crop, which is without the defect.",
    )

    def count_few(self, steps: int) -> int:
        """Return the denoising steps of a candidate, for images of `steps`."""
        return self.screening_steps or max(1, steps // 2)


class InpaintEngine(SamplingSettings):
    """Drawing into regions of photographs; every other pixel of a photograph stays as it is.

    A generator made for inpainting reads the photograph and the mask. The latents of any other are blended with those
    of the photograph after every step (Blended Latent Diffusion, arXiv 2206.02779; RePaint, arXiv 2201.09865).
    """

    annotation_kind: ClassVar[str | None] = CHANGED
    takes_inpainting: ClassVar[bool] = True
    follows_sources: ClassVar[bool] = True
    keeps_near_duplicates: ClassVar[bool] = True
    digital_source_type: ClassVar[str] = "compositeWithTrainedAlgorithmicMedia"

    kind: Literal["inpaint"] = Field("inpaint", description="Name of the engine.")
    sources: SourceImages = Field(description="Photographs to draw into.")
    regions: Regions = Field(ShapeRegions(), description="Choice of the regions.")
    concept_regions: Mapping[Name, Regions] = Field({}, description="Choice per concept, in place of `regions`.")
    strength: Share = Field(
        1.0,
        gt=0,
        description="Share of the noise schedule at which drawing starts; of the steps, for a generator made for "
        "inpainting. 1: from noise alone.",
    )
    resample: int = Field(
        1,
        ge=1,
        le=100,
        description="Times that each step is taken, with new noise between (RePaint). More fit the drawing to its "
        "surroundings better, and take as many times longer. Not for a generator made for inpainting.",
    )
    feather: int = Field(
        2, ge=0, le=256, description="Width of the soft edge in pixels. It is inside the region; 0: a hard edge."
    )
    min_change: float = Field(
        2.3,
        ge=0,
        le=100,
        description="Smallest change of a pixel that its mask counts, as a distance in CIELAB (1976). 2.3 is just "
        "noticeable (Mahy et al. 1994). The autoencoder's own error in the regions raises it.",
    )
    search: RegionSearch | None = Field(
        None, description="Search for the noise in the regions; by default none. Regions of masks or references alone."
    )

    @model_validator(mode="after")
    def _some_step_draws(self) -> "InpaintEngine":
        if self.strength * self.steps < 1:
            raise ValueError(
                f"strength {self.strength:g} leaves no step of {self.steps} to draw in; raise strength or steps"
            )
        return self

    @model_validator(mode="after")
    def _search_fits(self) -> "InpaintEngine":
        if self.search is None:
            return self
        if self.resample > 1:
            raise ValueError(
                f"resample {self.resample} adds noise to the drawing, and search needs a drawing that its first noise "
                "alone decides; leave one of both out"
            )
        if self.strength * (few := self.search.count_few(self.steps)) < 1:
            raise ValueError(
                f"strength {self.strength:g} leaves no step of {few} to draw a candidate in; raise strength or "
                "search.screening_steps"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _complete_regions(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        own = data.get("concept_regions")
        further = {name: _with_kind(each) for name, each in own.items()} if isinstance(own, Mapping) else own
        found = {"regions": _with_kind(data.get("regions")), "concept_regions": further}
        return data | {name: value for name, value in found.items() if name in data}

    @property
    def resamples(self) -> bool:
        """Return whether denoising steps are taken several times, with new noise between."""
        return self.resample > 1

    @property
    def photographs(self) -> Mapping[str, str | OtherLicence]:
        """Return the licence of the photographs by their use."""
        return {"inpainting": self.sources.license}

    def models(self, scorer: ModelSource | None) -> Mapping[str, ModelSource]:
        """Return the encoder of a search, by default `scorer`."""
        encoder = None if self.search is None else self.search.encoder or scorer
        return {} if encoder is None else {"encoder": encoder}

    def find_idle(self) -> Iterator[str]:
        """Yield a line per setting without effect, such as more screening steps than steps."""
        yield from super().find_idle()
        if self.search is not None and (self.search.screening_steps or 0) > self.steps:
            yield (
                f"engine.search.screening_steps {self.search.screening_steps} is above engine.steps {self.steps}; give "
                f"{self.steps} at most"
            )

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
        found = self.model_dump(mode="json", exclude={"sources", "regions", "concept_regions", "min_change", "search"})
        if self.search is not None:
            found["search"] = self.search.model_dump(mode="json", exclude={"encoder"})
        regions = {name: each.model_dump(mode="json", exclude=places) for name, each in self.list_regions()}
        return found | {"sources": self.sources.model_dump(mode="json", exclude=places), "regions": regions}

    def check(self, recipe: "Recipe") -> None:
        """Refuse a recipe whose other settings do not fit drawing into photographs. Errors: ValueError."""
        super().check(recipe)
        known = {look(concept.name) for concept in recipe.concepts}
        if unknown := [name for name in self.concept_regions if look(name) not in known]:
            names = ", ".join(concept.name for concept in recipe.concepts)
            raise ValueError(
                f"engine.concept_regions: {show(unknown[0])} is no concept; the concepts are {shorten(names)}"
            )
        if recipe.annotation.slots != ("concept",):
            raise ValueError(
                "annotation.things and annotation.stuff: engine inpaint masks the concept alone; leave both out"
            )
        if recipe.sharding.attention:
            raise ValueError(
                "sharding.attention ships maps of whole images, and engine inpaint attends to a window; leave it out"
            )

        if self.search is not None:
            self._check_search(recipe)

    def _check_search(self, recipe: "Recipe") -> None:
        """Refuse a search without known defects of a concept, or without an encoder. Errors: ValueError."""
        for concept in recipe.concepts:
            regions, place = self.find_regions(concept.name)
            if regions.images is None:
                raise ValueError(
                    f"engine.search compares {concept.name!r} with defects of the images in {place}, but its regions "
                    "are random shapes; give regions of kind references or masks, or leave the search out"
                )
        if recipe.encoder is None:
            raise ValueError(
                "engine.search compares crops with known defects by a CLIP model; give engine.search.encoder or "
                "quality.scorer"
            )

    @classmethod
    def count_steps(cls, engine: Mapping[str, Any]) -> float:
        """Return the denoising steps of one image: those within `strength`, each `resample` times."""
        return float(engine["steps"] * engine["strength"] * engine["resample"])

    @classmethod
    def count_search(cls, engine: Mapping[str, Any], drawn: int, few: int, branches: int) -> float:
        """Return the denoiser passes of all candidates of one image; 0 without a search."""
        if (stored := engine.get("search")) is None:
            return 0.0
        search = RegionSearch.model_validate(stored)
        return float(search.candidates * search.count_few(engine["steps"]) * engine["strength"] * branches)

"""Settings of engine inpaint: concepts that a generator draws into regions of the user's own photographs."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from tailforge.schemas.settings.drawing import DrawingEngine
from tailforge.schemas.settings.fields import ModelSource, Share, Strict
from tailforge.schemas.settings.sampling import SamplingSettings

if TYPE_CHECKING:
    from tailforge.schemas.recipe import Recipe


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


class InpaintEngine(DrawingEngine, SamplingSettings):
    """Drawing into regions of photographs by a generator; every other pixel of a photograph stays as it is.

    A generator made for inpainting reads the photograph and the mask. The latents of any other are blended with those
    of the photograph after every step (Blended Latent Diffusion, arXiv 2206.02779; RePaint, arXiv 2201.09865).
    """

    takes_inpainting: ClassVar[bool] = True
    digital_source_type: ClassVar[str] = "compositeWithTrainedAlgorithmicMedia"

    kind: Literal["inpaint"] = Field("inpaint", description="Name of the engine.")
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

    @property
    def resamples(self) -> bool:
        """Return whether denoising steps are taken several times, with new noise between."""
        return self.resample > 1

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

    def describe(self) -> dict[str, Any]:
        """Return the settings that decide an image; addresses hold the digests of images in place of their paths."""
        found = super().describe()
        search = found.pop("search")
        return found if search is None else found | {"search": {k: v for k, v in search.items() if k != "encoder"}}

    def check(self, recipe: "Recipe") -> None:
        """Refuse a recipe whose other settings do not fit drawing into photographs. Errors: ValueError."""
        super().check(recipe)
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

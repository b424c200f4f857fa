"""Settings of the engines, one model per value of `kind`. The engines themselves are in tasks/methods."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, SerializeAsAny, model_validator

from tailforge.schemas.settings.engine_settings import EngineSettings
from tailforge.schemas.settings.fields import ModelSource, Weight
from tailforge.schemas.settings.inpaint import InpaintEngine
from tailforge.schemas.settings.inversion import NaturalInversionEngine
from tailforge.schemas.settings.pasting import CopyPasteEngine, CutPasteEngine, NoiseTextureEngine
from tailforge.schemas.settings.sampling import SamplingSettings

if TYPE_CHECKING:
    from tailforge.schemas.recipe import Recipe

Target = Literal["difference", "centroid"]


class PlainEngine(SamplingSettings):
    """Sampling of a text-to-image pipeline, optionally with Domain Guidance (arXiv 2504.01521)."""

    takes_control: ClassVar[bool] = True

    kind: Literal["plain"] = Field("plain", description="Name of the engine.")
    guide: ModelSource | None = Field(
        None,
        description="Generator for the unconditional half of guidance, for example the base of an adapted generator. "
        "By default the generator itself. It reads `negative_prompt`.",
    )

    def models(self, scorer: ModelSource | None) -> Mapping[str, ModelSource]:
        """Return the guide, if the recipe names one."""
        return {} if self.guide is None else {"guide": self.guide}

    def find_idle(self) -> Iterator[str]:
        """Yield a line per setting without effect, such as a guide without guidance."""
        yield from super().find_idle()
        if self.guide is not None and self.guidance <= 1:
            yield (
                f"engine.guide has no effect with engine.guidance {self.guidance:g}, which switches guidance off; "
                "raise it above 1 or leave the guide out"
            )


class SearchEngine(SamplingSettings):
    """Base of engines that search noise for images similar to a concept's reference photographs.

    Tailforge chose `target` and `stop`; see docs/explanation/seed_select.md.
    """

    reads_references: ClassVar[bool] = True

    batch_size: int = Field(8, ge=1, le=1024, description="Images searched at the same time.")
    encoder: ModelSource | None = Field(
        None, description="CLIP model that compares images with the references; by default quality.scorer."
    )
    target: Target = Field(
        "difference",
        description="centroid: mean feature of the references. difference: that mean minus the mean feature of plain "
        "samples, which removes features that all images of the concept share.",
    )
    references_per_image: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Size of the random subset of references for each image; by default all references.",
    )
    plain_samples: int = Field(
        64, ge=0, le=10_000, description="Plain few-step images per concept, for `difference` and `stop`."
    )
    candidates: int = Field(16, ge=1, le=4096, description="Noises screened per image; 1: its own noise alone.")
    screening_steps: int | None = Field(
        None, ge=1, le=1000, description="Denoising steps of screening; by default half of `steps`."
    )

    @model_validator(mode="after")
    def _difference_needs_plain_samples(self) -> "SearchEngine":
        if self.target == "difference" and self.plain_samples < 8:
            raise ValueError(f"target difference needs 8 plain_samples or more, found {self.plain_samples}")
        return self

    @property
    def searches_nowhere(self) -> bool:
        """Return whether every image keeps the noise of plain sampling."""
        return self.candidates == 1

    @property
    def compares_concepts(self) -> bool:
        """Return whether the search for one concept reads the aims of the other concepts."""
        return False

    @property
    def few_steps(self) -> int:
        """Return the denoising steps of a screened image."""
        return self.screening_steps or max(1, self.steps // 2)

    @property
    def is_measured(self) -> bool:
        """Return whether the search compares images with plain samples of the concept."""
        return self.target == "difference"

    @property
    def chooses_noise(self) -> bool:
        """Return whether the search may replace an image's noise."""
        return not self.searches_nowhere

    @property
    def seeks_seeds(self) -> bool:
        """Return whether a search before the first round finds noises for all images to start from."""
        return False

    def models(self, scorer: ModelSource | None) -> Mapping[str, ModelSource]:
        """Return the encoder, by default `scorer`."""
        encoder = self.encoder or scorer
        return {} if encoder is None else {"encoder": encoder}

    def partition_rows(self, batch: int) -> int:
        """Return the default samples per partition: one batch, since a search takes long."""
        return batch

    def check(self, recipe: "Recipe") -> None:
        """Refuse a recipe without the references, concepts or encoder that the search needs. Errors: ValueError."""
        if missing := [concept.name for concept in recipe.concepts if concept.references is None]:
            raise ValueError(
                f"engine {recipe.engine.kind} needs reference photographs of every concept; {missing[0]!r} has none, "
                "give it `references`, a folder"
            )

        if self.compares_concepts and len(recipe.concepts) < 2:
            raise ValueError("engine.contrast_weight compares with the recipe's other concepts, and there is no other")
        if recipe.encoder is None:
            raise ValueError(
                f"engine {recipe.engine.kind} compares images with the references by a CLIP model; give engine.encoder "
                "or quality.scorer"
            )

        super().check(recipe)

    def find_idle(self) -> Iterator[str]:
        """Yield a line per setting without effect, such as more screening steps than steps."""
        yield from super().find_idle()
        for name in ("screening_steps", "grad_steps"):
            value = getattr(self, name, None)
            if value is not None and value > self.steps:
                yield f"engine.{name} {value} is above engine.steps {self.steps}; give {self.steps} at most"


class BestOfNEngine(SearchEngine):
    """Search without gradients: screen many noises with few steps and render the best."""

    kind: Literal["best_of_n"] = Field("best_of_n", description="Name of the engine.")

    @classmethod
    def count_search(cls, engine: Mapping[str, Any], drawn: int, few: int, branches: int) -> float:
        """Return the denoiser passes of screening for one image."""
        return float(engine["candidates"] * few)


class ZeroOrderEngine(SearchEngine):
    """Search without gradients: move a screened noise to its best neighbour in each round (arXiv 2501.09732)."""

    kind: Literal["zero_order"] = Field("zero_order", description="Name of the engine.")
    candidates: int = Field(4, ge=1, le=4096, description="Noises screened for the start.")
    rounds: int = Field(4, ge=1, le=1000, description="Rounds, each with one move.")
    neighbours: int = Field(4, ge=1, le=4096, description="Neighbours tried per round.")
    cosine: float = Field(0.95, gt=0, lt=1, description="Cosine between a noise and its neighbours.")

    @property
    def searches_nowhere(self) -> bool:
        """Return False: a move to a neighbour always changes the noise."""
        return False

    @classmethod
    def count_search(cls, engine: Mapping[str, Any], drawn: int, few: int, branches: int) -> float:
        """Return the denoiser passes of screening and of all moves for one image."""
        return float((engine["candidates"] + engine["rounds"] * engine["neighbours"]) * few)


# Numbers of the authors' code, for preset published.
PUBLISHED: Mapping[str, Any] = {
    "scheduler": "ddim",
    "steps": 20,
    "guidance": 7.5,
    "batch_size": 1,
    "target": "centroid",
    "plain_samples": 0,
    "candidates": 1,
    "iterations": 30,
    "optimizer": "adamw",
    "step_size": 0.1,
    "later_step_size": 0.01,
    "appearance_weight": 1.0,
    "last_steps": (0.05, 0.25, 0.70),
    "unconditional_gradient": True,
    "stop": None,
    "patience": None,
}
# Settings that have an effect only in mode bootstrapped, or only with gradient steps.
BOOTSTRAPPED = ("found_seeds", "mixes", "fresh_share")
GRADIENT = ("optimizer", "step_size", "later_step_size", "semantic_weight", "appearance_weight", "contrast_weight",
            "repulsion_weight", "last_steps", "patience", "grad_steps", "checkpointing",
            "unconditional_gradient")  # fmt: skip
# Share of the maximum passes that images make on average with early `stop`; see schemas/effort.py.
STAYING = 0.45
GRADIENT_PASSES = 2  # cost of a pass's gradient, in passes; one more with checkpointing


class SeedSelectEngine(SearchEngine):
    """SeedSelect (arXiv 2304.14530): gradient steps on the noise of a frozen generator towards the references.

    `preset: published` sets the numbers of the authors' code for all keys that the recipe does not set.
    """

    kind: Literal["seed_select"] = Field("seed_select", description="Name of the engine.")
    preset: Literal["default", "published"] = Field("default", description="Defaults of Tailforge or of the authors.")
    mode: Literal["full", "bootstrapped"] = Field(
        "full",
        description="full: a full search for each image. bootstrapped: a full search for each prompt; images start "
        "from mixes with its noise.",
    )
    candidates: int = Field(
        8, ge=1, le=4096, description="Noises screened per image and round; 1: its own noise alone."
    )
    finalists: int = Field(
        2,
        ge=1,
        le=4096,
        description="Best screened noises of an image, compared again with all steps and `views`. 1: no second "
        "comparison.",
    )
    rounds: int = Field(4, ge=1, le=1000, description="Most rounds of screening; an image ends early at `stop`.")
    iterations: int = Field(6, ge=0, le=1000, description="Most gradient steps; 0: none.")
    optimizer: Literal["shell", "adamw"] = Field(
        "shell", description="shell: steps of a fixed angle that keep the noise's norm. adamw: the published optimiser."
    )
    step_size: float = Field(
        0.05, gt=0, le=10, description="shell: length of a step as a share of the norm. adamw: learning rate."
    )
    later_step_size: float | None = Field(
        None, gt=0, le=10, description="Step size from the fourth step on; by default the same."
    )
    semantic_weight: Weight = Field(
        10.0, description="Weight of 1 - cosine between the image's features and the target."
    )
    appearance_weight: Weight = Field(0.0, description="Weight of the squared distance to the references' mean latent.")
    contrast_weight: Weight = Field(
        0.0, description="Weight of the cross entropy of the concept among the recipe's concepts."
    )
    repulsion_weight: Weight = Field(0.0, description="Weight of the mean cosine with the other images of the batch.")
    last_steps: tuple[Weight, ...] = Field(
        (1.0,),
        min_length=1,
        description="Weights of the semantic loss after each of the last denoising steps, in their order.",
    )
    stop: float | None = Field(
        1.0,
        gt=0,
        le=10,
        description="Confidence at which the search for an image ends. 0: like plain samples. 1: like the references.",
    )
    views: int = Field(4, ge=1, le=4, description="Views for the mean confidence: whole image, mirrored, two crops.")
    patience: int | None = Field(
        3, ge=1, le=1000, description="Steps without a lower loss after which the search for an image ends."
    )
    grad_steps: int | None = Field(
        None, ge=1, le=1000, description="Differentiate only this many last denoising steps; by default all."
    )
    checkpointing: bool = Field(True, description="Store no activations: less memory, a third more time.")
    unconditional_gradient: bool = Field(False, description="Also differentiate guidance's unconditional branch.")
    found_seeds: int | None = Field(
        None, ge=1, le=10_000, description="bootstrapped: full searches per concept; by default one per prompt."
    )
    mixes: int = Field(4, ge=1, le=4096, description="bootstrapped: mixes screened per image.")
    fresh_share: float = Field(
        0.05, gt=0, lt=1, description="bootstrapped: share of the image's own noise in a mix's variance."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, data: Any) -> Any:
        published = isinstance(data, dict) and data.get("preset") == "published"
        return {**PUBLISHED, **data} if published else data

    @model_validator(mode="after")
    def _stop_needs_plain_samples(self) -> "SeedSelectEngine":
        if self.stop is not None and self.plain_samples < 8:
            raise ValueError(f"stop is a confidence over plain samples: give 8 plain_samples or more, found "
                             f"{self.plain_samples}, or stop: null")  # fmt: skip
        if len(self.last_steps) > self.steps:
            raise ValueError(f"last_steps has {len(self.last_steps)} weights for {self.steps} denoising steps")
        if self.last_steps[-1] == 0:
            raise ValueError("last_steps ends with 0: the finished image would not count; give it a weight")
        if not (self.semantic_weight or self.appearance_weight):
            raise ValueError("semantic_weight and appearance_weight are both 0: no reference would count; raise one")
        return self

    @property
    def differentiates(self) -> bool:
        """Return whether the search takes gradient steps."""
        return self.iterations > 0

    @property
    def searches_nowhere(self) -> bool:
        """Return whether there is neither screening nor a gradient step nor a mix."""
        return self.candidates == 1 and self.iterations == 0 and self.mode == "full"

    @property
    def compares_concepts(self) -> bool:
        """Return whether the loss has a contrast between concepts."""
        return self.contrast_weight > 0

    @property
    def is_measured(self) -> bool:
        """Return whether the target or `stop` needs plain samples."""
        return super().is_measured or self.stop is not None

    @property
    def seeks_seeds(self) -> bool:
        """Return whether images start from mixes with noises of a search before the first round."""
        return self.mode == "bootstrapped"

    def find_idle(self) -> Iterator[str]:
        """Yield a line per setting without effect, such as settings of gradient steps without iterations."""
        yield from super().find_idle()
        # A preset's numbers count as set, too.
        preset = PUBLISHED if self.preset == "published" else {}
        given = {name for name in self.model_fields_set if name not in preset or getattr(self, name) != preset[name]}
        if self.iterations == 0:
            yield from (
                f"engine.{name} has no effect with engine.iterations 0, which takes no gradient steps; leave it out"
                for name in GRADIENT
                if name in given
            )
        elif self.repulsion_weight and self.batch_size == 1:
            yield "engine.repulsion_weight has no effect with engine.batch_size 1, without other images; leave it out"

        if "finalists" in given and self.finalists > self.candidates:
            yield (
                f"engine.finalists {self.finalists} is above engine.candidates {self.candidates}, but finalists are "
                f"candidates; give {self.candidates} at most, or more candidates"
            )
        if self.mode == "full":
            yield from (
                f"engine.{name} has no effect with engine.mode full; leave it out or set mode: bootstrapped"
                for name in BOOTSTRAPPED
                if name in given
            )

    @classmethod
    def count_search(cls, engine: Mapping[str, Any], drawn: int, few: int, branches: int) -> float:
        """Return the denoiser passes for one image: screening, finalists, and gradients in units of passes."""
        if engine.get("mode") == "bootstrapped":
            return float(engine["mixes"] * few)
        finalists = (engine["finalists"] > 1) * engine["finalists"]
        screened = engine["rounds"] * (engine["candidates"] * few + finalists * drawn)
        back = drawn if engine["unconditional_gradient"] else drawn / branches
        gradient = engine["iterations"] * (drawn + back * (GRADIENT_PASSES + engine["checkpointing"]))
        most = float(screened * (engine["candidates"] > 1) + gradient)
        return most if engine["stop"] is None else STAYING * most


Engine = Annotated[
    PlainEngine
    | BestOfNEngine
    | ZeroOrderEngine
    | SeedSelectEngine
    | NaturalInversionEngine
    | InpaintEngine
    | CopyPasteEngine
    | CutPasteEngine
    | NoiseTextureEngine,
    Discriminator("kind"),
    SerializeAsAny(),
]
# Engines of the project; `add_settings` adds others.
OWN = (
    PlainEngine, BestOfNEngine, ZeroOrderEngine, SeedSelectEngine, NaturalInversionEngine, InpaintEngine,
    CopyPasteEngine, CutPasteEngine, NoiseTextureEngine,
)  # fmt: skip
EngineName = Literal[tuple(each.model_fields["kind"].default for each in OWN)]  # type: ignore[valid-type]
_settings: dict[str, type[EngineSettings]] = {each.model_fields["kind"].default: each for each in OWN}


def add_settings(settings: type[EngineSettings]) -> None:
    """Register an engine for recipes, by the default of the field `kind` of its settings."""
    _settings[settings.model_fields["kind"].default] = settings


def find_settings(kind: object) -> type[EngineSettings] | None:
    """Return the settings class of an engine by its `kind`, or None for an unknown kind."""
    return _settings.get(kind) if isinstance(kind, str) else None

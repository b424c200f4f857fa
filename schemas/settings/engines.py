"""Engines that a recipe can choose, one model each; `kind` tells them apart. What they do is in tasks/methods."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, SerializeAsAny, model_validator

from tailforge.schemas.settings.engine_settings import EngineSettings
from tailforge.schemas.settings.fields import ModelSource, Weight, Words
from tailforge.schemas.settings.inversion import NaturalInversionEngine

if TYPE_CHECKING:
    from tailforge.schemas.recipe import Recipe

Target = Literal["difference", "centroid"]


class SamplingSettings(EngineSettings):
    """How the generator is sampled, whatever chooses the noise."""

    steps: int = Field(20, ge=1, le=1000, description="Denoising steps.")
    guidance: float = Field(3.0, ge=0, le=50, description="Classifier-free guidance scale; 1 or less: off.")
    scheduler: Literal["model", "ddim", "dpmsolver++", "euler", "unipc"] = Field(
        "model", description="`model` keeps the scheduler saved with the generator."
    )
    batch_size: int = Field(16, ge=1, le=1024, description="Images in one forward pass; part of what fixes the bytes.")
    height: int | None = Field(None, ge=8, le=4096, multiple_of=8, description="Pixels; the model's own by default.")
    width: int | None = Field(None, ge=8, le=4096, multiple_of=8)
    negative_prompt: Words = ""

    @property
    def sampling(self) -> "SamplingSettings":
        return self

    def find_idle(self) -> Iterator[str]:
        if self.negative_prompt and self.guidance <= 1:
            yield (
                f"engine.negative_prompt has no effect with engine.guidance {self.guidance:g}, which switches guidance "
                "off; raise it above 1 or leave the prompt out"
            )


class PlainEngine(SamplingSettings):
    """Text-to-image sampling as the pipeline does it, or by Domain Guidance (arXiv 2504.01521)."""

    kind: Literal["plain"] = "plain"
    guide: ModelSource | None = Field(
        None,
        description="The unconditional half of guidance comes from this generator, for example the one that the "
        "generator was adapted from; by default from the generator itself. It reads `negative_prompt`.",
    )

    def models(self, scorer: ModelSource | None) -> Mapping[str, ModelSource]:
        return {} if self.guide is None else {"guide": self.guide}

    def find_idle(self) -> Iterator[str]:
        yield from super().find_idle()
        if self.guide is not None and self.guidance <= 1:
            yield (
                f"engine.guide has no effect with engine.guidance {self.guidance:g}, which switches guidance off; "
                "raise it above 1 or leave the guide out"
            )


class SearchEngine(SamplingSettings):
    """What the engines share that search for noise whose image is like a concept's reference photographs.

    `target` and `stop` are choices of ours; see docs/explanation/seed_select.md.
    """

    reads_references: ClassVar[bool] = True

    batch_size: int = Field(8, ge=1, le=1024, description="Images searched for at a time.")
    encoder: ModelSource | None = Field(
        None, description="CLIP model that compares images with the references; by default that of quality.scorer."
    )
    target: Target = Field(
        "difference",
        description="centroid: mean of the references' features. difference: that minus the mean of plain samples of "
        "the concept, which holds what is not the concept.",
    )
    references_per_image: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Each image aims at its own random subset of the references; by default at all.",
    )
    plain_samples: int = Field(
        64, ge=0, le=10_000, description="Plain few-step images of a concept that `difference` and `stop` compare with."
    )
    candidates: int = Field(16, ge=1, le=4096, description="Noises screened for each image; 1: its own alone.")
    screening_steps: int | None = Field(
        None, ge=1, le=1000, description="Denoising steps while screening; by default half of `steps`."
    )

    @model_validator(mode="after")
    def _difference_needs_plain_samples(self) -> "SearchEngine":
        if self.target == "difference" and self.plain_samples < 8:
            raise ValueError(f"target difference needs 8 plain_samples or more, found {self.plain_samples}")
        return self

    @property
    def searches_nowhere(self) -> bool:
        """Whether the noise of every image is the one that plain sampling takes."""
        return self.candidates == 1

    @property
    def compares_concepts(self) -> bool:
        """Whether the search for one concept reads the aims of the recipe's others."""
        return False

    @property
    def few_steps(self) -> int:
        """Denoising steps of a screened image."""
        return self.screening_steps or max(1, self.steps // 2)

    @property
    def is_measured(self) -> bool:
        """Whether images are compared with plain samples of the concept."""
        return self.target == "difference"

    @property
    def chooses_noise(self) -> bool:
        return not self.searches_nowhere

    @property
    def seeks_seeds(self) -> bool:
        """Whether images start from noises that are found before the first round."""
        return False

    def models(self, scorer: ModelSource | None) -> Mapping[str, ModelSource]:
        encoder = self.encoder or scorer
        return {} if encoder is None else {"encoder": encoder}

    def partition_rows(self, batch: int) -> int:
        return batch

    def check(self, recipe: "Recipe") -> None:
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
        yield from super().find_idle()
        for name in ("screening_steps", "grad_steps"):
            value = getattr(self, name, None)
            if value is not None and value > self.steps:
                yield f"engine.{name} {value} is above engine.steps {self.steps}; give {self.steps} at most"


class BestOfNEngine(SearchEngine):
    """Rival without gradients: many noises are screened, the best is rendered."""

    kind: Literal["best_of_n"] = "best_of_n"

    @classmethod
    def count_search(cls, engine: Mapping[str, Any], drawn: int, few: int, branches: int) -> float:
        return float(engine["candidates"] * few)


class ZeroOrderEngine(SearchEngine):
    """Rival without gradients: a screened noise moves to its best neighbour, round after round (arXiv 2501.09732)."""

    kind: Literal["zero_order"] = "zero_order"
    candidates: int = Field(4, ge=1, le=4096, description="Noises screened for the start.")
    rounds: int = Field(4, ge=1, le=1000, description="Moves.")
    neighbours: int = Field(4, ge=1, le=4096, description="Neighbours tried in each round.")
    cosine: float = Field(0.95, gt=0, lt=1, description="Of a neighbour with the noise that it is a neighbour of.")

    @property
    def searches_nowhere(self) -> bool:
        return False

    @classmethod
    def count_search(cls, engine: Mapping[str, Any], drawn: int, few: int, branches: int) -> float:
        return float((engine["candidates"] + engine["rounds"] * engine["neighbours"]) * few)


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
BOOTSTRAPPED = ("found_seeds", "mixes", "fresh_share")
GRADIENT = ("optimizer", "step_size", "later_step_size", "semantic_weight", "appearance_weight", "contrast_weight",
            "repulsion_weight", "last_steps", "patience", "grad_steps", "checkpointing",
            "unconditional_gradient")  # fmt: skip
# Part of the most passes that images make which may leave early (`stop`): see schemas/effort.py.
STAYING = 0.45
GRADIENT_PASSES = 2  # passes that the gradient of one costs; one more where activations are made again


class SeedSelectEngine(SearchEngine):
    """SeedSelect (arXiv 2304.14530): gradient steps on the noise of a frozen generator towards the references.

    `preset: published` takes the numbers of the authors' code wherever a key is not given.
    """

    kind: Literal["seed_select"] = "seed_select"
    preset: Literal["default", "published"] = "default"
    mode: Literal["full", "bootstrapped"] = Field(
        "full", description="bootstrapped: a noise is found in full for each prompt, images are mixes with it."
    )
    candidates: int = Field(8, ge=1, le=4096, description="Noises screened for an image in a round; 1: its own alone.")
    finalists: int = Field(
        2,
        ge=1,
        le=4096,
        description="Screened noises of an image that are looked at again with all steps and by `views`; 1: none is, "
        "the best by few steps goes on.",
    )
    rounds: int = Field(4, ge=1, le=1000, description="Rounds of screening at most; an image leaves at `stop`.")
    iterations: int = Field(6, ge=0, le=1000, description="Gradient steps at most; 0: none.")
    optimizer: Literal["shell", "adamw"] = Field(
        "shell", description="shell: steps of a fixed angle, the noise's norm kept. adamw: the published optimiser."
    )
    step_size: float = Field(0.05, gt=0, le=10, description="shell: part of the norm a step moves; adamw: rate.")
    later_step_size: float | None = Field(
        None, gt=0, le=10, description="From the fourth step on; by default the same."
    )
    semantic_weight: Weight = Field(10.0, description="Of 1 - cosine of the image's features with the target.")
    appearance_weight: Weight = Field(0.0, description="Of the squared distance to the references' mean latent.")
    contrast_weight: Weight = Field(0.0, description="Of the cross-entropy against the recipe's other concepts.")
    repulsion_weight: Weight = Field(0.0, description="Of the mean cosine with the batch's other images.")
    last_steps: tuple[Weight, ...] = Field(
        (1.0,),
        min_length=1,
        description="Weights of the semantic loss after the last denoising steps, the last one last.",
    )
    stop: float | None = Field(
        1.0, gt=0, le=10, description="An image is done at this confidence: 0 as its candidates, 1 as the references."
    )
    views: int = Field(
        4, ge=1, le=4, description="Views (whole, mirrored, two crops) that the confidence is the mean of."
    )
    patience: int | None = Field(
        3, ge=1, le=1000, description="An image is done after so many steps without a lower loss."
    )
    grad_steps: int | None = Field(
        None, ge=1, le=1000, description="Only the last denoising calls are differentiated; by default all."
    )
    checkpointing: bool = Field(True, description="Keep no activations: less memory, a third more time.")
    unconditional_gradient: bool = Field(False, description="Differentiate guidance's unconditional branch as well.")
    found_seeds: int | None = Field(
        None, ge=1, le=10_000, description="bootstrapped: noises of a concept found in full; by default one a prompt."
    )
    mixes: int = Field(4, ge=1, le=4096, description="bootstrapped: mixes screened for each image.")
    fresh_share: float = Field(
        0.05, gt=0, lt=1, description="bootstrapped: part of a mix's variance that is the image's own noise."
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
    def searches_nowhere(self) -> bool:
        return self.candidates == 1 and self.iterations == 0 and self.mode == "full"

    @property
    def compares_concepts(self) -> bool:
        return self.contrast_weight > 0

    @property
    def is_measured(self) -> bool:
        return super().is_measured or self.stop is not None

    @property
    def seeks_seeds(self) -> bool:
        return self.mode == "bootstrapped"

    def find_idle(self) -> Iterator[str]:
        yield from super().find_idle()
        preset = PUBLISHED if self.preset == "published" else {}
        given = {name for name in self.model_fields_set if name not in preset or getattr(self, name) != preset[name]}
        if self.iterations == 0:
            yield from (
                f"engine.{name} has no effect with engine.iterations 0, which takes no gradient steps; leave it out"
                for name in GRADIENT
                if name in given
            )
        elif self.repulsion_weight and self.batch_size == 1:
            yield "engine.repulsion_weight has no effect with engine.batch_size 1, of no other image; leave it out"
        if "finalists" in given and self.finalists > self.candidates:
            yield (
                f"engine.finalists {self.finalists} is above engine.candidates {self.candidates}, of which they are "
                f"chosen; give {self.candidates} at most, or more candidates"
            )
        if self.mode == "full":
            yield from (
                f"engine.{name} has no effect with engine.mode full; leave it out or set mode: bootstrapped"
                for name in BOOTSTRAPPED
                if name in given
            )

    @classmethod
    def count_search(cls, engine: Mapping[str, Any], drawn: int, few: int, branches: int) -> float:
        if engine.get("mode") == "bootstrapped":
            return float(engine["mixes"] * few)
        finalists = (engine["finalists"] > 1) * engine["finalists"]
        screened = engine["rounds"] * (engine["candidates"] * few + finalists * drawn)
        back = drawn if engine["unconditional_gradient"] else drawn / branches
        gradient = engine["iterations"] * (drawn + back * (GRADIENT_PASSES + engine["checkpointing"]))
        most = float(screened * (engine["candidates"] > 1) + gradient)
        return most if engine["stop"] is None else STAYING * most


Engine = Annotated[
    PlainEngine | BestOfNEngine | ZeroOrderEngine | SeedSelectEngine | NaturalInversionEngine,
    Discriminator("kind"),
    SerializeAsAny(),
]
OWN = (PlainEngine, BestOfNEngine, ZeroOrderEngine, SeedSelectEngine, NaturalInversionEngine)
_settings: dict[str, type[EngineSettings]] = {each.model_fields["kind"].default: each for each in OWN}


def add_settings(settings: type[EngineSettings]) -> None:
    """Let recipes name one engine more, by the default of the field `kind` of its settings."""
    _settings[settings.model_fields["kind"].default] = settings


def find_settings(kind: object) -> type[EngineSettings] | None:
    """Return the settings of the engine that a recipe names; None where there is no such engine."""
    return _settings.get(kind) if isinstance(kind, str) else None

"""The interface of all engines' settings, so that no caller checks which engine it has. The engines: engines.py."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tailforge.schemas.settings.fields import ModelSource, Strict
from tailforge.schemas.settings.licences import OtherLicence

if TYPE_CHECKING:
    from tailforge.schemas.recipe import Recipe
    from tailforge.schemas.settings.sampling import SamplingSettings

CHANGED = "changed_region"  # kind of annotation for what was drawn into a photograph


class EngineSettings(Strict):
    """Base of all engines' settings, with the answers of an engine that samples a pipeline and searches nothing."""

    needs_generator: ClassVar[bool] = True
    inverts: ClassVar[bool] = False  # the generator is a classifier, which reads no text
    reads_references: ClassVar[bool] = False
    takes_control: ClassVar[bool] = False  # it draws with the generator's ControlNet
    takes_inpainting: ClassVar[bool] = False  # it draws with a generator made for inpainting
    annotation_kind: ClassVar[str | None] = None  # default of annotation.kind; None: the default of Annotation
    follows_sources: ClassVar[bool] = False  # a sample's photograph decides its split
    keeps_near_duplicates: ClassVar[bool] = False  # default of quality.near_duplicates is null
    digital_source_type: ClassVar[str] = "trainedAlgorithmicMedia"  # IPTC's term for the images

    @property
    def sampling(self) -> "SamplingSettings | None":
        """Return the sampling settings of the pipeline, or None for an engine without one."""
        return None

    @property
    def negative_text(self) -> str:
        """Return the negative prompt for the text encoder; empty if guidance is off or there is no pipeline."""
        sampling = self.sampling
        return sampling.negative_prompt if sampling is not None and sampling.guidance > 1 else ""

    @property
    def differentiates(self) -> bool:
        """Return whether the engine follows gradients through the pipeline."""
        return False

    @property
    def resamples(self) -> bool:
        """Return whether denoising steps are taken several times, with new noise between."""
        return False

    @property
    def chooses_noise(self) -> bool:
        """Return whether an image may start from other noise than that of its seed."""
        return False

    @property
    def photographs(self) -> Mapping[str, str | OtherLicence]:
        """Return the licence of photographs that become images, by their use: a key of `USES`."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return the settings that decide an image; addresses hold the digests of models in their place."""
        return self.model_dump(mode="json", exclude={"encoder", "guide"})

    def models(self, scorer: ModelSource | None) -> Mapping[str, ModelSource]:
        """Return the models that the engine needs in addition to the generator, by role. `scorer`: quality.scorer."""
        return {}

    def partition_rows(self, batch: int) -> int:
        """Return the default samples per partition: 64, rounded up to whole batches of `batch` images."""
        return -(-64 // batch) * batch

    def check_partitions(self, size: int, batch: int) -> None:
        """Refuse a `partition_size` of `size` samples that is no multiple of `batch`. Errors: ValueError."""
        if size % batch:
            raise ValueError(
                f"partition_size {size} is no multiple of engine.batch_size {batch}, try {-(-size // batch) * batch}"
            )

    def check(self, recipe: "Recipe") -> None:
        """Refuse a recipe with other settings that do not fit the engine. Errors: ValueError."""
        check_scorer_gates(recipe)
        _refuse_classifier(recipe)
        _refuse_control(recipe)

    def find_idle(self) -> Iterator[str]:
        """Yield a line per setting of the recipe that has no effect."""
        yield from ()

    @classmethod
    def count_steps(cls, engine: Mapping[str, Any]) -> float:
        """Return the denoising steps of one image, without a search, from stored settings."""
        return float(engine["steps"])

    @classmethod
    def count_search(cls, engine: Mapping[str, Any], drawn: int, few: int, branches: int) -> float:
        """Return the denoiser passes of the search for one image, from stored settings.

        `drawn` and `few`: passes of an image with all and with few steps; `branches`: passes per step.
        """
        return 0.0


def name_scorer_gates(recipe: "Recipe") -> str:
    """Return the names of the recipe's gates that need a scorer, joined by commas; empty without such gates."""
    return ", ".join(recipe.quality.scorer_gates)


def check_scorer_gates(recipe: "Recipe") -> None:
    """Refuse gates that need a scorer in a recipe without one. Errors: ValueError."""
    if (gates := name_scorer_gates(recipe)) and recipe.quality.scorer is None:
        raise ValueError(f"quality.gates {gates} need quality.scorer, a CLIP model; give it, or leave them out")


def _refuse_control(recipe: "Recipe") -> None:
    """Refuse a ControlNet with an engine that would draw without it. Errors: ValueError."""
    if getattr(recipe.generator, "control", None) is None:
        return
    if not recipe.engine.takes_control:
        raise ValueError(
            f"generator.control: engine {recipe.engine.kind} does not draw with a ControlNet; use engine plain, or "
            "leave it out"
        )
    if recipe.guide is not None:
        raise ValueError(
            "generator.control: engine.guide has no ControlNet, so its half of guidance would not follow the image; "
            "leave one of both out"
        )


def _refuse_classifier(recipe: "Recipe") -> None:
    """Refuse settings that only an engine with a classifier can use. Errors: ValueError."""
    kind = recipe.engine.kind
    if recipe.names_classifier:
        raise ValueError(
            f"generator.module, mean, std, size and class_names describe a classifier, engine {kind} draws with a "
            "text-to-image pipeline; leave them out or use engine natural_inversion"
        )

    # Scores and maps of a classifier.
    if "teacher_agreement" in recipe.quality.gates:
        raise ValueError(
            f"gate teacher_agreement: engine {kind} has no teacher; use verifier_agreement with quality.verifier, "
            "or engine natural_inversion"
        )
    if recipe.annotation.kind == "class_activation":
        raise ValueError(f"annotation.kind class_activation: engine {kind} has no classifier; leave it out")
    if recipe.annotation.kind == CHANGED and recipe.engine.annotation_kind != CHANGED:
        raise ValueError(f"annotation.kind {CHANGED}: engine {kind} draws into no photographs; leave it out")

"""What the settings of every engine answer, so that nobody asks which engine it is. The engines: engines.py."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tailforge.schemas.settings.fields import ModelSource, Strict

if TYPE_CHECKING:
    from tailforge.schemas.recipe import Recipe
    from tailforge.schemas.settings.engines import SamplingSettings


class EngineSettings(Strict):
    """Base of all engines' settings. It answers for an engine that draws with a pipeline and searches for nothing."""

    inverts: ClassVar[bool] = False  # the generator is a classifier, which reads no text
    reads_references: ClassVar[bool] = False
    annotation_kind: ClassVar[str | None] = None  # default of annotation.kind; None: that of the annotation

    @property
    def sampling(self) -> "SamplingSettings | None":
        """Return how a pipeline is sampled; None for an engine that samples none."""
        return None

    @property
    def negative_text(self) -> str:
        """Return the negative prompt that a text encoder reads; empty where it reads none."""
        sampling = self.sampling
        return sampling.negative_prompt if sampling is not None and sampling.guidance > 1 else ""

    @property
    def chooses_noise(self) -> bool:
        """Whether the noise of an image may be another than that of its seed."""
        return False

    def models(self, scorer: ModelSource | None) -> Mapping[str, ModelSource]:
        """Return the models that the engine needs beside the generator, by role. `scorer`: that of the quality."""
        return {}

    def partition_rows(self, batch: int) -> int:
        """Return the default samples per partition: the whole batches of `batch` images that make 64 samples."""
        return -(-64 // batch) * batch

    def check_partitions(self, size: int, batch: int) -> None:
        """Refuse a `partition_size` that does not hold whole batches. Errors: ValueError."""
        if size % batch:
            raise ValueError(
                f"partition_size {size} is no multiple of engine.batch_size {batch}, try {-(-size // batch) * batch}"
            )

    def check(self, recipe: "Recipe") -> None:
        """Refuse a recipe whose other settings do not fit the engine. Errors: ValueError."""
        check_scorer_gates(recipe)
        _refuse_classifier(recipe)

    def find_idle(self) -> Iterator[str]:
        """Yield a line for each setting that was given and has no effect."""
        yield from ()

    @classmethod
    def count_search(cls, engine: Mapping[str, Any], drawn: int, few: int, branches: int) -> float:
        """Return the denoiser passes of an image before it is drawn, from stored settings.

        `drawn` and `few`: passes of an image with all and with few steps; `branches`: passes per step.
        """
        return 0.0


def name_scorer_gates(recipe: "Recipe") -> str:
    """Return the names of the recipe's gates that a scorer measures; empty where there are none."""
    return ", ".join(recipe.quality.scorer_gates)


def check_scorer_gates(recipe: "Recipe") -> None:
    """Refuse gates that a scorer measures where the recipe names none. Errors: ValueError."""
    if (gates := name_scorer_gates(recipe)) and recipe.quality.scorer is None:
        raise ValueError(f"quality.gates {gates} need quality.scorer, a CLIP model; give it, or leave them out")


def _refuse_classifier(recipe: "Recipe") -> None:
    """Errors: ValueError for what only an engine with a classifier can use."""
    kind = recipe.engine.kind
    if recipe.names_classifier:
        raise ValueError(
            f"generator.module, mean, std, size and class_names describe a classifier, engine {kind} draws with a "
            "text-to-image pipeline; leave them out or use engine natural_inversion"
        )
    if "teacher_agreement" in recipe.quality.gates:
        raise ValueError(
            f"gate teacher_agreement: engine {kind} has no teacher; use verifier_agreement with quality.verifier, "
            "or engine natural_inversion"
        )
    if recipe.annotation.kind == "class_activation":
        raise ValueError(f"annotation.kind class_activation: engine {kind} has no classifier; leave it out")

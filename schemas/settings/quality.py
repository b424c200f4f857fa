"""Settings of quality: gates, near duplicates, and rounds until enough images pass."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from tailforge.schemas.settings.fields import ModelSource, Strict
from tailforge.schemas.settings.gates import DEFAULT_GATES, GATES, Gate, gates_of
from tailforge.schemas.settings.inversion import TeacherSource


class NearDuplicates(Strict):
    """Rejection of the later of two images with similar 64-bit perceptual hashes."""

    max_distance: int = Field(3, ge=0, le=32, description="Largest Hamming distance of duplicates, in bits.")
    against_references: bool = Field(True, description="Also reject images similar to a reference photograph.")


class Quality(Strict):
    """Quality gates, and rounds until enough images pass."""

    scorer: ModelSource | None = Field(
        None, description="CLIP model; needed for clip_score, concept_margin, reference_similarity and crop_score."
    )
    verifier: TeacherSource | None = Field(
        None,
        description="Classifier for gate verifier_agreement. It knows the concepts by name and is independent of the "
        "images.",
    )
    gates: Mapping[Literal[GATES], Gate] = Field(  # type: ignore[valid-type]
        DEFAULT_GATES,
        description="Bounds on scores. The default rejects blank images, blur and noise, for any subject. With "
        "`gates: none` every image passes, and the report says: not checked.",
    )
    near_duplicates: NearDuplicates | None = Field(
        NearDuplicates(), description="Rejection of near duplicates; null: none."
    )
    oversample: float = Field(
        1.2,
        ge=1,
        le=100,
        description="Images of the first round per requested image. Without gates and near_duplicates the first round "
        "makes the requested images only, if max_rounds allows another round for failures.",
    )
    max_rounds: int = Field(3, ge=1, le=100, description="Most rounds of synthesis, the first included.")
    round_limit: float | None = Field(
        5.0,
        ge=1,
        le=1e6,
        description="Most images (runs of an inversion) of a later round per image of the first. A build stops before "
        "a larger round and gives the reason, unless it has --yes. null: no limit.",
    )
    on_shortfall: Literal["report", "fail"] = Field(
        "report",
        description="If a concept has too few accepted images after the last round. report: publish and report it. "
        "fail: publish nothing.",
    )

    @field_validator(
        "gates",
        mode="before",
        json_schema_input_type=Mapping[Literal[GATES], Gate] | Literal["none"] | None,  # type: ignore[valid-type]
    )
    @classmethod
    def _none_is_no_gate(cls, gates: object) -> object:
        return {} if gates is None or gates == "none" else gates

    @property
    def scorer_gates(self) -> list[str]:
        """Return the names of the gates that the scorer measures."""
        return [name for name in gates_of("scorer") if name in self.gates]

    @model_validator(mode="after")
    def _verifier_for_its_gate(self) -> "Quality":
        if "verifier_agreement" in self.gates and self.verifier is None:
            raise ValueError("gate verifier_agreement needs quality.verifier, a classifier of the recipe's concepts")
        return self

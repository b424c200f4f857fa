"""Settings of prompts: templates, values of their slots, and synonyms of concepts."""

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from tailforge.schemas.documents.shown import shorten, show
from tailforge.schemas.settings.fields import ModelSource, Name, Positive, Strict, Text, refuse_alike

Weights = Mapping[Name, Positive]
Slot = Annotated[str, Field(pattern=r"^[a-z_]+$", max_length=64)]
SLOT = re.compile(r"\{([a-z_]+)\}")
WORDNET = "oewn:2024"  # one fixed edition, because its words decide the prompts


def check_template(template: str, attributes: Collection[str]) -> None:
    """Check that a template has {concept}, no stray braces, and no slots beside `attributes` and {a}.

    Errors: ValueError.
    """
    slots = SLOT.findall(template)
    if "concept" not in slots:
        raise ValueError(f"template {show(template)} has no {{concept}} slot")
    if set("{}") & set(SLOT.sub("", template)):
        raise ValueError(f"template {show(template)} has a brace that is no slot; slots are {{lower_case}}")
    if unknown := sorted(set(slots) - {"concept", "a"} - set(attributes)):
        raise ValueError(
            f"template {show(template)} uses {{{shorten(unknown[0])}}}, which prompts.attributes does not define"
        )


class LanguageModelExpander(Strict):
    """Extra prompts from a causal language model. Prompts without the concept's word are dropped."""

    source: ModelSource = Field(description="The language model.")
    count: int = Field(ge=1, le=1000, description="Requested prompts per concept.")
    instruction: Text = Field(
        "A photo caption about {concept}:", description="Text that the model continues, with slot {concept}."
    )
    max_new_tokens: int = Field(24, ge=1, le=256, description="Most tokens of a continuation.")
    temperature: float = Field(0.9, gt=0, le=5, description="Sampling temperature; lower is more predictable.")


class Prompts(Strict):
    """Prompt expansion: templates times attributes times synonyms, in a balanced and deterministic order."""

    templates: tuple[Text, ...] = Field(
        ("a photo of {a} {concept}",),
        min_length=1,
        description="Texts with slots in braces. {concept} is required; {a} becomes a or an.",
    )
    attributes: Mapping[Slot, Weights | tuple[Name, ...]] = Field(
        default_factory=dict, description="Values per slot: a list (equal weights), or a mapping of values to weights."
    )
    per_concept: int = Field(64, ge=1, le=100_000, description="Most distinct prompts per concept.")
    balance: Literal["balanced", "weighted"] = Field(
        "balanced",
        description="balanced: all values are equally frequent. weighted: frequencies follow the weights. Prompts are "
        "distinct, so weights have an effect only if per_concept is well below the number of combinations.",
    )
    lexicon: Mapping[Name, tuple[Name, ...]] = Field(
        default_factory=dict, description="Synonyms per concept, in addition to the concept's own."
    )
    wordnet: bool = Field(
        False, description="Also use synonyms of Open English WordNet 2024; you install its data yourself."
    )
    language_model: LanguageModelExpander | None = Field(None, description="Source of extra prompts.")

    @field_validator("attributes", mode="before")
    @classmethod
    def _distinct_values(cls, attributes: Any, info: ValidationInfo) -> Any:
        for name, values in attributes.items() if isinstance(attributes, dict) else ():
            refuse_alike(values, f"values of attribute {name!s:.64}", info)
        return attributes

    @field_validator("lexicon", mode="before")
    @classmethod
    def _distinct_concepts(cls, lexicon: Any, info: ValidationInfo) -> Any:
        refuse_alike(lexicon, "names in lexicon", info)
        return lexicon

    @field_validator("attributes")
    @classmethod
    def _usable_attributes(cls, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        for name, values in attributes.items():
            if name in ("a", "concept"):
                raise ValueError(f"attribute {name!r}: {{{name}}} has a meaning of its own; choose another name")
            if not values:
                raise ValueError(f"attribute {name!r} has no values; give at least one")
        return attributes

"""The recipe: one frozen model that decides the content of a dataset. It refuses unknown keys.

This module defines the choices; tasks/methods implements them. docs/reference/recipe.md is generated from the
descriptions of the fields.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from tailforge.schemas.checks.masked_slots import explain_slot, refuse_value
from tailforge.schemas.checks.mistakes import read_authored, refuse_recipe
from tailforge.schemas.documents.origin import Origin
from tailforge.schemas.documents.shown import count_of, shorten, show
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.allocation import Allocation, UniformAllocation
from tailforge.schemas.settings.annotation import Annotation, Category
from tailforge.schemas.settings.engines import OWN, Engine, EngineName, PlainEngine, find_settings
from tailforge.schemas.settings.fields import (
    FolderName,
    ModelSource,
    Name,
    Place,
    Seed,
    Share,
    Strict,
    Text,
    look,
    refuse_alike,
)
from tailforge.schemas.settings.inversion import TeacherSource
from tailforge.schemas.settings.licences import UNKNOWN, AnyLicence, OtherLicence, PhotographsLicence
from tailforge.schemas.settings.output import Augmentation, Sharding
from tailforge.schemas.settings.pipelines import PipelineSource
from tailforge.schemas.settings.prompts import SLOT, Prompts, check_template
from tailforge.schemas.settings.quality import Quality
from tailforge.schemas.training.generator import Adaptation, AdaptedSource

CONCEPT_KEYS = {"wanted": "requested"}  # old keys of a concept and their new names
MOST_WANTED, MOST_IMAGES = 1_000_000, 10_000_000  # requested images per concept, and per recipe
MASK_VALUES = 254  # categories of an indexed mask, without background and ignore

Split = Literal["train", "validation", "test"]


def _old_keys_too(made: dict[str, Any]) -> None:
    """Let the JSON schema of a concept accept old keys, which editors then strike through."""
    for old, new in CONCEPT_KEYS.items():
        made["properties"][old] = made["properties"][new] | {"deprecated": True}
        made["required"].remove(new)
        made["oneOf"] = [{"required": [new]}, {"required": [old]}]


class Concept(Strict):
    """One thing to make images of. Its position in the recipe is its class."""

    model_config = ConfigDict(json_schema_extra=_old_keys_too)

    name: Name = Field(
        max_length=64,
        pattern=r"^[^\W_][\w -]*$",
        description="Class name: a letter or digit, then letters, digits, spaces, - and _.",
    )
    # Stored recipes say `wanted`, the key of older recipes.
    wanted: int = Field(
        ge=1,
        le=MOST_WANTED,
        validation_alias=AliasChoices("requested", "wanted"),
        description="Number of requested images; with allocation by gain the number at which a concept gets no more.",
    )
    synonyms: tuple[Name, ...] = Field((), description="Further words for the concept in prompts.")
    templates: tuple[Text, ...] | None = Field(None, description="Own templates instead of those of `prompts`.")
    references: Place | None = Field(
        None,
        description="Folder of reference photographs and nothing else, relative to the recipe. Engines that search, "
        "near_duplicates.against_references and quality.scorer use them.",
    )


def _kind_of_source(data: object) -> str:
    """Return "adapted" for a base with its adaptation, "teacher" for keys that only a teacher has, else "pipeline"."""
    given = set(data) if isinstance(data, dict) else data.model_fields_set if isinstance(data, Strict) else set()
    if given & set(AdaptedSource.model_fields):
        return "adapted"
    return "teacher" if given & set(TeacherSource.model_fields) - set(ModelSource.model_fields) else "pipeline"


GeneratorSource = Annotated[
    Annotated[PipelineSource, Tag("pipeline")]
    | Annotated[TeacherSource, Tag("teacher")]
    | Annotated[AdaptedSource, Tag("adapted")],
    Discriminator(_kind_of_source),
]


class Recipe(Strict):
    """A complete description of a dataset's content."""

    name: FolderName = Field(description="Dataset name: lower case letters, digits, - and _.")
    description: Text = Field(description="Short description of the dataset, for the card.")
    license: AnyLicence = Field(
        "CC-BY-4.0",
        description="SPDX identifier of the published dataset's licence, such as CC0-1.0; another licence, or several, "
        "as {name: ..., url: ...}.",
    )
    references_license: PhotographsLicence = Field(
        UNKNOWN, description="Licence of the reference photographs of all concepts, as that of images; or unknown."
    )
    creator: Text = Field("Tailforge", description="Person or organisation that publishes the dataset.")
    seed: Seed = Field(description="Master seed. Another seed leads to other images.")
    concepts: tuple[Concept, ...] = Field(min_length=1, description="Concepts in the order of their classes.")
    splits: Mapping[Split, Share] = Field(
        {"train": 1.0}, description="Share of each split; they sum to 1. A sample's id alone decides its split."
    )
    prompts: Prompts = Field(Prompts(), description="Prompts for text-to-image generators.")
    generator: GeneratorSource | None = Field(
        None,
        description="Source of the images: a text-to-image pipeline, a base that the build first adapts to images, or "
        "a classifier for engine natural_inversion. Engines copy_paste, cut_paste and noise_texture take none.",
    )
    engine: Engine = Field(PlainEngine(), description="Way of making images. A name alone stands for its defaults.")
    annotation: Annotation = Field(Annotation(), description="Masks, boxes and their scores.")
    quality: Quality = Field(Quality(), description="Gates, near duplicates and rounds.")
    # Not written if uniform, so that a version of an older release has the same recipe still.
    allocation: Allocation = Field(
        UniformAllocation(),
        exclude_if=lambda allocation: not allocation.steers,
        description="Concepts that images go to: as requested, or where they raise recall.",
    )
    augmentation: Augmentation | None = Field(None, description="Changes of accepted images; null: none.")
    sharding: Sharding = Field(Sharding(), description="Files of a published version.")
    partition_size: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Samples per partition, the unit of work and resume; a multiple of the engine's batch_size. By "
        "default one batch for an engine that searches, otherwise 64 rounded up to whole batches. Not for "
        "natural_inversion, whose partitions are its runs.",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_follow_the_engine(cls, data: Any) -> Any:
        """Set the engine's defaults of annotation.kind and quality.near_duplicates."""
        chosen = data.get("engine") if isinstance(data, dict) else None
        settings = find_settings(chosen.get("kind") if isinstance(chosen, dict) else chosen)
        defaults: dict[str, dict[str, Any]] = {}
        if settings and settings.annotation_kind is not None:
            defaults["annotation"] = {"kind": settings.annotation_kind}
        if settings and settings.keeps_near_duplicates:
            defaults["quality"] = {"near_duplicates": None}

        # What the recipe itself says comes first.
        for name, own in defaults.items():
            if isinstance(given := data.get(name, {}), dict):
                data = data | {name: own | given}
        return data

    @field_validator("engine", mode="wrap", json_schema_input_type=Engine | EngineName)
    @classmethod
    def _engine_by_name(cls, chosen: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        """Read an engine from its name or its settings, also an engine that `add_settings` registered."""
        if isinstance(chosen, str):
            chosen = {"kind": chosen}
        chosen = {"kind": "plain"} | chosen if isinstance(chosen, dict) else chosen
        settings = find_settings(chosen["kind"] if isinstance(chosen, dict) else getattr(chosen, "kind", None))
        return handler(chosen) if settings is None or settings in OWN else settings.model_validate(chosen)

    @field_validator("concepts")
    @classmethod
    def _distinct_concepts(cls, concepts: tuple[Concept, ...], info: ValidationInfo) -> tuple[Concept, ...]:
        names = [concept.name.lower() for concept in concepts]
        if len(names) > MASK_VALUES:
            raise ValueError(f"{len(names)} concepts; an indexed mask holds {MASK_VALUES} at most")
        if (images := sum(concept.wanted for concept in concepts)) > MOST_IMAGES:
            raise ValueError(f"{count_of(images, 'image')} requested in all; a recipe makes {MOST_IMAGES:,} at most")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"concepts named twice: {shorten(', '.join(twice))}")
        refuse_alike([concept.name for concept in concepts], "concepts", info)
        return concepts

    @field_validator("splits")
    @classmethod
    def _shares_sum_to_one(cls, splits: Mapping[str, float]) -> Mapping[str, float]:
        if abs(sum(splits.values()) - 1) > 1e-6:
            raise ValueError(f"shares sum to {sum(splits.values()):g}; they must sum to 1")
        return splits

    @model_validator(mode="after")
    def _partitions_hold_whole_batches(self) -> "Recipe":
        if self.partition_size is not None:
            self.engine.check_partitions(self.partition_size, self.engine.batch_size)
        return self

    @model_validator(mode="after")
    def _engine_fits(self) -> "Recipe":
        kind = self.engine.kind
        if self.generator is None and self.engine.needs_generator:
            raise ValueError(f"generator: is missing; add it, engine {kind} makes the images with it")
        if self.generator is not None and not self.engine.needs_generator:
            raise ValueError(f"generator: engine {kind} draws without one; leave it out")
        self.engine.check(self)
        self.allocation.check(self)
        return self

    @property
    def photographs(self) -> dict[str, str | OtherLicence]:
        """Return the licence of the photographs by their use. `USES` of schemas/settings/licences.py names the keys."""
        found: dict[str, str | OtherLicence] = {}
        if self.adaptation is not None:
            found["training"] = self.adaptation.images.license
        if any(concept.references is not None for concept in self.concepts):
            found["references"] = self.references_license
        return found | dict(self.allocation.photographs) | dict(self.engine.photographs)

    @property
    def names_classifier(self) -> bool:
        """Return whether the generator has keys that only a classifier has."""
        return isinstance(self.generator, TeacherSource)

    @property
    def annotator(self) -> ModelSource | None:
        """Return the text-to-image model of renoised attention; None for the other kinds of annotation."""
        return (self.annotation.model or self.source) if self.annotation.kind == "renoised_attention" else None

    @property
    def adaptation(self) -> Adaptation | None:
        """Return the training of the generator in the build; None for a generator that is used as it is."""
        return self.generator.adapt if isinstance(self.generator, AdaptedSource) else None

    @property
    def source(self) -> ModelSource | None:
        """Return the generator, or the base of one that the build adapts; None for a new network or no generator."""
        return self.generator.base if isinstance(self.generator, AdaptedSource) else self.generator

    @property
    def teacher(self) -> TeacherSource:
        """Return the generator as a classifier. The model itself completes missing settings."""
        assert self.generator is not None
        return TeacherSource.model_validate(self.generator.model_dump())

    @property
    def guide(self) -> ModelSource | None:
        """Return the generator for the unconditional half of guidance; None: the recipe's own."""
        return self.engine.models(self.quality.scorer).get("guide")

    @property
    def encoder(self) -> ModelSource | None:
        """Return the encoder of an engine that searches; None for other engines."""
        return self.engine.models(self.quality.scorer).get("encoder")

    @property
    def samples_per_partition(self) -> int:
        """Return `partition_size` or its default."""
        return self.partition_size or self.engine.partition_rows(self.engine.batch_size)

    @model_validator(mode="after")
    def _soft_maps_fit(self) -> "Recipe":
        if self.sharding.attention and self.augmentation is not None:
            raise ValueError(
                "sharding.attention ships soft maps, which do not fit augmented images; leave out one of both"
            )
        return self

    @model_validator(mode="after")
    def _noise_is_chosen(self) -> "Recipe":
        if self.sharding.noise and not self.engine.chooses_noise:
            raise ValueError(
                f"sharding.noise ships what a searching engine chose, but engine {self.engine.kind}, as it is set, "
                "takes its noise from the sample's seed; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _slots_are_known(self) -> "Recipe":
        """Refuse templates without {concept}, with stray braces or with unknown slots."""
        own = [template for concept in self.concepts for template in concept.templates or ()]
        for template in [*self.prompts.templates, *own]:
            check_template(template, self.prompts.attributes)
        return self

    @model_validator(mode="after")
    def _masked_slots_are_filled(self) -> "Recipe":
        """Refuse masked slots that no template has, their unusable values, and too many categories."""
        known = {"concept"} | {slot for template in self.used_templates for slot in SLOT.findall(template)} - {"a"}
        for name in self.annotation.slots:
            if name not in known:
                literal = [SLOT.sub("", template) for template in self.used_templates]
                advice = explain_slot(name, known, self.prompts.attributes, literal, self._concept_words)
                raise ValueError(
                    f"annotation.things and annotation.stuff name slots of the prompts, and {show(name)} is none: "
                    f"{advice}; slots are: {', '.join(sorted(known))}"
                )

            for value in self.prompts.attributes.get(name, ()):
                thing, is_concept = name in self.annotation.things, look(value) in self._concept_words
                if problem := refuse_value(name, value, thing, is_concept):
                    raise ValueError(problem)

        if len(self.categories) > MASK_VALUES:
            raise ValueError(
                f"annotation.things and annotation.stuff bring the masks to {len(self.categories)} categories; an "
                f"indexed mask holds {MASK_VALUES} at most: leave a slot out, or values of it"
            )
        return self

    @property
    def used_templates(self) -> tuple[str, ...]:
        """Return the concepts' own templates, and those of `prompts` if a concept has none."""
        own = [each for concept in self.concepts for each in concept.templates or ()]
        shared = any(concept.templates is None for concept in self.concepts)
        return (*(self.prompts.templates if shared else ()), *own)

    @cached_property
    def categories(self) -> tuple[Category, ...]:
        """Return the meanings of a mask's values, from value 1: the concepts, then other things, then stuff."""
        found = [Category(name=concept.name) for concept in self.concepts]
        known = set(self._concept_words)
        for slot in self.annotation.slots:
            for value in self.prompts.attributes.get(slot, ()):
                if look(value) not in known:
                    known.add(look(value))
                    found.append(Category(name=value, thing=slot in self.annotation.things))
        return tuple(found)

    def category_id(self, slot: str, value: str, concept: str) -> int:
        """Return the masks' value for the word `value` of a slot in a prompt about `concept`.

        A synonym stands for its concept. Errors: ValueError for a word without a category.
        """
        if slot == "concept":
            return self.class_id(concept) + 1
        name = self._concept_words.get(look(value), look(value))
        return [look(category.name) for category in self.categories].index(name) + 1

    @cached_property
    def _concept_words(self) -> dict[str, str]:
        """Return the concepts by their names and synonyms, all in the form of `look`. Names precede synonyms."""
        lexicon = {look(name): words for name, words in self.prompts.lexicon.items()}
        words: dict[str, str] = {look(concept.name): look(concept.name) for concept in self.concepts}
        for concept in self.concepts:
            for word in (*concept.synonyms, *lexicon.get(look(concept.name), ())):
                words.setdefault(look(word), look(concept.name))
        return words

    def class_id(self, concept: str) -> int:
        """Return the class of a concept, counted from 0. Its value in masks is one more, since 0 is background."""
        return [c.name for c in self.concepts].index(concept)


def read_stored_recipe(data: object, origin: str) -> Recipe:
    """Return the stored recipe of a published version, with unchanged names. Errors name `origin`.

    Errors: RecipeError with a line per mistake.
    """
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise refuse_recipe(error, Recipe, data, origin) from error


def parse_recipe(data: object, origin: str | Origin) -> Recipe:
    """Return the recipe in a loaded YAML document, with tidied names. Errors name `origin`, and lines if it has them.

    Errors: RecipeError with a line per mistake, also for names that look alike.
    """
    if not isinstance(data, dict):
        raise RecipeError(f"{origin}: a recipe is a mapping of keys to values; found {show(data)}, begin with `name:`")
    return read_authored(Recipe, data, origin)


def rename_old_keys(data: Any) -> list[str]:
    """Give the concepts of a recipe's data their new keys, in place; return "old is now called new" per old key."""
    concepts = data.get("concepts") if isinstance(data, dict) else None
    found: dict[str, str] = {}
    for concept in concepts if isinstance(concepts, list) else ():
        for old, new in CONCEPT_KEYS.items():
            if isinstance(concept, dict) and old in concept and new not in concept:
                concept[new] = concept.pop(old)
                found[old] = new
    return [f"the key {old} of concepts is now called {new}" for old, new in found.items()]

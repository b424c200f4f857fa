"""The recipe: one frozen model of everything that decides what a dataset holds. Unknown keys are refused.

What is here is a choice; what the choices do is in tasks/methods. Field descriptions are the reference documentation
(docs/reference/recipe.md is generated from them).
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
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
from tailforge.schemas.documents.shown import count_of, shorten, show
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.engines import OWN, Engine, PlainEngine, find_settings
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
from tailforge.schemas.settings.licences import AnyLicence
from tailforge.schemas.settings.output import Augmentation, Sharding
from tailforge.schemas.settings.prompts import Prompts
from tailforge.schemas.settings.quality import Annotation, Category, Quality

SLOT = re.compile(r"\{([a-z_]+)\}")
MOST_WANTED, MOST_IMAGES = 1_000_000, 10_000_000  # of a concept, and of a recipe
MASK_VALUES = 254  # of an indexed mask, without background and ignore

Split = Literal["train", "validation", "test"]


class Concept(Strict):
    """One thing that images are wanted of; its position in the recipe is its class."""

    name: Name = Field(
        max_length=64,
        pattern=r"^[^\W_][\w -]*$",
        description="Class name: a letter or digit, then letters, digits, spaces, - and _.",
    )
    wanted: int = Field(ge=1, le=MOST_WANTED, description="How many accepted images.")
    synonyms: tuple[Name, ...] = Field((), description="Other words for it that prompts may use.")
    templates: tuple[Text, ...] | None = Field(None, description="Templates in place of those of `prompts`.")
    references: Place | None = Field(
        None,
        description="Folder of reference photographs, relative to the recipe; nothing else may be in it. Read by "
        "engines that search, by near_duplicates.against_references and with quality.scorer.",
    )


def _kind_of_source(data: object) -> str:
    """Tag of a generator that is given with what only a teacher has, or without."""
    given = set(data) if isinstance(data, dict) else data.model_fields_set if isinstance(data, ModelSource) else set()
    return "teacher" if given & set(TeacherSource.model_fields) - set(ModelSource.model_fields) else "pipeline"


GeneratorSource = Annotated[
    Annotated[ModelSource, Tag("pipeline")] | Annotated[TeacherSource, Tag("teacher")], Discriminator(_kind_of_source)
]


class Recipe(Strict):
    """A dataset to be: everything that decides its contents."""

    name: FolderName = Field(description="Dataset name: lower case letters, digits, - and _.")
    description: Text
    license: AnyLicence = Field(
        "CC-BY-4.0",
        description="SPDX identifier of the published dataset's licence, such as CC0-1.0; another licence, or several, "
        "as {name: ..., url: ...}.",
    )
    creator: Text = "Tailforge"
    seed: Seed = Field(description="Master seed: another seed gives other images.")
    concepts: tuple[Concept, ...] = Field(min_length=1)
    splits: Mapping[Split, Share] = Field(
        {"train": 1.0}, description="Shares; a sample's split follows from its id alone."
    )
    prompts: Prompts = Prompts()
    generator: GeneratorSource = Field(
        description="What draws: a text-to-image pipeline, or the classifier that engine natural_inversion inverts."
    )
    engine: Engine = Field(PlainEngine(), description="How images are made; a name alone takes its defaults.")
    annotation: Annotation = Annotation()
    quality: Quality = Quality()
    augmentation: Augmentation | None = None
    sharding: Sharding = Sharding()
    partition_size: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Samples a partition, the unit of work and resume: whole batches of the engine. By default one "
        "batch of an engine that searches, and of the others the batches that make 64 samples. Not for "
        "natural_inversion, whose partitions are its runs.",
    )

    @model_validator(mode="before")
    @classmethod
    def _annotation_follows_the_engine(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        chosen, annotation = data.get("engine"), data.get("annotation", {})
        settings = find_settings(chosen.get("kind") if isinstance(chosen, dict) else chosen)
        kind = settings.annotation_kind if settings else None
        if kind is None or not isinstance(annotation, dict):
            return data
        return data | {"annotation": {"kind": kind} | annotation}

    @field_validator("engine", mode="wrap")
    @classmethod
    def _engine_by_name(cls, chosen: Any, handler: ValidatorFunctionWrapHandler) -> Any:
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
            raise ValueError(f"{count_of(images, 'image')} wanted in all; a recipe makes {MOST_IMAGES:,} at most")
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
        self.engine.check(self)
        return self

    @property
    def names_classifier(self) -> bool:
        """Whether the generator is described as only a classifier is."""
        return isinstance(self.generator, TeacherSource)

    @property
    def annotator(self) -> ModelSource | None:
        """The text-to-image model that is asked where the concepts are; None where maps come with the images."""
        return (self.annotation.model or self.generator) if self.annotation.kind == "renoised_attention" else None

    @property
    def teacher(self) -> TeacherSource:
        """The generator as a classifier; what the recipe does not say of it is read from the model."""
        return TeacherSource.model_validate(self.generator.model_dump())

    @property
    def guide(self) -> ModelSource | None:
        """The generator that an engine takes the unconditional half of guidance from; None: from the recipe's own."""
        return self.engine.models(self.quality.scorer).get("guide")

    @property
    def encoder(self) -> ModelSource | None:
        """The encoder of an engine that searches; None for the others."""
        return self.engine.models(self.quality.scorer).get("encoder")

    @property
    def samples_per_partition(self) -> int:
        """`partition_size`, or its default."""
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
        own = [template for concept in self.concepts for template in concept.templates or ()]
        for template in [*self.prompts.templates, *own]:
            slots = SLOT.findall(template)
            if "concept" not in slots:
                raise ValueError(f"template {show(template)} has no {{concept}} slot")
            if set("{}") & set(SLOT.sub("", template)):
                raise ValueError(f"template {show(template)} has a brace that is no slot; slots are {{lower_case}}")
            if unknown := sorted(set(slots) - {"concept", "a"} - set(self.prompts.attributes)):
                raise ValueError(
                    f"template {show(template)} uses {{{shorten(unknown[0])}}}, which prompts.attributes does not "
                    "define"
                )
        return self

    @model_validator(mode="after")
    def _masked_slots_are_filled(self) -> "Recipe":
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
        """Templates of the concepts' own, and those of `prompts` where a concept has none of its own."""
        own = [each for concept in self.concepts for each in concept.templates or ()]
        shared = any(concept.templates is None for concept in self.concepts)
        return (*(self.prompts.templates if shared else ()), *own)

    @cached_property
    def categories(self) -> tuple[Category, ...]:
        """What values of a mask mean, value 1 first: the concepts, then other things, then stuff."""
        found = [Category(name=concept.name) for concept in self.concepts]
        known = set(self._concept_words)
        for slot in self.annotation.slots:
            for value in self.prompts.attributes.get(slot, ()):
                if look(value) not in known:
                    known.add(look(value))
                    found.append(Category(name=value, thing=slot in self.annotation.things))
        return tuple(found)

    def category_id(self, slot: str, value: str, concept: str) -> int:
        """Value in the masks of what a slot of a prompt about `concept` holds; a word for a concept means that one."""
        if slot == "concept":
            return self.class_id(concept) + 1
        name = self._concept_words.get(look(value), look(value))
        return [look(category.name) for category in self.categories].index(name) + 1

    @cached_property
    def _concept_words(self) -> dict[str, str]:
        """Concept by each word that the recipe has for it, as `look` tells them; a concept's own name goes first."""
        lexicon = {look(name): words for name, words in self.prompts.lexicon.items()}
        words: dict[str, str] = {look(concept.name): look(concept.name) for concept in self.concepts}
        for concept in self.concepts:
            for word in (*concept.synonyms, *lexicon.get(look(concept.name), ())):
                words.setdefault(look(word), look(concept.name))
        return words

    def class_id(self, concept: str) -> int:
        """Class of a concept, from 0, in the recipe's order. In masks the value is one more: 0 is background."""
        return [c.name for c in self.concepts].index(concept)


def read_stored_recipe(data: object, origin: str) -> Recipe:
    """The recipe of a published version as it was stored: names stay as its samples have them.

    Errors: RecipeError as `parse_recipe`.
    """
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise refuse_recipe(error, Recipe, data, origin) from error


def parse_recipe(data: object, origin: str) -> Recipe:
    """Validate a loaded YAML document; names are tidied, what looks alike is refused. `origin` is named in errors.

    Errors: RecipeError that lists every wrong field with what was found.
    """
    if not isinstance(data, dict):
        raise RecipeError(f"{origin}: a recipe is a mapping of keys to values; found {show(data)}, begin with `name:`")
    return read_authored(Recipe, data, origin)

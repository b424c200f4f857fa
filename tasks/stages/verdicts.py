"""Stage `verdicts`: scores of every image, and whether the gates with absolute bounds accept it."""

from dataclasses import dataclass
from typing import Any

from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import BuildContext, PartitionJob
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.fields import ModelSource
from tailforge.schemas.tables import VERDICTS
from tailforge.tasks.artifacts.contract import Address, digest
from tailforge.tasks.artifacts.stage import Stage

SOURCE = set(ModelSource.model_fields)  # keys that locate a model; addresses hold its digest instead
VERIFIER = "quality.verifier"


@dataclass(frozen=True)
class Rule:
    """The parts of an address that decide verdicts, without the images."""

    settings: dict[str, Any]
    inputs: dict[str, str]
    models: dict[str, str]


def locate(job: PartitionJob, samples: Receipt, masks: Receipt) -> Address:
    """Return the address of one partition's VERDICTS. Quantiles, quotas and near duplicates do not change it."""
    rule = describe_rule(job, is_augmented=False)
    inputs = {"samples": samples.sha256, "masks": masks.sha256, **rule.inputs}
    return Address(STAGE, part=job.part, label=job.label, settings=rule.settings, inputs=inputs, models=rule.models)


def describe_rule(job: PartitionJob, *, is_augmented: bool) -> Rule:
    """Return the gates and models that judge a partition's images, or its augmented images."""
    recipe, scorer, verifier = job.build.recipe, job.build.scorer, job.build.verifier
    references = job.build.references.get(job.concept, ())
    teacher = job.build.generator if needs_teacher(recipe, is_augmented=is_augmented) else None
    source, models = recipe.quality.verifier, {"scorer": scorer, "verifier": verifier, "teacher": teacher}
    bounds = {name: gate.model_dump(include={"min", "max"}) for name, gate in recipe.quality.gates.items()}
    sharding = recipe.sharding

    return Rule(
        settings={
            "gates": {name: bound for name, bound in bounds.items() if set(bound.values()) != {None}},
            "concept": job.concept if scorer or verifier or teacher else None,
            "concepts": [concept.name for concept in recipe.concepts] if scorer else None,
            **({} if source is None else {"verifier": source.model_dump(mode="json", exclude=SOURCE)}),
            **({"jpeg_quality": sharding.jpeg_quality} if sharding.image_format == "jpg" else {}),
        },
        inputs={"references": digest(list(references))} if scorer and references else {},
        models={role: model.digest for role, model in models.items() if model},
    )


def needs_teacher(recipe: Recipe, *, is_augmented: bool) -> bool:
    """Return whether the teacher judges the image again. Its recorded agreement holds for unchanged pixels only."""
    return recipe.engine.inverts and (is_augmented or recipe.sharding.image_format == "jpg")


def describe_gates(build: BuildContext) -> str:
    """Return 12 hex digits of the sha256 of the absolute gates and the scoring models.

    Estimates count accepted images over verdicts with equal digits.
    """
    quality, models = build.recipe.quality, {"scorer": build.scorer, "verifier": build.verifier}
    bounds = {name: gate.model_dump(include={"min", "max"}) for name, gate in quality.gates.items()}
    return digest([bounds, {role: model.digest for role, model in models.items() if model}])[:12]


STAGE = Stage(
    name="verdicts",
    version="7",
    schema=VERDICTS,
    costing=("gates", "verifier"),
    locate=locate,
    produce=when_called("tasks.stages.work.verdicts", "produce"),
)

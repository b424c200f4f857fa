"""Judge images by gates and models, for stage `verdicts`."""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from tailforge.schemas.jobs import PartitionJob, ResolvedModel
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Concept
from tailforge.schemas.tables import VERDICTS
from tailforge.tasks.artifacts.contract import Made, read_table
from tailforge.tasks.artifacts.stage import Workplace
from tailforge.tasks.methods.inpainting.change import UNDRAWN
from tailforge.tasks.methods.masks.concept_region import bound_concept, keeps_concept
from tailforge.tasks.methods.packing.members import decode_published
from tailforge.tasks.methods.quality.clip_scores import Vectors
from tailforge.tasks.methods.quality.judge_images import CONCEPT_LOST, NOTHING_DRAWN, Item, Verify, judge_images
from tailforge.tasks.methods.quality.verify_labels import label_probabilities
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.models.clip import load_clip
from tailforge.tasks.models.teacher import ROLE as TEACHER
from tailforge.tasks.models.teacher import load_verifier
from tailforge.tasks.report.provenance import read_origin
from tailforge.tasks.stages.prompts import find_concept
from tailforge.tasks.stages.verdicts import VERIFIER, describe_gates, needs_teacher
from tailforge.tasks.stages.work.aims import read_references

SAMPLE_COLUMNS = ["sample_id", "prompt", "status", "error", "image", "provenance"]
MASK_COLUMNS = ["mask_area", "mask_confidence", "instances", "error"]
Row = Mapping[str, Any]


def produce(workplace: Workplace, job: PartitionJob, samples: Receipt, masks: Receipt) -> Made:
    """Make the VERDICTS of one partition. Errors: RecipeError for changed references; ModelError, StoreError."""
    store, clock = workplace.store, Clock()
    rows = read_table(store, samples, SAMPLE_COLUMNS).to_pylist()
    annotated = read_table(store, masks, MASK_COLUMNS).to_pylist()
    items = [make_item(row, mask) for row, mask in zip(rows, annotated, strict=True)]

    judged = judge_items(job, items, clock, is_augmented=False)
    details = {"gates": describe_gates(job.build), "drawn": samples.effort.like if samples.effort else None}
    return Made(pa.Table.from_pylist(judged, VERDICTS), clock.seconds, details)


def judge_items(job: PartitionJob, items: Sequence[Item], clock: Clock, *, is_augmented: bool) -> list[dict[str, Any]]:
    """Return the rows of VERDICTS of some images of the partition's concept, in their published form.

    Errors: RecipeError for changed references; ModelError.
    """
    recipe = job.build.recipe
    with clock.phase("load"):
        scorer = load_clip(job.build.scorer) if job.build.scorer else None
        verify = _load_verify(job)
        agree = _load_teacher(job) if needs_teacher(recipe, is_augmented=is_augmented) else None
    with clock.phase("compute"):
        concepts = [concept.name for concept in recipe.concepts]
        references = _embed_own_references(job)
        decode = partial(decode_published, sharding=recipe.sharding)
        gates = recipe.quality.gates
        return judge_images(items, gates, job.concept, concepts, scorer, references, verify, agree, decode)


def make_item(sample: Row, mask: Row, augmented: Row | None = None) -> Item:
    """Return the image and known scores of a sample, or of an augmented image of it.

    `sample` holds SAMPLE_COLUMNS, `mask` MASK_COLUMNS, `augmented` the columns of AUGMENTED without verdict.
    """
    shown = augmented or {**sample, "mask_area": mask["mask_area"], "instances": mask["instances"]}
    if augmented:
        lost = None if keeps_concept(mask["mask_area"], shown["mask_area"]) else CONCEPT_LOST
    else:
        lost = NOTHING_DRAWN if (mask["error"] or "").startswith(UNDRAWN) else None
    return Item(
        shown["sample_id"],
        sample["prompt"],
        shown["image"],
        sample["error"],
        shown["mask_area"],
        mask["mask_confidence"],
        bound_concept(shown["instances"]),
        None if augmented else read_origin(sample["provenance"]).get("teacher_agreement"),
        lost,
    )


def _load_teacher(job: PartitionJob) -> Verify:
    """Return the function that gives the teacher's probability of the concept. Errors: ModelError."""
    build = job.build
    assert build.teacher is not None
    teacher = load_verifier(
        build.require_generator(), build.recipe.teacher, Path(build.folder) if build.folder else None, TEACHER
    )
    return partial(label_probabilities, teacher, label=build.teacher.labels[job.concept])


def _load_verify(job: PartitionJob) -> Verify | None:
    """Return the function that gives the verifier's probability of the concept; None without a verifier.

    Errors: ModelError.
    """
    build, source = job.build, job.build.recipe.quality.verifier
    if source is None or build.verifier is None:
        return None
    verifier = load_verifier(build.verifier, source, Path(build.folder) if build.folder else None, VERIFIER)
    return partial(label_probabilities, verifier, label=verifier.label(job.concept, by_place=False))


def _embed_own_references(job: PartitionJob) -> Vectors | None:
    """Return the unit vectors of the concept's photographs; None without a scorer or photographs."""
    scorer, digests = job.build.scorer, job.build.references.get(job.concept)
    if scorer is None or not digests:
        return None
    return embed_references(scorer, job.build.folder, find_concept(job.build, job.concept), digests)


@lru_cache(maxsize=16)
def embed_references(scorer: ResolvedModel, folder: str | None, concept: Concept, digests: tuple[str, ...]) -> Vectors:
    """Return the unit vectors of a concept's photographs, [photographs, D], computed once per process.

    Errors: RecipeError for changed photographs; ModelError.
    """
    return load_clip(scorer).embed_images(read_references(folder, concept, digests))

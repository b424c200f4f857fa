"""Stage `selection`: the last word on every sample of a build so far, which needs all verdicts at once."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from prefect import task
from pydantic import BaseModel, ConfigDict

from catalog.reference_files import open_references, show_rgb
from catalog.store import Store
from schemas.jobs import BuildContext
from schemas.quality import GATES
from schemas.receipts import Receipt
from schemas.review import Review
from schemas.tables import SELECTION
from tasks.artifacts import Address, Stage, digest, read_table, run_once
from tasks.built_partitions import BuiltPartition
from tasks.methods.image_scores import perceptual_hash
from tasks.methods.quality_gates import Candidate, select
from tasks.prefect_options import STAGE_TASK
from tasks.reviewed_samples import held_reviews

STAGE = Stage("selection", "2", SELECTION)
ORDER_COLUMNS = ["replica", "prompt_index"]
VERDICT_COLUMNS = ["sample_id", *GATES, "phash", "reason"]


class JudgedPartition(BaseModel):
    """A partition whose verdicts are in; SELECTION's `partition` is its index in the list of these."""

    model_config = ConfigDict(frozen=True, extra="ignore", from_attributes=True)

    concept: str
    attempt: int
    samples: Receipt
    verdicts: Receipt
    parent: str | None = None
    reviews: tuple[Review, ...] = ()

    @property
    def decides(self) -> list[Any]:
        """What the selection follows from."""
        known = [self.concept, self.attempt, self.verdicts.sha256]
        reviews = [[review.model_dump() for review in self.reviews]] if self.reviews else []
        return [*known, *([] if self.parent is None else [self.parent]), *reviews]


def locate(build: BuildContext, partitions: Sequence[Mapping[str, Any] | BuiltPartition]) -> Address:
    """Address of the selection over these partitions (or as `select_samples` takes them), in this order."""
    judged = [JudgedPartition.model_validate(partition) for partition in partitions]
    recipe, quality = build.recipe, build.recipe.quality
    against_references = quality.near_duplicates is not None and quality.near_duplicates.against_references
    return Address(
        STAGE,
        part=0,
        label=f"selection of {recipe.name}",
        settings={
            "wanted": [[concept.name, concept.wanted] for concept in recipe.concepts],
            "splits": [list(entry) for entry in recipe.splits.items()],
            "quantiles": {
                name: gate.model_dump(include={"min_quantile", "max_quantile"})
                for name, gate in quality.gates.items()
                if gate.min_quantile is not None or gate.max_quantile is not None
            },
            "near_duplicates": quality.near_duplicates and quality.near_duplicates.model_dump(),
            "references": dict(build.references) if against_references else {},
        },
        inputs={"verdicts": digest([part.decides for part in judged])},
    )


@task(task_run_name="select samples", **STAGE_TASK)
def select_samples(build: dict[str, Any], partitions: list[dict[str, Any]]) -> dict[str, Any]:
    """Decide on all samples and return the receipt of SELECTION.

    A partition is {"concept", "attempt", "samples": receipt, "verdicts": receipt}; more keys are ignored.
    Errors: RecipeError for reference photographs that are gone, StoreError.
    """
    context = BuildContext.model_validate(build)
    judged = [JudgedPartition.model_validate(partition) for partition in partitions]
    store = Store.open(context.store)
    return run_once(store, locate(context, partitions), lambda: select_rows(store, context, judged)).model_dump(
        mode="json"
    )


def select_rows(store: Store, build: BuildContext, partitions: Sequence[JudgedPartition]) -> pa.Table:
    """SELECTION of the partitions: a row a sample, in the order of the partitions."""
    tables = [load_candidates(store, partition) for partition in partitions]
    candidates = [candidate for own in tables for candidate in own]
    choices = select(build.recipe, candidates, hash_references(build))
    places = [(index, row) for index, own in enumerate(tables) for row in range(len(own))]
    rows = [
        {
            "sample_id": candidate.sample_id,
            "concept": candidate.concept,
            "partition": partition,
            "row": row,
            "accepted": choice.reason is None,
            "reason": choice.reason,
            "split": choice.split,
        }
        for candidate, choice, (partition, row) in zip(candidates, choices, places, strict=True)
    ]
    return pa.Table.from_pylist(rows, SELECTION)


def accepted_rows(selection: pa.Table, partitions: int) -> list[list[int]]:
    """Accepted rows of each partition, rising, from a SELECTION table."""
    rows: list[list[int]] = [[] for _ in range(partitions)]
    for choice in selection.select(["partition", "row", "accepted"]).to_pylist():
        if choice["accepted"]:
            rows[choice["partition"]].append(choice["row"])
    return rows


def load_candidates(store: Store, partition: JudgedPartition) -> list[Candidate]:
    """The samples of one partition as the selection sees them; images are read only where a person decided."""
    verdicts = read_table(store, partition.verdicts, VERDICT_COLUMNS).to_pylist()
    order = read_table(store, partition.samples, ORDER_COLUMNS).to_pylist()
    reviews = held_reviews(store, partition.samples, partition.reviews)
    return [
        Candidate(
            sample_id=row["sample_id"],
            concept=partition.concept,
            attempt=partition.attempt,
            replica=place["replica"],
            prompt_index=place["prompt_index"],
            phash=row["phash"],
            scores={name: row[name] for name in GATES},
            reason=row["reason"],
            parent=partition.parent,
            review=reviews.get(row["sample_id"]),
        )
        for row, place in zip(verdicts, order, strict=True)
    ]


def hash_references(build: BuildContext) -> list[int]:
    """Hashes of all reference photographs, turned upright, where the recipe compares with them."""
    rule = build.recipe.quality.near_duplicates
    if rule is None or not rule.against_references or build.folder is None:
        return []
    found = (open_references(Path(build.folder), concept) for concept in build.recipe.concepts)
    return [perceptual_hash(np.asarray(show_rgb(each.image))) for each in chain.from_iterable(found)]

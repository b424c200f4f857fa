"""Stage `selection`: the decision on every sample of a build so far, over all verdicts at once."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tailforge.catalog.sources.references import open_references
from tailforge.catalog.store import Store
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.review import Review
from tailforge.schemas.tables import SELECTION
from tailforge.tasks.artifacts.contract import Address, Made, digest, read_table
from tailforge.tasks.artifacts.decisions import valid_reviews
from tailforge.tasks.artifacts.partitions import BuiltPartition
from tailforge.tasks.artifacts.stage import Stage, Workplace
from tailforge.tasks.images.sources import name_object
from tailforge.tasks.methods.allocation.preference import EASY
from tailforge.tasks.methods.quality.gates import CANDIDATES, quantile_bounds, quantile_names, select
from tailforge.tasks.methods.quality.pixel_scores import perceptual_hash
from tailforge.tasks.report.provenance import read_origin

ORDER_COLUMNS = ["replica", "prompt_index"]
VERDICT_COLUMNS = ["sample_id", "phash", "reason"]


class JudgedPartition(BaseModel):
    """A partition with verdicts. SELECTION's `partition` is its index in the list of these."""

    model_config = ConfigDict(frozen=True, extra="ignore", from_attributes=True)

    concept: str
    attempt: int
    samples: Receipt
    verdicts: Receipt
    parent: str | None = None
    reviews: tuple[Review, ...] = ()
    preferences: Receipt | None = None

    @property
    def decides(self) -> list[Any]:
        """Return everything of the partition that decides the selection."""
        known = [self.concept, self.attempt, self.verdicts.sha256]
        reviews = [[review.model_dump() for review in self.reviews]] if self.reviews else []
        preferred = [] if self.preferences is None else [["preferences", self.preferences.sha256]]
        return [*known, *([] if self.parent is None else [self.parent]), *reviews, *preferred]


def locate(build: BuildContext, partitions: Sequence[BuiltPartition]) -> Address:
    """Return the address of the selection over these partitions, in this order."""
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


def produce(workplace: Workplace, build: BuildContext, partitions: Sequence[BuiltPartition]) -> Made:
    """Make the SELECTION of all samples. Errors: RecipeError for missing reference photographs; StoreError."""
    judged = [JudgedPartition.model_validate(partition) for partition in partitions]
    return select_rows(workplace.store, build, judged)


def select_rows(store: Store, build: BuildContext, partitions: Sequence[JudgedPartition]) -> Made:
    """Return the SELECTION of the partitions: one row per sample, in the order of the partitions.

    Errors: RecipeError for missing reference photographs; StoreError.
    """
    scores = quantile_names(build.recipe)
    follows = build.recipe.engine.follows_sources
    tables = [load_candidates(store, partition, scores, follows_sources=follows) for partition in partitions]
    candidates = pa.concat_tables([_empty_candidates(scores), *tables]).combine_chunks()
    choices = select(build.recipe, candidates, hash_references(build))

    sizes = [table.num_rows for table in tables]
    decided = pa.table(
        {
            "sample_id": candidates["sample_id"],
            "concept": candidates["concept"],
            "partition": np.repeat(np.arange(len(sizes)), sizes),
            "row": np.concatenate([np.arange(0), *map(np.arange, sizes)]),
            "accepted": pc.is_null(choices["reason"]),
            "reason": choices["reason"],
            "split": choices["split"],
        }
    ).cast(SELECTION)
    return Made(decided, details={"bounds": describe_bounds(build.recipe, candidates)})


def describe_bounds(recipe: Recipe, candidates: pa.Table) -> dict[str, dict[str, list[float | None]]]:
    """Return the lowest and highest score by concept and gate, from the recipe's quantiles; None for no bound."""
    bounds = quantile_bounds(recipe, candidates)
    return {
        concept.name: {name: [_finite(side, place) for side in sides] for name, sides in bounds.items()}
        for place, concept in enumerate(recipe.concepts)
    }


def _finite(bounds: NDArray[np.float64] | None, place: int) -> float | None:
    """Return one of the bounds, [concepts]; None if it is not finite."""
    return None if bounds is None or not np.isfinite(bounds[place]) else float(bounds[place])


def accepted_rows(selection: pa.Table, partitions: int) -> list[list[int]]:
    """Return the accepted rows of each partition, rising, from a SELECTION table."""
    chosen = selection.select(["partition", "row"]).filter(selection["accepted"])
    chosen = chosen.sort_by([("partition", "ascending"), ("row", "ascending")])
    starts = np.searchsorted(chosen["partition"].to_numpy(), np.arange(1, partitions))
    return [rows.tolist() for rows in np.split(chosen["row"].to_numpy(), starts)] if partitions else []


def load_candidates(
    store: Store, partition: JudgedPartition, scores: Sequence[str], *, follows_sources: bool = False
) -> pa.Table:
    """Return the CANDIDATES of one partition, with some scores. It reads images only of reviewed samples.

    `follows_sources`: whether a sample's photograph decides its split. Errors: StoreError.
    """
    verdicts = read_table(store, partition.verdicts, [*VERDICT_COLUMNS, *scores])
    order = read_table(store, partition.samples, ORDER_COLUMNS)
    reviews = valid_reviews(store, partition.samples, partition.reviews)
    ids, rows = verdicts["sample_id"].to_pylist(), verdicts.num_rows
    marks = _read_marks(store, partition)
    sources = _read_sources(store, partition) if follows_sources else None
    known = {
        "concept": pa.repeat(partition.concept, rows),
        "attempt": pa.repeat(partition.attempt, rows),
        "parent": pa.repeat(pa.scalar(partition.parent, pa.string()), rows),
        "review": pa.array([reviews.get(each) for each in ids], pa.string()),
        "passed_over": pa.array([None if marks is None else marks.get(each, EASY) for each in ids], pa.string()),
        "source": pa.nulls(rows, pa.string()) if sources is None else sources["source"],
        "source_split": pa.nulls(rows, pa.string()) if sources is None else sources["split"],
    }
    columns = known | {name: table[name] for table in (verdicts, order) for name in table.column_names}
    schema = _empty_candidates(scores).schema
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)


def _read_marks(store: Store, partition: JudgedPartition) -> dict[str, str | None] | None:
    """Return why a steered build keeps an image (None) or not, by sample; None for another build."""
    if partition.preferences is None:
        return None
    table = read_table(store, partition.preferences, ["sample_id", "reason"])
    return dict(zip(table["sample_id"].to_pylist(), table["reason"].to_pylist(), strict=True))


def _read_sources(store: Store, partition: JudgedPartition) -> pa.Table:
    """Return what decides the split of each sample: `source`, its photograph's group or digest, and `split`."""
    texts = read_table(store, partition.samples, ["provenance"])["provenance"].to_pylist()
    found = [read_origin(text).get("source") or {} for text in texts]
    groups = [name_object(each.get("group"), each["sha256"]) if each else None for each in found]
    splits = [each.get("split") for each in found]
    return pa.table({"source": pa.array(groups, pa.string()), "split": pa.array(splits, pa.string())})


def _empty_candidates(scores: Sequence[str]) -> pa.Table:
    """Return a table of CANDIDATES with some scores, without rows."""
    return pa.schema([*CANDIDATES, *((name, pa.float64()) for name in scores)]).empty_table()


def hash_references(build: BuildContext) -> list[int]:
    """Return the perceptual hashes of all upright reference photographs; none if the recipe does not compare with them.

    Errors: RecipeError for missing photographs.
    """
    rule = build.recipe.quality.near_duplicates
    if rule is None or not rule.against_references or build.folder is None:
        return []
    found = (open_references(Path(build.folder), concept) for concept in build.recipe.concepts)
    return [perceptual_hash(np.asarray(each.image)) for each in chain.from_iterable(found)]


STAGE = Stage(
    name="selection",
    version="4",
    schema=SELECTION,
    costing=("near_duplicates",),
    locate=locate,
    produce=produce,
)

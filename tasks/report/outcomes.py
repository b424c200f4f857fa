"""Count the outcome of a build: images by concept and split, work by stage."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe

SURPLUS = "surplus"  # the reason of tasks/methods/quality/gates.py


@dataclass(frozen=True)
class ConceptRow:
    """Counts of one concept. `surplus` images passed every gate but exceed the requested number.

    `copies`: published augmented copies. Of all augmentations, `augmented` are published. `unaugmented` ones missed
    a gate or lost the concept: the copy was dropped, or the image stays without augmentation.

    `rate` is the share of images that passed every gate, None without images.
    """

    index: int
    name: str
    wanted: int
    accepted: int
    surplus: int
    rejected: int
    copies: int
    augmented: int = 0
    unaugmented: int = 0

    @property
    def missing(self) -> int:
        """Return the number of missing images."""
        return max(0, self.wanted - self.accepted)

    @property
    def rate(self) -> float | None:
        """Return the share of images that passed every gate; None without images."""
        passed = self.accepted + self.surplus
        return passed / (passed + self.rejected) if passed + self.rejected else None


@dataclass(frozen=True)
class StageRow:
    """Sums over one stage's receipts; `rate` is samples per second, None without a measured time."""

    name: str
    partitions: int
    samples: int
    seconds: float
    share: float

    @property
    def rate(self) -> float | None:
        """Return samples per second; None without a measured time."""
        return self.samples / self.seconds if self.seconds > 0 else None


def select_originals(samples: pa.Table) -> pa.Table:
    """Return the rows of a manifest or of rejects that are no augmented copies."""
    return samples.filter(pc.is_null(samples["parent_id"]))


def select_copies(samples: pa.Table) -> pa.Table:
    """Return the rows of a manifest or of rejects that are augmented copies."""
    return samples.filter(pc.is_valid(samples["parent_id"]))


def select_surplus(rejects: pa.Table) -> pa.Table:
    """Return the rows that passed every gate but exceed the requested number."""
    return rejects.filter(pc.equal(pc.fill_null(rejects["reason"], ""), SURPLUS))


def select_refused(rejects: pa.Table) -> pa.Table:
    """Return the rows that failed or missed a gate: rejects without surplus."""
    return rejects.filter(pc.not_equal(pc.fill_null(rejects["reason"], ""), SURPLUS))


def count_concepts(recipe: Recipe, manifest: pa.Table, rejects: pa.Table) -> list[ConceptRow]:
    """Return the image counts per concept, in the recipe's order."""
    originals = select_originals(rejects)
    augmentation, is_augmented = recipe.augmentation, pc.is_valid(manifest["augmentation"])
    in_place = augmentation is not None and not augmentation.copies
    tables = (
        select_originals(manifest), select_surplus(originals), select_refused(originals), select_copies(manifest),
        manifest.filter(is_augmented), manifest.filter(pc.invert(is_augmented)) if in_place else select_copies(rejects),
    )  # fmt: skip
    counts = [Counter(table["concept"].to_pylist()) for table in tables]
    return [ConceptRow(i, c.name, c.wanted, *(n[c.name] for n in counts)) for i, c in enumerate(recipe.concepts)]


def count_splits(recipe: Recipe, manifest: pa.Table) -> list[tuple[str, int, float]]:
    """Return per split its name, accepted images (without copies) and its exact share of the requested images."""
    counts = Counter(select_originals(manifest)["split"].to_pylist())
    wanted = sum(concept.wanted for concept in recipe.concepts)
    return [(name, counts[name], wanted * share) for name, share in recipe.splits.items() if share > 0]


def sum_timings(receipts: Sequence[Receipt]) -> list[StageRow]:
    """Return partitions, rows and seconds of work per stage, in order of first appearance."""
    total = sum(receipt.timings.get("compute", 0.0) for receipt in receipts)
    stages = []
    for name in dict.fromkeys(receipt.stage for receipt in receipts):
        own = [receipt for receipt in receipts if receipt.stage == name]
        seconds = sum(receipt.timings.get("compute", 0.0) for receipt in own)
        stages.append(StageRow(name, len(own), sum(r.rows for r in own), seconds, seconds / total if total else 0.0))
    return stages

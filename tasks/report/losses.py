"""Count lost images by concept and reason, and failures by cause."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.report.data import PartitionWork
from tailforge.tasks.report.outcomes import ConceptRow, select_originals, select_refused

ERROR = "error:"  # prefix of a failure's cause in the counts of a receipt
NAMED_PARTITIONS = 3
MEND_MEMORY = "set smaller engine.height and engine.width or a smaller generator, then use --failed-samples"
MEND_IMAGE = "tailforge rerun RECIPE --failed-samples; if it fails again, check generator, guidance and steps"
MEND_STAGE = "tailforge rerun RECIPE --stage {stage}; if it fails again, look at the message's cause"
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class LossRow:
    """Images of one concept: all images, images that passed every gate, and lost images by reason."""

    concept: str
    made: int
    passed: int
    lost: Mapping[str, int]

    @property
    def rate(self) -> float | None:
        """Return the share of images that passed; None without images."""
        return self.passed / self.made if self.made else None


@dataclass(frozen=True)
class FailureRow:
    """Images that failed in one stage for one cause, their first partitions, and what to do."""

    stage: str
    cause: str
    count: int
    partitions: tuple[str, ...]
    more: int
    mend: str


def count_losses(recipe: Recipe, concepts: Sequence[ConceptRow], rejects: pa.Table) -> list[LossRow]:
    """Return one row per concept of the recipe; all rows list the same reasons, most frequent first."""
    refused = select_refused(select_originals(rejects))
    names, reasons = refused["concept"].to_pylist(), name_reasons(refused)
    order = [reason for reason, _ in sorted(Counter(reasons).items(), key=lambda item: (-item[1], item[0]))]
    counts = Counter(zip(names, reasons, strict=True))
    return [
        LossRow(
            concept=row.name,
            made=row.accepted + row.surplus + row.rejected,
            passed=row.accepted + row.surplus,
            lost={reason: counts[row.name, reason] for reason in order},
        )
        for row in concepts
    ]


def name_reasons(rejects: pa.Table) -> list[str]:
    """Return the reason per row of REJECTS: "failed" for images that a stage could not make."""
    pairs = zip(rejects["reason"].to_pylist(), rejects["status"].to_pylist(), strict=True)
    return [reason or status or "unknown" for reason, status in pairs]


def count_failures(name: str, work: Sequence[PartitionWork]) -> list[FailureRow]:
    """Return failures by the stage where they first appear, most frequent first; `name` is the recipe's.

    Later stages repeat the error of a failed row, so the counts of earlier stages are subtracted. Failures that
    differ only
    in digests or in the partition's name count as one.
    """
    found: dict[tuple[str, str, bool], Counter[str]] = {}
    for partition in work:
        before: Counter[str] = Counter()
        for place, receipt in enumerate(partition.receipts):
            own = _count_errors(receipt)
            for text, count in (own - before).items():
                cause = name_cause(text, receipt.label)
                found.setdefault((receipt.stage, cause, place == 0), Counter())[receipt.label] += count
            before |= own
    rows = [_describe(name, stage, cause, labels, draws) for (stage, cause, draws), labels in found.items()]
    return sorted(rows, key=lambda row: (-row.count, row.stage, row.cause))


def name_cause(text: str, label: str) -> str:
    """Return an error's text without names of a partition or a sample."""
    return re.sub(r"\b[0-9a-f]{16,64}\b", "...", text.replace(label, "..."))


def choose_advice(stage: str, cause: str, *, draws: bool) -> str:
    """Return what to do against failures of a stage, which `draws` images or not. It names the recipe RECIPE."""
    if OUT_OF_MEMORY in cause:
        return MEND_MEMORY
    return MEND_IMAGE if draws else MEND_STAGE.format(stage=stage)


def _count_errors(receipt: Receipt) -> Counter[str]:
    errors = {name.removeprefix(ERROR): n for name, n in receipt.counts.items() if name.startswith(ERROR)}
    return Counter(errors)


def _describe(name: str, stage: str, cause: str, labels: Counter[str], draws: bool) -> FailureRow:
    shown = tuple(label for label, _ in sorted(labels.items(), key=lambda item: (-item[1], item[0])))
    mend = choose_advice(stage, cause, draws=draws).replace("RECIPE", name)
    named, more = shown[:NAMED_PARTITIONS], len(shown[NAMED_PARTITIONS:])
    return FailureRow(stage, cause, labels.total(), named, more, mend)

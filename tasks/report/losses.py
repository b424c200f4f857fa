"""Where images are lost: by concept and the reason for which they were left out, and failures by their cause."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.report.data import PartitionWork
from tailforge.tasks.report.outcomes import ConceptRow, select_originals, select_refused

ERROR = "error:"  # what the counts of a receipt call a failure's cause
NAMED_PARTITIONS = 3
MEND_MEMORY = "ask for a smaller engine.height and engine.width or a smaller generator, then --failed-samples"
MEND_IMAGE = "tailforge rerun RECIPE --failed-samples; if it fails again, check generator, guidance and steps"
MEND_STAGE = "tailforge rerun RECIPE --stage {stage}; if it fails again, look at the message's cause"
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class LossRow:
    """Images of one concept: all that were made, those that passed every gate, and the lost ones by reason."""

    concept: str
    made: int
    passed: int
    lost: Mapping[str, int]

    @property
    def rate(self) -> float | None:
        return self.passed / self.made if self.made else None


@dataclass(frozen=True)
class FailureRow:
    """Images that failed in one stage for one cause, the first partitions that hold them, and what to do."""

    stage: str
    cause: str
    count: int
    partitions: tuple[str, ...]
    more: int
    mend: str


def count_losses(recipe: Recipe, concepts: Sequence[ConceptRow], rejects: pa.Table) -> list[LossRow]:
    """A row a concept of the recipe; the reasons of every row are those of all, most frequent first."""
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
    """The reason of every row of REJECTS: "failed" for those that a stage could not make."""
    pairs = zip(rejects["reason"].to_pylist(), rejects["status"].to_pylist(), strict=True)
    return [reason or status or "unknown" for reason, status in pairs]


def count_failures(name: str, work: Sequence[PartitionWork]) -> list[FailureRow]:
    """Failures in the stage where each first appears, most frequent first; `name` is what the recipe is called.

    Later stages pass a failed row on with its error, so what an earlier stage of the partition counts is taken off.
    Failures whose texts differ in digests or in the partition's name alone are one.
    """
    found: dict[tuple[str, str], Counter[str]] = {}
    for partition in work:
        before: Counter[str] = Counter()
        for receipt in partition.receipts:
            own = _count_errors(receipt)
            for text, count in (own - before).items():
                cause = name_cause(text, receipt.label)
                found.setdefault((receipt.stage, cause), Counter())[receipt.label] += count
            before |= own
    rows = [_describe(name, stage, cause, labels) for (stage, cause), labels in found.items()]
    return sorted(rows, key=lambda row: (-row.count, row.stage, row.cause))


def name_cause(text: str, label: str) -> str:
    """An error's text without what names one partition or one sample."""
    return re.sub(r"\b[0-9a-f]{16,64}\b", "...", text.replace(label, "..."))


def choose_mend(stage: str, cause: str) -> str:
    """What to do against a failure of images; RECIPE stands for the recipe's name."""
    if OUT_OF_MEMORY in cause:
        return MEND_MEMORY
    return MEND_IMAGE if stage in ("inversions", "samples") else MEND_STAGE.format(stage=stage)


def _count_errors(receipt: Receipt) -> Counter[str]:
    errors = {name.removeprefix(ERROR): n for name, n in receipt.counts.items() if name.startswith(ERROR)}
    return Counter(errors)


def _describe(name: str, stage: str, cause: str, labels: Counter[str]) -> FailureRow:
    shown = tuple(label for label, _ in sorted(labels.items(), key=lambda item: (-item[1], item[0])))
    mend = choose_mend(stage, cause).replace("RECIPE", name)
    named, more = shown[:NAMED_PARTITIONS], len(shown[NAMED_PARTITIONS:])
    return FailureRow(stage, cause, labels.total(), named, more, mend)

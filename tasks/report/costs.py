"""Sum the costs of a version: seconds by stage and concept, bytes, accelerator time, and slow partitions.

Seconds are the stages' own work from their receipts, without loading models and without waiting.
"""

import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailforge.schemas.receipts import Receipt
from tailforge.tasks.report.changes import is_new
from tailforge.tasks.report.data import PartitionWork
from tailforge.tasks.report.outcomes import ConceptRow

SLOWEST = 8
SLOW = 1.5  # multiple of the stage's median
COMPARABLE = 3  # fewest partitions of a stage for a useful median


@dataclass(frozen=True)
class CostRow:
    """Seconds of one concept's partitions by stage; `concept` is "" for work on several concepts."""

    concept: str
    seconds: Mapping[str, float]
    accepted: int

    @property
    def total(self) -> float:
        """Return the seconds of all stages."""
        return sum(self.seconds.values())

    @property
    def each(self) -> float | None:
        """Return the seconds per accepted image; None without one."""
        return self.total / self.accepted if self.accepted else None


@dataclass(frozen=True)
class SlowRow:
    """A partition that took `times` the median of its stage.

    `cold`: the first partition of its kind in its process, which warmed up.
    """

    label: str
    stage: str
    rows: int
    seconds: float
    times: float
    cold: bool


@dataclass(frozen=True)
class Costs:
    """Costs of a version.

    `new_seconds`: work absent from the previous version, None without one. It leaves out stages that a version's
    record does not name, such as prompts and the selection. `devices`: seconds by accelerator or "cpu", from
    receipts with a device.
    """

    seconds: float
    new_seconds: float | None
    each: float | None
    bytes: Mapping[str, int]
    devices: Mapping[str, float]
    concepts: tuple[CostRow, ...]
    slowest: tuple[SlowRow, ...]

    @property
    def accelerator_seconds(self) -> float:
        """Return the seconds on accelerators."""
        return sum(spent for device, spent in self.devices.items() if device != "cpu")


def count_costs(
    concepts: Sequence[ConceptRow],
    receipts: Sequence[Receipt],
    work: Sequence[PartitionWork],
    known: Mapping[str, Collection[str]] | None,
) -> Costs:
    """Return the costs of a version. `known`: fingerprints of the previous version by stage."""
    accepted = {row.name: row.accepted for row in concepts}
    rows = _split_by_concept(receipts, work, accepted)
    total, kept = sum(row.total for row in rows), sum(accepted.values())

    return Costs(
        seconds=total,
        new_seconds=None if known is None else _sum_new(receipts, known),
        each=total / kept if kept else None,
        bytes=_sum_bytes(receipts),
        devices=_sum_devices(receipts),
        concepts=tuple(rows),
        slowest=tuple(find_slowest(receipts)),
    )


def find_slowest(receipts: Sequence[Receipt]) -> list[SlowRow]:
    """Return at most SLOWEST partitions that took SLOW times their stage's median, by excess seconds.

    Bound and order are our choice. Stages with fewer than COMPARABLE partitions have none.
    """
    rows = []
    for stage in dict.fromkeys(receipt.stage for receipt in receipts):
        own = [receipt for receipt in receipts if receipt.stage == stage]
        middle = statistics.median(map(_seconds, own))
        if len(own) >= COMPARABLE and middle > 0:
            rows += [_compare(receipt, middle) for receipt in own if _seconds(receipt) >= SLOW * middle]
    ordered = sorted(rows, key=lambda row: (row.seconds / row.times - row.seconds, row.stage, row.label))
    return ordered[:SLOWEST]


def _compare(receipt: Receipt, middle: float) -> SlowRow:
    spent, cold = _seconds(receipt), receipt.effort is not None and receipt.effort.cold
    return SlowRow(receipt.label, receipt.stage, receipt.rows, spent, spent / middle, cold)


def _split_by_concept(
    receipts: Sequence[Receipt], work: Sequence[PartitionWork], accepted: Mapping[str, int]
) -> list[CostRow]:
    owner = {receipt.uri: partition.concept for partition in work for receipt in partition.receipts}
    seconds: dict[str, dict[str, float]] = {name: {} for name in accepted}
    for receipt in receipts:
        spent = seconds.setdefault(owner.get(receipt.uri, ""), {})
        spent[receipt.stage] = spent.get(receipt.stage, 0.0) + _seconds(receipt)
    return [CostRow(name, spent, accepted.get(name, 0)) for name, spent in seconds.items() if spent]


def _sum_new(receipts: Sequence[Receipt], known: Mapping[str, Collection[str]]) -> float:
    return sum(_seconds(receipt) for receipt in receipts if is_new(receipt, known))


def _sum_bytes(receipts: Sequence[Receipt]) -> dict[str, int]:
    """Return the artifact bytes per stage, with the files beside the tables."""
    sizes: Counter[str] = Counter()
    for receipt in receipts:
        files: Mapping[str, Any] = receipt.details.get("files", {})
        sizes[receipt.stage] += receipt.bytes + sum(file["bytes"] for file in files.values())
    return dict(sizes)


def _sum_devices(receipts: Sequence[Receipt]) -> dict[str, float]:
    spent: dict[str, float] = {}
    for receipt in receipts:
        if receipt.effort is not None:
            spent[receipt.effort.device] = spent.get(receipt.effort.device, 0.0) + _seconds(receipt)
    return dict(sorted(spent.items()))


def _seconds(receipt: Receipt) -> float:
    return receipt.timings.get("compute", 0.0)

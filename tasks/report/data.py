"""What the report is made of: the tables of its version, the work behind it, and what is known of earlier versions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.report.drift import Comparison
from tailforge.tasks.report.references import Reference


@dataclass(frozen=True)
class PartitionWork:
    """One partition's receipts in the order of its stages."""

    concept: str
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True)
class VersionCounts:
    """One version in the history: images by outcome, and low quartile, median, high quartile, number of each score.

    `seconds` of computing are None where no earlier report told them.
    """

    version: str
    wanted: int
    accepted: int
    surplus: int
    rejected: int
    failed: int
    seconds: float | None
    quartiles: Mapping[str, tuple[float, float, float, int]]

    @property
    def made(self) -> int:
        return self.accepted + self.surplus + self.rejected + self.failed

    @property
    def rate(self) -> float | None:
        return (self.accepted + self.surplus) / self.made if self.made else None


@dataclass(frozen=True)
class Previous:
    """The version before, as far as it is compared field by field.

    `passed`: images that passed every gate and images made, by concept. `models`: digest by role. `libraries`: versions
    by name. `fingerprints`: of the work that went into it, by stage. `added`, `removed`, `changed`: sample ids, removed
    ones with their concept, changed ones with the columns. `pictures`: encoded images of some removed or changed ones.
    """

    version: str
    recipe: Mapping[str, Any]
    models: Mapping[str, str]
    libraries: Mapping[str, Sequence[str]]
    fingerprints: Mapping[str, Collection[str]]
    passed: Mapping[str, tuple[int, int]]
    added: Sequence[str]
    removed: Mapping[str, str]
    changed: Mapping[str, Sequence[str]]
    pictures: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Earlier:
    """What is known of earlier versions, oldest first. `unreadable`: versions that could not be read, and why."""

    versions: Sequence[VersionCounts] = ()
    comparisons: Sequence[Comparison] = ()
    unreadable: Sequence[tuple[str, str]] = ()
    previous: Previous | None = None


@dataclass(frozen=True)
class ReportData:
    """What the page tells. `examples`: sample_id to encoded image and indexed mask (None where there is none).

    Tables: `manifest` is MANIFEST, `rejects` REJECTS and `seeds` SEEDS of schemas/tables.py, or None where no noises
    were found beforehand. `lineage`: label to digest or version. `references`: photographs by concept, in their order.
    `training`: sentences on how the generator was trained, where it tells. `explanations`: sample_id to the page that
    shows how it was mended. `models`: digest by role. `work`: the receipts of single partitions, which `receipts` hold
    too. `pictures`: encoded images of samples that were added or changed. `unread`: prompts of each concept that were
    not drawn, since the generator does not read the concept in them.
    """

    recipe: Recipe
    version: str
    manifest: pa.Table
    rejects: pa.Table
    examples: Mapping[str, tuple[bytes, bytes | None]]
    receipts: Sequence[Receipt]
    lineage: Mapping[str, str]
    references: Mapping[str, Sequence[Reference]] = field(default_factory=dict)
    seeds: pa.Table | None = None
    training: Sequence[str] = ()
    explanations: Mapping[str, bytes] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    work: Sequence[PartitionWork] = ()
    earlier: Earlier = field(default_factory=Earlier)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)

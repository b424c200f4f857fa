"""The input of the report: the tables of a version, the work behind it, and earlier versions."""

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
    """One partition's receipts in the order of its stages, of which the first draws the images."""

    concept: str
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True)
class VersionCounts:
    """One version in the history: images by outcome, and per score low quartile, median, high quartile and number.

    `seconds` of computing are None without an earlier report of them.
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
        """Return the number of all images."""
        return self.accepted + self.surplus + self.rejected + self.failed

    @property
    def rate(self) -> float | None:
        """Return the share of images that passed every gate; None without images."""
        return (self.accepted + self.surplus) / self.made if self.made else None


@dataclass(frozen=True)
class Previous:
    """The previous version, for a comparison field by field.

    `passed`: images that passed every gate and all images, by concept. `models`: digest by role. `libraries`:
    versions by name. `fingerprints`: of its work, by stage. `added`, `removed`, `changed`: sample ids; removed ones
    with their concept, changed ones with their columns. `pictures`: encoded images of some removed or changed
    samples.
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
    """Facts of earlier versions, oldest first. `unreadable`: versions that could not be read, with the reason."""

    versions: Sequence[VersionCounts] = ()
    comparisons: Sequence[Comparison] = ()
    unreadable: Sequence[tuple[str, str]] = ()
    previous: Previous | None = None


@dataclass(frozen=True)
class Decisions:
    """The decisions of a steered build: ALLOCATION of all rounds in order, and the seconds spent by concept.

    `judging_seconds`: those of training the classifiers.
    """

    table: pa.Table
    seconds: Mapping[str, float]
    judging_seconds: float


@dataclass(frozen=True)
class ReportData:
    """The input of the page. `examples`: sample_id to encoded image and indexed mask (None without one).

    Tables: `manifest` is MANIFEST, `rejects` REJECTS and `seeds` SEEDS of schemas/tables.py, or None without seeds.
    `allocation`: of a steered build. `lineage`: label to digest, licence or version. `references`: photographs by
    concept, in order. `training`: sentences on the training of the generator, `adaptation` the ADAPTATIONS of the
    build, None without any. `explanations`: sample_id to the page of its repair. `models`: digest by role. `work`:
    receipts per partition, also in `receipts`. `pictures`: encoded images of added or changed samples. `unread`:
    prompts per concept that were not drawn, because the generator cannot read the concept in them.
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
    allocation: Decisions | None = None
    training: Sequence[str] = ()
    adaptation: pa.Table | None = None
    explanations: Mapping[str, bytes] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    work: Sequence[PartitionWork] = ()
    earlier: Earlier = field(default_factory=Earlier)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)

"""Compute the facts of the report once, for the page and for summary.json."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tailforge.schemas.documents.worth import NOT_EVALUATED
from tailforge.tasks.report.all_samples import count_by_outcome, gather_images
from tailforge.tasks.report.allocation import Allocation, describe_allocation
from tailforge.tasks.report.changes import Changes, compare_builds
from tailforge.tasks.report.costs import Costs, count_costs
from tailforge.tasks.report.data import ReportData, VersionCounts
from tailforge.tasks.report.drift import Drift, describe_quartiles, judge_drift
from tailforge.tasks.report.health import Verdict, judge_build
from tailforge.tasks.report.losses import FailureRow, LossRow, count_failures, count_losses
from tailforge.tasks.report.outcomes import ConceptRow, count_concepts

FORMAT = "tailforge-report/1"


@dataclass(frozen=True)
class Facts:
    """Facts of a version and its differences from earlier ones. `changes` is None without a readable previous version.

    `history`: this version last. `unreadable`: earlier versions that could not be read, with the reason.
    """

    verdict: Verdict
    changes: Changes | None
    concepts: tuple[ConceptRow, ...]
    losses: tuple[LossRow, ...]
    failures: tuple[FailureRow, ...]
    drift: tuple[Drift, ...]
    costs: Costs
    allocation: Allocation | None
    history: tuple[VersionCounts, ...]
    unreadable: tuple[tuple[str, str], ...]


def collect_facts(data: ReportData) -> Facts:
    """Return all facts of the first sections of the page."""
    previous = data.earlier.previous
    concepts = count_concepts(data.recipe, data.manifest, data.rejects)
    losses = count_losses(data.recipe, concepts, data.rejects)
    failures = count_failures(data.recipe.name, data.work)

    drift = judge_drift(data.earlier.comparisons)
    known = previous.fingerprints if previous else None
    costs = count_costs(concepts, data.receipts, data.work, known)
    changes = compare_builds(previous, data.recipe, data.manifest, data.models, data.receipts) if previous else None

    passed = previous.passed if previous else {}
    has_gates, unreadable = bool(data.recipe.quality.gates), data.earlier.unreadable
    verdict = judge_build(concepts, losses, failures, drift, passed, unreadable, data.unread, has_gates=has_gates)

    return Facts(
        verdict=verdict,
        changes=changes,
        concepts=tuple(concepts),
        losses=tuple(losses),
        failures=tuple(failures),
        drift=tuple(drift),
        costs=costs,
        allocation=_describe_allocation(data),
        history=(*data.earlier.versions, _count_version(data, concepts, costs)),
        unreadable=tuple(data.earlier.unreadable),
    )


def _describe_allocation(data: ReportData) -> Allocation | None:
    return None if data.allocation is None else describe_allocation(data.allocation)


def write_summary(data: ReportData, facts: Facts) -> bytes:
    """Return the facts as JSON, with the name of the dataset and the version."""
    names = {"format": FORMAT, "dataset": data.recipe.name, "version": data.version}
    document = {**names, **asdict(facts), "worth": NOT_EVALUATED}
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _count_version(data: ReportData, concepts: Sequence[ConceptRow], costs: Costs) -> VersionCounts:
    images = gather_images(data.manifest, data.rejects)
    return VersionCounts(
        version=data.version,
        wanted=sum(row.wanted for row in concepts),
        **count_by_outcome(images),
        seconds=costs.seconds,
        quartiles=describe_quartiles(images),
    )

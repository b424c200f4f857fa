"""Summarise the search for each concept's noise from the images' provenance; see tasks/methods/seed_select."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tailforge.tasks.report.provenance import origins_by_concept, read_origin

REASONS = {
    "confident": "reached stop",
    "no_better": "no better",
    "iterations": "out of steps",
    "rounds": "out of rounds",
    "not_finite": "not finite",
}


@dataclass(frozen=True)
class SearchRow:
    """One concept: means over its images; None if the engine lacks the figure."""

    concept: str
    images: int
    steps: float | None
    confidence: float | None
    evaluations: float
    nearest: float | None
    reasons: tuple[tuple[str, int], ...]


def count_search(tables: Sequence[pa.Table]) -> list[SearchRow]:
    """Return one row per concept, in the order of the tables (MANIFEST, REJECTS); empty without a search."""
    found = origins_by_concept(tables, "forward_evaluations")
    return [_summarise(concept, origins) for concept, origins in found.items()]


def describe_search(provenance: str | None) -> dict[str, Any]:
    """Return labels and values of one image's search; empty without one."""
    origin = read_origin(provenance)
    if "forward_evaluations" not in origin:
        return {}
    return {
        "Search steps": origin.get("iterations"),
        "Search ended": REASONS.get(str(origin.get("stop_reason"))),
        "Confidence": origin.get("confidence"),
        "Nearest reference": f"#{origin['nearest_reference'] + 1}, cosine {origin['reference_cosine']}"
        if "nearest_reference" in origin
        else None,
        "Network evaluations": f"{origin['forward_evaluations']} forward, {origin['backward_evaluations']} backward",
    }


def _summarise(concept: str, origins: Sequence[Mapping[str, Any]]) -> SearchRow:
    reasons = Counter(REASONS[origin["stop_reason"]] for origin in origins if origin.get("stop_reason") in REASONS)
    return SearchRow(
        concept=concept,
        images=len(origins),
        steps=_mean(origins, "iterations"),
        confidence=_mean(origins, "confidence"),
        evaluations=sum(o["forward_evaluations"] + o["backward_evaluations"] for o in origins) / len(origins),
        nearest=_mean(origins, "reference_cosine"),
        reasons=tuple(reasons.most_common()),
    )


def _mean(origins: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [origin[name] for origin in origins if origin.get(name) is not None]
    return sum(values) / len(values) if values else None

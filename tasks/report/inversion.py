"""Summarise the inversion of the teacher from the images' provenance; see tasks/methods/natural_inversion."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from tailforge.tasks.report.provenance import origins_by_concept, read_origin

REASONS = {"settled": "settled", "steps": "out of steps"}
LOSSES = {
    "cross_entropy": "cross-entropy",
    "statistics": "BatchNorm statistics",
    "variation": "total variation",
    "norm": "norm",
}


@dataclass(frozen=True)
class InversionRow:
    """One concept: shares of its images before and after rounding to 8 bits, and means over its images."""

    concept: str
    images: int
    agreed_before: float
    agreed: float
    probability: float  # of the label, by the teacher, on the saved image
    cross_entropy: float
    statistics: float
    steps: float
    reasons: tuple[tuple[str, int], ...]


def count_inversion(tables: Sequence[pa.Table]) -> list[InversionRow]:
    """Return one row per concept, in the order of the tables (MANIFEST, REJECTS); empty without inverted images."""
    found = origins_by_concept(tables, "teacher_agreement")
    return [_summarise(concept, origins) for concept, origins in found.items()]


def sum_inversion(tables: Sequence[pa.Table]) -> dict[str, Any]:
    """Return one row over all concepts for the card; empty without inverted images."""
    rows = count_inversion(tables)
    images = sum(row.images for row in rows)
    names = [name for name, value in asdict(rows[0]).items() if isinstance(value, float)] if rows else []
    means = {name: round(sum(getattr(row, name) * row.images for row in rows) / images, 6) for name in names}
    return {"images": images, **means} if rows else {}


def describe_inversion(provenance: str | None) -> dict[str, Any]:
    """Return labels and values of one image's inversion; empty for other images."""
    origin = read_origin(provenance)
    if "teacher_agreement" not in origin:
        return {}
    before, after = ("yes" if origin[name] else "no" for name in ("agrees_before_saving", "agrees"))
    losses = ", ".join(f"{title} {origin['losses'][name]:.3g}" for name, title in LOSSES.items())
    scales = origin.get("channel_scales")
    return {
        "Teacher agrees": f"{after} (before rounding to 8 bits: {before})",
        "Losses of its batch": losses,
        "Channel scales": ", ".join(f"{scale:.3g}" for scale in scales) if scales else None,
        "Steps": f"{origin['step']} of {origin['steps']} taken",
        "Inversion ended": REASONS.get(str(origin.get("stop_reason"))),
    }


def _summarise(concept: str, origins: Sequence[Mapping[str, Any]]) -> InversionRow:
    reasons = Counter(REASONS[origin["stop_reason"]] for origin in origins if origin.get("stop_reason") in REASONS)
    return InversionRow(
        concept=concept,
        images=len(origins),
        agreed_before=_mean([origin["agrees_before_saving"] for origin in origins]),
        agreed=_mean([origin["agrees"] for origin in origins]),
        probability=_mean([origin["teacher_agreement"] for origin in origins]),
        cross_entropy=_mean([origin["losses"]["cross_entropy"] for origin in origins]),
        statistics=_mean([origin["losses"]["statistics"] for origin in origins]),
        steps=_mean([origin["steps"] for origin in origins]),
        reasons=tuple(reasons.most_common()),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

"""Summarise the origin of mixed noises: the noises found by a full search, and the screened mixes.

See tasks/methods/seed_select; only its mode `bootstrapped` mixes noises.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tailforge.tasks.report.provenance import read_origin
from tailforge.tasks.report.search import REASONS


@dataclass(frozen=True)
class NoiseRow:
    """Noises found for a concept's prompts; means over them, None if the engine lacks the figure."""

    concept: str
    noises: int
    steps: float | None
    confidence: float | None
    reasons: tuple[tuple[str, int], ...]


def count_noises(seeds: pa.Table | None, tables: Sequence[pa.Table]) -> list[NoiseRow]:
    """Return one row per concept from SEEDS (`prompt`, `record`), in the order of `tables` (MANIFEST, REJECTS).

    Captions of `tables` connect prompts and concepts. A noise whose prompt has no image is left out.
    """
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for seed in seeds.select(["prompt", "record"]).to_pylist() if seeds is not None else []:
        found[seed["prompt"]].append(read_origin(seed["record"]))
    captions: dict[str, dict[str, None]] = defaultdict(dict)
    for table in tables:
        for concept, caption in zip(table["concept"].to_pylist(), table["caption"].to_pylist(), strict=True):
            captions[concept][caption] = None
    records = {
        concept: [each for caption in own for each in found.get(caption, ())] for concept, own in captions.items()
    }
    return [_summarise(concept, own) for concept, own in records.items() if own]


def describe_mix(provenance: str | None) -> dict[str, Any]:
    """Return labels and values of an image from a mix; empty for others. A mix takes no gradient steps."""
    origin = read_origin(provenance)
    if origin.get("mode") != "bootstrapped" or "candidate" not in origin:
        return {}
    share = 100 * (1 - origin["fresh_share"])
    return {
        "Search steps": None,
        "Mix": f"the best of {origin['mixes']} screened, number {origin['candidate'] + 1}",
        "Mixed of": f"{share:.3g} % a noise of the full search, {100 - share:.3g} % the image's own",
    }


def _summarise(concept: str, records: Sequence[Mapping[str, Any]]) -> NoiseRow:
    reasons = Counter(REASONS[each["stop_reason"]] for each in records if each.get("stop_reason") in REASONS)
    return NoiseRow(
        concept=concept,
        noises=len(records),
        steps=_mean(records, "iterations"),
        confidence=_mean(records, "confidence"),
        reasons=tuple(reasons.most_common()),
    )


def _mean(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [each[name] for each in records if each.get(name) is not None]
    return sum(values) / len(values) if values else None

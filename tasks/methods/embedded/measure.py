"""Measure how often a generator draws what its prompt names, by the independent judges' word, with intervals.

Letters of shapes: N pictures, 3 for part, material and surface.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.intervals import wilson_interval
from tailforge.tasks.methods.workshop import HEAD_PARTS, MATERIALS, PARTS, SURFACES, TAIL_PARTS

VERSION = "measure-generator.1"
METRICS = ("success", "material", "surface")


class Request(NamedTuple):
    """A prompt, its labels (positions in PARTS, MATERIALS, SURFACES) and the seed of its picture."""

    prompt: str
    labels: tuple[int, int, int]
    seed: int


def plan_requests(images_per_part: int, seed: int) -> list[Request]:
    """Return as many requests for each part, with materials and surfaces in turn, and seeds that all differ."""
    # Seeds come from one lot, so none repeats.
    pairs = [(material, surface) for material in range(len(MATERIALS)) for surface in range(len(SURFACES))]
    seeds = np.random.default_rng(seed).choice(2**31, size=images_per_part * len(PARTS), replace=False)

    # Part by part; the pairs of material and surface start anew for each.
    requests = []
    for number in range(images_per_part * len(PARTS)):
        part, turn = divmod(number, images_per_part)
        material, surface = pairs[turn % len(pairs)]
        prompt = f"a photo of a {MATERIALS[material]} {PARTS[part]} on a {SURFACES[surface]}"
        requests.append(Request(prompt, (part, material, surface), int(seeds[number])))
    return requests


def tabulate(requests: Sequence[Request], judged_N3: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return one row {arm, metric, value, low, high, unit} per arm and metric, from the judge's labels [N, 3].

    Arms are the parts, `head` and `tail`. `success`: the judge sees the requested part. `material` and `surface`: it
    sees these, whatever the part. Intervals are Wilson's, 95 %.
    """
    # Where the judge sees what was requested.
    asked = np.array([request.labels for request in requests])
    right = asked == judged_N3

    # Which pictures belong to each arm.
    arms = {part: asked[:, 0] == number for number, part in enumerate(PARTS)}
    arms["head"] = np.isin(asked[:, 0], [PARTS.index(part) for part in HEAD_PARTS])
    arms["tail"] = np.isin(asked[:, 0], [PARTS.index(part) for part in TAIL_PARTS])

    # Share of the arm's pictures in which the judge agrees, per metric.
    rows = []
    for arm, chosen in arms.items():
        for column, metric in enumerate(METRICS):
            hits, count = int(right[chosen, column].sum()), int(chosen.sum())
            low, high = wilson_interval(hits, count)
            value = hits / count if count else math.nan
            rows.append({"arm": arm, "metric": metric, "value": value, "low": low, "high": high, "unit": "share"})
    return rows


def count_confusions(requests: Sequence[Request], judged_N3: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Return how many pictures of each requested part the judge took for each part, by its labels [N, 3]."""
    # Requested part, then seen part.
    found: dict[str, dict[str, int]] = {}
    for request, seen in zip(requests, judged_N3[:, 0], strict=True):
        counts = found.setdefault(PARTS[request.labels[0]], {})
        counts[PARTS[seen]] = counts.get(PARTS[seen], 0) + 1
    return found

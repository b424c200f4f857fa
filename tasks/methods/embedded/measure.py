"""How often a generator draws what it was asked for, as the independent judges see it, with intervals."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.workshop import HEAD_PARTS, MATERIALS, PARTS, SURFACES, TAIL_PARTS

VERSION = "measure-generator.1"
NORMAL_95 = 1.959964
METRICS = ("success", "material", "surface")


class Request(NamedTuple):
    """A prompt, what it asks for (positions in PARTS, MATERIALS, SURFACES), and the seed of its picture."""

    prompt: str
    labels: tuple[int, int, int]
    seed: int


def plan_requests(images_per_part: int, seed: int) -> list[Request]:
    """The same number of pictures of each part, with materials and surfaces in turn; seeds all different."""
    pairs = [(material, surface) for material in range(len(MATERIALS)) for surface in range(len(SURFACES))]
    seeds = np.random.default_rng(seed).choice(2**31, size=images_per_part * len(PARTS), replace=False)
    requests = []
    for number in range(images_per_part * len(PARTS)):
        part, turn = divmod(number, images_per_part)
        material, surface = pairs[turn % len(pairs)]
        prompt = f"a photo of a {MATERIALS[material]} {PARTS[part]} on a {SURFACES[surface]}"
        requests.append(Request(prompt, (part, material, surface), int(seeds[number])))
    return requests


def tabulate(requests: Sequence[Request], judged_N3: NDArray[np.int64]) -> list[dict[str, Any]]:
    """A row {arm, metric, value, low, high, unit} for each part, `head` and `tail`, and each of METRICS.

    `success`: the judge sees the part asked for; `material` and `surface` likewise, whatever the part. The intervals
    are Wilson's, 95 %.
    """
    asked = np.array([request.labels for request in requests])
    right = asked == judged_N3
    arms = {part: asked[:, 0] == number for number, part in enumerate(PARTS)}
    arms["head"] = np.isin(asked[:, 0], [PARTS.index(part) for part in HEAD_PARTS])
    arms["tail"] = np.isin(asked[:, 0], [PARTS.index(part) for part in TAIL_PARTS])
    rows = []
    for arm, chosen in arms.items():
        for column, metric in enumerate(METRICS):
            hits, count = int(right[chosen, column].sum()), int(chosen.sum())
            low, high = wilson_interval(hits, count)
            value = hits / count if count else math.nan
            rows.append({"arm": arm, "metric": metric, "value": value, "low": low, "high": high, "unit": "share"})
    return rows


def count_confusions(requests: Sequence[Request], judged_N3: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """For each part asked for: the parts that the judge saw, with counts."""
    found: dict[str, dict[str, int]] = {}
    for request, seen in zip(requests, judged_N3[:, 0], strict=True):
        counts = found.setdefault(PARTS[request.labels[0]], {})
        counts[PARTS[seen]] = counts.get(PARTS[seen], 0) + 1
    return found


def wilson_interval(hits: int, count: int, z: float = NORMAL_95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927); (0, 1) without any trial."""
    if count == 0:
        return 0.0, 1.0
    share = hits / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    # Rounding must not put the share itself outside.
    return max(0.0, min(share, (centre - spread) / scale)), min(1.0, max(share, (centre + spread) / scale))
